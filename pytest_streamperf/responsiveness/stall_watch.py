"""Measure the responsiveness of code that runs inside a `StallWatch`.

The watch records message times, event-loop stalls, garbage-collection pauses, peak memory, and the
share of CPU time of named functions. `result()` returns all measurements. `assert_smooth()` checks
them against limits. A limit on something that was not measured raises `NothingMeasured`.

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
from pytest_streamperf.responsiveness.message import Limits, verdict_on_responsiveness
from pytest_streamperf.responsiveness.stalls import Stall, StallMeter, watching
from pytest_streamperf.streams.token_stream import Stream, TokenStream

__all__ = ["Collections", "Pause", "ResponsivenessResult", "Stall", "StallWatch"]

__tracebackhide__ = True  # pytest shows the user's own frames


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsivenessResult(Verdict):
    """Measurements of one watch: seconds, bytes, and shares from 0 to 1. None means not measured.

    `first` is the time to the first message; `longest_gap` is the longest time between two
    messages. `stalls` and `pauses` list the longest first, at most a thousand. `collections` sums
    up all collections by generation. `peak_memory` is the highest amount of Python memory above the
    amount at the start; `grown` is the growth of the process's resident memory. `cpu_shares` maps
    each named function that ran to its share of the thread's CPU time.
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


class _DeltaTimes:
    """Stream listener that records when each delta was handed out, one list per reading."""

    def __init__(self) -> None:
        self.readings: list[list[float]] = [[]]

    def began(self) -> None:
        self.readings.append([])

    def arrived(self, _delta: object) -> None:
        self.readings[-1].append(time.monotonic())

    def ended(self) -> None:
        pass


