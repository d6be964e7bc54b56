"""How smoothly does it run? Gaps, stalls, garbage collection, memory, and shares of CPU time.

>>> from pytest_streamperf import StallWatch, TokenStream
>>> stream = TokenStream(tokens=3)
>>> with StallWatch(of=stream) as watch:
...     text = "".join(stream)
>>> watch.result().messages
3
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from heapq import nlargest
from itertools import chain, pairwise
from operator import itemgetter
from typing import Any, Self

from pytest_streamperf._results.conclusion import conclude, nothing_measured
from pytest_streamperf._results.metrics import MOST_DRAWN, Figures, Place, known
from pytest_streamperf._results.units import (
    Bytes,
    Seconds,
    Share,
    argument,
    bytes_of,
    optional_argument,
    seconds_of,
    share_of,
)
from pytest_streamperf._results.verdict import Verdict
from pytest_streamperf._runtime import clock, instrumentation
from pytest_streamperf._runtime.interference import noted
from pytest_streamperf.exceptions import ResponsivenessExceeded, ResponsivenessInconclusive
from pytest_streamperf.responsiveness.cpu_shares import Shares
from pytest_streamperf.responsiveness.gc_pauses import Collections, Pause, PauseMeter
from pytest_streamperf.responsiveness.message import Limits, judged
from pytest_streamperf.responsiveness.stalls import Stall, StallMeter, watching
from pytest_streamperf.streams.token_stream import Stream, TokenStream

__all__ = ["Collections", "Pause", "ResponsivenessResult", "Stall", "StallWatch"]

__tracebackhide__ = True  # pytest shows the user's own frames


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsivenessResult(Verdict):
    """What a watch saw; seconds, bytes, and shares from 0 to 1; None for what was not measured.

    `first` is the time to the first message, `longest_gap` that between two; `stalls` and `pauses`
    are longest first, a thousand at most; `collections` are all of these by generation.
    `peak_memory` is the most Python memory on top of what was there, `grown` the growth of the
    process. `cpu_shares` is the part of the thread's CPU time that was spent in each function that
    was named, and of which anything ran.
    """

    messages: int
    first: float | None
    longest_gap: float | None
    stalls: Sequence[Stall] | None
    pauses: Sequence[Pause]
    collections: Mapping[int, Collections]
    peak_memory: int | None
    grown: int | None
    cpu_shares: Mapping[str, float]


class _Followed:
    """When the deltas of a stream were handed out, each time that it was read."""

    def __init__(self) -> None:
        self.readings: list[list[float]] = [[]]

    def began(self) -> None:
        self.readings.append([])

    def arrived(self, _delta: object) -> None:
        self.readings[-1].append(time.monotonic())

    def ended(self) -> None:
        pass


class StallWatch:
    """Watches what runs while it is entered: on an event loop, inside the code that runs there.

    `of` is a stream whose deltas are messages; `message()` notes others. `cpu_share` names
    functions, `"module:function"` or `"module:Class.method"`, whose share of CPU time is taken.
    `peak_memory=True` traces Python's memory, which slows code down: stalls are not to be measured
    meanwhile. The limits of both are arguments of the same names of `assert_smooth`.

    Messages go by virtual time, where that is active; stalls and pauses are real.

    >>> async def test_smooth(stall_watch, token_stream):
    ...     with stall_watch(of=token_stream(tokens=100)) as watch:
    ...         await respond(stream)
    ...     watch.assert_smooth(max_stall=0.05)
    """

    def __init__(
        self,
        *,
        of: TokenStream | None = None,
        cpu_share: Iterable[str] = (),
        peak_memory: bool = False,
    ) -> None:
        if of is not None and not isinstance(of, TokenStream):
            msg = f"of must be a TokenStream, which knows what it hands out, not {of!r}"
            raise TypeError(msg)
        self._of = of
        self._shares = Shares(cpu_share)
        self._memory = peak_memory
        self._times: list[float] = []
        self._followed: list[_Followed] = []
        self._began = self._wall = 0.0
        self._stack = ExitStack()
        self._stalls: StallMeter | None = None
        self._pauses = PauseMeter()
        self._peak: int | None = None
        self._grown: int | None = None
        self._done = False

    def message(self) -> None:
        """Note that a message went out, or came in."""
        self._times.append(time.monotonic())

    def follow(self, stream: Stream) -> None:
        """Take the deltas of a stream for messages; no gap is between two, or two readings."""
        if any(each in self._followed for each in stream.listeners if type(each) is _Followed):
            return
        followed = _Followed()
        self._followed.append(followed)
        stream.listeners.append(followed)
        self._stack.callback(stream.listeners.remove, followed)

    def __enter__(self) -> Self:
        if self._done or self._began:
            msg = "a StallWatch watches once: make another"
            raise RuntimeError(msg)
        resident = _resident()  # which may load psutil: not while memory is traced
        with ExitStack() as stack:
            if self._memory:
                stack.enter_context(instrumentation.allocations())
                stack.callback(self._take_memory, stack.enter_context(instrumentation.peak()))
            stack.callback(self._take_growth, resident)
            stack.enter_context(self._pauses.watching())
            stack.enter_context(self.on_loop())
            stack.enter_context(self._shares.timing())
            self._stack.push(stack.pop_all())
        if self._of is not None:
            self.follow(self._of)
        self._times = []
        for each in self._followed:  # what was read before, by a fixture, is none of it
            each.readings = [[]]
        self._began, self._wall = time.monotonic(), clock.wall()
        return self

    def __exit__(self, *_: object) -> None:
        self._done = True
        self._stack.close()

    @contextmanager
    def on_loop(self) -> Iterator[None]:
        """Watch the event loop that runs here, while open: one that began later than the watch.

        >>> with StallWatch() as watch:
        ...     asyncio.run(respond(watch))  # in which `with watch.on_loop(): ...`
        """
        meter = StallMeter(self._stalls)
        with watching(meter) as is_there:
            if is_there:
                self._stalls = meter
            yield

    def _take_memory(self, peak: instrumentation.Peak) -> None:
        self._peak = peak.above

    def _take_growth(self, before: int | None) -> None:
        after = _resident()
        self._grown = after - before if after is not None and before is not None else None

    # -- what came of it

    def _lines(self) -> list[list[float]]:
        """When messages came; a gap is between two of the same line."""
        return [self._times, *chain.from_iterable(each.readings for each in self._followed)]

    def result(self) -> ResponsivenessResult:
        """Tell what was seen, without a limit on any of it."""
        return self._judged(Limits())

    def _judged(self, limits: Limits) -> ResponsivenessResult:
        stalls = self._stalls.stalls if self._stalls else ()
        lines = self._lines()
        gaps = [(after, after - before) for line in lines for before, after in pairwise(line)]
        firsts = [line[0] - self._began for line in lines if line]
        found: dict[str, Any] = {
            "messages": sum(map(len, lines)),
            "first": min(firsts, default=None),
            "longest_gap": max((gap for _, gap in gaps), default=None),
            "stalls": sorted(self._stalls.stalls, reverse=True) if self._stalls else None,
            "pauses": sorted(self._pauses.pauses, reverse=True),
            "collections": dict(sorted(self._pauses.generations.items())),
            "peak_memory": self._peak,
            "grown": self._grown,
            "cpu_shares": self._shares.taken(),
        }
        verdict, headline, details = judged(found, limits)
        return ResponsivenessResult(
            stem="responsiveness",
            verdict=verdict,
            headline=headline,
            details=details,
            figures=noted("responsiveness", _figures(found, limits)),
            where=[
                Place(stall.where, stall.source)
                for stall in (found["stalls"] or ())[:1]
                if verdict == "exceeded" and stall.where
            ],
            series={
                "gaps": _longest((at - self._began, gap) for at, gap in gaps),
                "stalls": _longest((each.at - self._wall, each.seconds) for each in stalls),
                "pauses": _longest(
                    (each.at - self._wall, each.seconds) for each in self._pauses.pauses
                ),
            },
            **found,
        )

    def assert_smooth(  # noqa: PLR0913 - one argument for each thing that can stutter
        self,
        *,
        max_first: Seconds | None = None,
        max_gap: Seconds | None = None,
        max_stall: Seconds | None = None,
        max_gc_pause: Seconds | None = None,
        peak_memory: Bytes | None = None,
        cpu_share: Mapping[str, Share] | None = None,
    ) -> ResponsivenessResult:
        """Fail unless it ran smoothly; return what was seen.

        The times to the first message, between two, of a stall of the event loop, and of a pause
        for garbage collection are in seconds, or a text such as "50ms". Python's memory at its peak
        is in bytes, or a text such as "64MiB". `cpu_share` has the share of CPU time of functions
        that the watch was given: above 0, up to 1, or a text such as "20%".

        Raises `ResponsivenessExceeded`, `ResponsivenessInconclusive` where something could not be
        told, `NothingMeasured` where it was not measured, and `ValueError` or `TypeError` for bad
        arguments.

        >>> watch.assert_smooth(max_gap="200ms", max_stall=0.05, peak_memory="64MiB")
        """
        if not self._done:
            msg = "assert_smooth is for when the watch is over: call it after the with block"
            raise RuntimeError(msg)
        limits = Limits(
            optional_argument("max_first", seconds_of, max_first),
            optional_argument("max_gap", seconds_of, max_gap),
            optional_argument("max_stall", seconds_of, max_stall),
            optional_argument("max_gc_pause", seconds_of, max_gc_pause),
            optional_argument("peak_memory", bytes_of, peak_memory),
            _shares({} if cpu_share is None else cpu_share),
        )
        for what, advice in self._unmeasured(limits):
            raise nothing_measured("responsiveness", what, advice)
        found = self._judged(limits)
        conclude(found, ResponsivenessExceeded, ResponsivenessInconclusive, stacklevel=2)
        return found

    def _unmeasured(self, limits: Limits) -> Iterator[tuple[str, str]]:
        lines = self._lines()
        if limits.gap is not None and max(map(len, lines)) < 2:  # noqa: PLR2004 - a gap has two ends
            yield (
                "there were no two messages to see a gap between",
                "pass of=stream, or call message()",
            )
        if limits.first is not None and not any(lines):
            yield "there was no message", "pass of=stream, or call message()"
        if limits.stall is not None and self._stalls is None:
            yield "no event loop was running when the watch began", "enter it inside the async code"
        if limits.memory is not None and not self._memory:
            yield "memory was not traced", "make the watch with peak_memory=True"
        elif limits.memory is not None and self._peak is None:
            yield "memory was no longer traced at the end", "stop no tracemalloc that was on before"
        if limits.stall is not None and self._memory:
            yield "stalls were not measured while memory was traced", "watch them one by one"
        for name in limits.shares:
            if name not in self._shares:
                yield f"the CPU time of {name} was not taken", f"pass cpu_share=[{name!r}]"
            elif name not in self._shares.taken():
                yield f"{name} never ran", "name what is called here, in this thread"


def _figures(found: Mapping[str, Any], limits: Limits) -> Figures:
    worst = {
        f"longest {name}": found[f"{name}s"][0].seconds if found[f"{name}s"] else None
        for name in ("stall", "pause")
    }
    held = {
        "first": limits.first,
        "longest gap": limits.gap,
        "longest stall": limits.stall,
        "longest pause": limits.pause,
        "peak memory": limits.memory,
    }
    return Figures(
        given={"messages": found["messages"]},
        shares=found["cpu_shares"],
        seconds=known({"first": found["first"], "longest gap": found["longest_gap"], **worst}),
        bytes=known({"peak memory": found["peak_memory"], "grown": found["grown"]}),
        limits=known(held) | {**limits.shares},
        facts={"collections": f"{sum(each.runs for each in found['collections'].values()):,}"},
    )


def _shares(limits: object) -> dict[str, float]:
    if not isinstance(limits, Mapping):
        msg = f"cpu_share must be a mapping, as {{'json:loads': '20%'}}, not {limits!r}"
        raise TypeError(msg)
    return {
        name: argument(f"cpu_share of {name}", share_of, share) for name, share in limits.items()
    }


def _longest(times: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The longest of many, as many as are drawn, in the order of time."""
    return sorted(nlargest(MOST_DRAWN, times, key=itemgetter(1)))


def _resident() -> int | None:
    """Bytes of memory of the process."""
    try:
        # Where it is not installed, the rest works.
        import psutil  # type: ignore[import-untyped] # noqa: PLC0415
    except ModuleNotFoundError:
        return None
    return int(psutil.Process().memory_info().rss)