class StallWatch:
    """Context manager that measures the responsiveness of the code in its `with` block.

    To measure stalls, enter the watch in code that runs on the event loop. `of` is a stream whose
    deltas count as messages; `message()` records other messages. `cpu_share` names the functions,
    as `"module:function"` or `"module:Class.method"`, whose share of CPU time is measured.
    `peak_memory=True` traces Python's memory. Tracing slows the code down, so such a watch cannot
    check stalls. `assert_smooth` takes the limits of both under the same argument names.

    Message times are in virtual time where a virtual clock is active. Stalls and pauses are always
    in real time.

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
            msg = f"of must be a TokenStream, which records its deltas, not {of!r}"
            raise TypeError(msg)
        self._of = of
        self._shares = Shares(cpu_share)
        self._memory = peak_memory
        self._times: list[float] = []
        self._delta_times: list[_DeltaTimes] = []
        self._began = self._wall = 0.0
        self._stack = ExitStack()
        self._stalls: StallMeter | None = None
        self._pauses = PauseMeter()
        self._peak: int | None = None
        self._grown: int | None = None
        self._done = False

    def message(self) -> None:
        """Record that the code sent or received a message now."""
        self._times.append(time.monotonic())

    def follow(self, stream: Stream) -> None:
        """Count the deltas of a stream as messages.

        The watch measures gaps within one reading of one stream only.
        """
        followed_already = any(
            listener in self._delta_times
            for listener in stream.listeners
            if type(listener) is _DeltaTimes
        )
        if followed_already:
            return
        delta_times = _DeltaTimes()
        self._delta_times.append(delta_times)
        stream.listeners.append(delta_times)
        self._stack.callback(stream.listeners.remove, delta_times)

    def __enter__(self) -> Self:
        if self._done or self._began:
            msg = "a StallWatch can be entered once: create another"
            raise RuntimeError(msg)
        resident = _resident()  # before tracing starts: this may import psutil
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
        for delta_times in self._delta_times:
            delta_times.readings = [[]]  # drop deltas that a fixture read before the watch began
        self._began, self._wall = time.monotonic(), clock.wall()
        return self

    def __exit__(self, *_: object) -> None:
        self._done = True
        self._stack.close()

    @contextmanager
    def on_loop(self) -> Iterator[None]:
        """Watch the event loop that runs in this thread while the context is open.

        Use it for a loop that started after the watch was entered.

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

    # -- results

    def _message_series(self) -> list[list[float]]:
        """Return the message times of each source; a gap lies between two times of one series."""
        readings = (delta_times.readings for delta_times in self._delta_times)
        return [self._times, *chain.from_iterable(readings)]

    def result(self) -> ResponsivenessResult:
        """Return all measurements without checking a limit."""
        return self._result_under(Limits())

    def _result_under(self, limits: Limits) -> ResponsivenessResult:
        """Return all measurements with the verdict under the limits."""
        stalls = self._stalls.stalls if self._stalls else ()
        series = self._message_series()
        gaps = [(after, after - before) for times in series for before, after in pairwise(times)]
        firsts = [times[0] - self._began for times in series if times]
        measured: dict[str, Any] = {
            "messages": sum(map(len, series)),
            "first": min(firsts, default=None),
            "longest_gap": max((gap for _, gap in gaps), default=None),
            "stalls": sorted(self._stalls.stalls, reverse=True) if self._stalls else None,
            "pauses": sorted(self._pauses.pauses, reverse=True),
            "collections": dict(sorted(self._pauses.generations.items())),
            "peak_memory": self._peak,
            "grown": self._grown,
            "cpu_shares": self._shares.taken(),
        }
        verdict, headline, details = verdict_on_responsiveness(measured, limits)
        return ResponsivenessResult(
            stem="responsiveness",
            verdict=verdict,
            headline=headline,
            details=details,
            figures=noted("responsiveness", _figures(measured, limits)),
            where=[
                Place(stall.where, stall.source)
                for stall in (measured["stalls"] or ())[:1]
                if verdict == "exceeded" and stall.where
            ],
            series={
                "gaps": _longest((at - self._began, gap) for at, gap in gaps),
                "stalls": _longest((stall.at - self._wall, stall.seconds) for stall in stalls),
                "pauses": _longest(
                    (pause.at - self._wall, pause.seconds) for pause in self._pauses.pauses
                ),
            },
            **measured,
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
        """Fail unless every measurement is within its limit; return the measurements.

        `max_first` limits the time to the first message, and `max_gap` the time between two
        messages. `max_stall` limits one event-loop stall, and `max_gc_pause` one pause for garbage
        collection. All four are in seconds, or a text such as "50ms". `peak_memory` limits Python's
        peak memory in bytes, or a text such as "64MiB". `cpu_share` maps functions that the watch
        was given to a limit: above 0, up to 1, or a text such as "20%".

        Raises `ResponsivenessExceeded`, `ResponsivenessInconclusive` if the evidence does not
        decide, `NothingMeasured` for a limit on something that was not measured, and `ValueError`
        or `TypeError` for bad arguments.

        >>> watch.assert_smooth(max_gap="200ms", max_stall=0.05, peak_memory="64MiB")
        """
        if not self._done:
            msg = "the watch is still open: call assert_smooth after the with block"
            raise RuntimeError(msg)
        limits = Limits(
            optional_argument("max_first", seconds_of, max_first),
            optional_argument("max_gap", seconds_of, max_gap),
            optional_argument("max_stall", seconds_of, max_stall),
            optional_argument("max_gc_pause", seconds_of, max_gc_pause),
            optional_argument("peak_memory", bytes_of, peak_memory),
            _share_limits({} if cpu_share is None else cpu_share),
        )
        for reason, advice in self._unmeasured(limits):
            raise nothing_measured("responsiveness", reason, advice)
        result = self._result_under(limits)
        conclude(result, ResponsivenessExceeded, ResponsivenessInconclusive, stacklevel=2)
        return result

    def _unmeasured(self, limits: Limits) -> Iterator[tuple[str, str]]:
        """Yield a reason and an advice for each limit on something that was not measured."""
        series = self._message_series()
        if limits.gap is not None and max(map(len, series)) < 2:  # noqa: PLR2004 - a gap has two ends
            yield (
                "there were no two messages to see a gap between",
                "pass of=stream, or call message()",
            )
        if limits.first is not None and not any(series):
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


def _figures(measured: Mapping[str, Any], limits: Limits) -> Figures:
    worst = {
        f"longest {name}": measured[f"{name}s"][0].seconds if measured[f"{name}s"] else None
        for name in ("stall", "pause")
    }
    limits_by_figure = {
        "first": limits.first,
        "longest gap": limits.gap,
        "longest stall": limits.stall,
        "longest pause": limits.pause,
        "peak memory": limits.memory,
    }
    return Figures(
        given={"messages": measured["messages"]},
        shares=measured["cpu_shares"],
        seconds=known(
            {"first": measured["first"], "longest gap": measured["longest_gap"], **worst}
        ),
        bytes=known({"peak memory": measured["peak_memory"], "grown": measured["grown"]}),
        limits=known(limits_by_figure) | {**limits.shares},
        facts={"collections": f"{sum(total.runs for total in measured['collections'].values()):,}"},
    )


def _share_limits(limits: object) -> dict[str, float]:
    if not isinstance(limits, Mapping):
        msg = f"cpu_share must be a mapping, as {{'json:loads': '20%'}}, not {limits!r}"
        raise TypeError(msg)
    return {
        name: argument(f"cpu_share of {name}", share_of, share) for name, share in limits.items()
    }


def _longest(times: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the longest times, at most as many as the report draws, in the order of time."""
    return sorted(nlargest(MOST_DRAWN, times, key=itemgetter(1)))


def _resident() -> int | None:
    """Return the resident memory of the process in bytes; None without psutil."""
    try:
        # psutil is optional: without it, `grown` is None.
        import psutil  # type: ignore[import-untyped] # noqa: PLC0415
    except ModuleNotFoundError:
        return None
    return int(psutil.Process().memory_info().rss)
