"""How often is something updated? The sink of the code under test is counted, beside its stream.

>>> from pytest_streamperf import TokenStream, UpdateCounter
>>> stream = TokenStream(tokens=3)
>>> show = UpdateCounter(of=stream)
>>> for delta in stream:
...     show(delta)
>>> len(show.calls)
3
"""

import asyncio
import copy
import inspect
import itertools
import json
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pytest_streamperf._results.conclusion import conclude, nothing_measured
from pytest_streamperf._results.metrics import Figures, known
from pytest_streamperf._results.units import (
    Bytes,
    Seconds,
    argument,
    bytes_of,
    interval_of,
    optional_argument,
    seconds_of,
)
from pytest_streamperf._results.verdict import Verdict
from pytest_streamperf._runtime.context import loop_running_here, running_loop, virtual_clock_here
from pytest_streamperf.exceptions import ThrottlingExceeded, ThrottlingInconclusive
from pytest_streamperf.streams.messages import ToolCallDelta, text_of
from pytest_streamperf.streams.token_stream import TokenStream, listen
from pytest_streamperf.throttling import message
from pytest_streamperf.throttling.breaches import breaches
from pytest_streamperf.throttling.invariants import Breach, Policy
from pytest_streamperf.throttling.record import (
    Arrival,
    Evidence,
    Kind,
    Mark,
    Record,
    Update,
    read_again,
)

__all__ = ["Call", "ThrottlingResult", "UpdateCounter"]

__tracebackhide__ = True  # pytest shows the user's own frames

_TRAILING = ("timer", "next", "end")
_NO_CLOCK_YET = object()
# Threads of pools wait for work, and are nobody's.
_POOLS = "asyncio_", "ThreadPoolExecutor", "AnyIO", "Trio"


class Call(NamedTuple):
    """One call of a sink, as `unittest.mock` has it."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottlingResult(Verdict):
    """What `assert_throttled` found: every breach, and what could not be checked, by number.

    `updates` is how many there were, `sent` their bytes.
    """

    breaches: Sequence[Breach]
    unchecked: Mapping[int, str]
    updates: int
    sent: int


class UpdateCounter:
    """A sink that records: pass it where the code under test takes a callback, RPC or UI sink.

    Call it, or await `counter.aio(...)` where the sink is async. `of` is the stream the updates are
    made from: what it hands out, and that it ends, is recorded by itself. `key` and `value` say
    what an update is for and what it carries, from its `Call`; `latest` makes the value it should
    carry of all the text so far (the text itself, unless you say so). `stamp` is the time it
    carries, `parses` a mock that counts costly work, `wraps` the real sink. `slow` is how long the
    sink takes: seconds, or a text such as "50ms".

    Raises `TypeError` and `ValueError` for arguments out of range.

    >>> counter = UpdateCounter(key=lambda call: call.args[0])
    >>> counter("call_0", '{"pa')
    >>> counter.calls[0].args
    ('call_0', '{"pa')
    """

    def __init__(  # noqa: PLR0913 - one argument for each kind of evidence
        self,
        *,
        of: TokenStream | None = None,
        key: Callable[[Call], Hashable] | None = None,
        value: Callable[[Call], Any] | None = None,
        latest: Callable[[str], Any] | None = None,
        stamp: Callable[[Call], float] | None = None,
        parses: Any = None,
        wraps: Callable[..., Any] | None = None,
        slow: Seconds = 0.0,
    ) -> None:
        if parses is not None and not hasattr(parses, "call_count"):
            msg = (
                f"parses must count calls, as unittest.mock.Mock(wraps=parse) does, not {parses!r}"
            )
            raise TypeError(msg)
        self.calls: list[Call] = []
        self._of = of
        self._key, self._value, self._stamp = key, value, stamp
        self._latest = latest or str
        self._parses = parses
        self._wraps, self._slow = wraps, argument("slow", seconds_of, slow)
        self._order = itertools.count()
        self._begun: list[tuple[float, int]] = []
        self._ended: list[float] = []
        self._values: list[Any] = []
        self._arrivals: list[Arrival] = []
        self._pieces: dict[tuple[Hashable, int], list[str]] = {}
        self._lengths: dict[tuple[Hashable, int], int] = {}
        self._marks: list[Mark] = []
        self._keys: dict[tuple[int, int], Hashable] = {}
        self._stamped: list[float] = []
        self._bad: Exception | None = None
        self._over = self.asserted = False
        self._attempt = 0
        self._running: set[str] | None = None
        self._clock: Any = _NO_CLOCK_YET
        listen(of, self)

    # -- what the code under test calls

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Take an update."""
        number = self._begin(args, kwargs)
        try:
            if self._slow:
                time.sleep(self._slow)
            return self._wraps(*args, **kwargs) if self._wraps is not None else None
        finally:
            self._ended[number] = self._now()

    async def aio(self, *args: Any, **kwargs: Any) -> Any:
        """Take an update, where the sink is async."""
        number = self._begin(args, kwargs)
        try:
            if self._slow:
                loop = loop_running_here()
                await loop.sleep_until(loop.time() + self._slow)
            result = self._wraps(*args, **kwargs) if self._wraps is not None else None
            return await result if inspect.isawaitable(result) else result
        finally:
            self._ended[number] = self._now()

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        now = self._now()
        self._begun.append((now, next(self._order)))
        self._ended.append(now)
        call = Call(args, kwargs)
        self.calls.append(call)
        if self._stamp is not None:
            self._stamped.append(time.time())
        if self._value is not None:
            self._values.append(None)
            try:
                value = self._value(call)
                # What is changed later on must not change what was sent.
                self._values[-1] = value if isinstance(value, str) else copy.deepcopy(value)
            except Exception as error:  # noqa: BLE001 - the test's affair, not the code's under test
                self._bad = self._bad or error
        return len(self.calls) - 1

    # -- what the stream says

    def arrived(self, delta: Any) -> None:
        """A delta is handed out."""
        if self._over:
            raise read_again()
        key, text = None, text_of(delta)
        if isinstance(delta, ToolCallDelta):
            # Some servers send the id with the first delta only, and some none.
            number = (delta.index, self._attempt)
            key = self._keys.setdefault(number, delta.id or delta.index)
        kept = key, self._attempt
        self._pieces.setdefault(kept, []).append(text)
        length = self._lengths[kept] = self._lengths.get(kept, 0) + len(text)
        self._arrivals.append(Arrival(self._now(), next(self._order), key, length))

    def ended(self) -> None:
        """The stream has no more."""
        self._over = True
        self._mark("source_end")

    # -- what the test says

    def end(self) -> None:
        """Note that the code under test says that it is the end: what is pending must be out."""
        self._mark("end")

    def cancel(self) -> None:
        """Note that the stream is cancelled."""
        self._mark("cancel")

    def retry(self) -> None:
        """Note that all begins again: what comes now is another attempt."""
        self._mark("retry")
        self._attempt += 1
        self._over = False

    def error(self) -> None:
        """Note that the stream failed."""
        self._mark("error")

    def _mark(self, kind: Kind) -> None:
        self._marks.append(Mark(self._now(), next(self._order), kind))

    # -- what came of it

    @property
    def record(self) -> Record:
        """Everything so far, as plain values.

        Raises what `value` raised, and `TypeError` for a key that cannot be one.
        """
        if self._bad is not None:
            raise self._bad
        given: dict[Evidence, object] = {
            "of": self._of,
            "key": self._key,
            "value": self._value,
            "parses": self._parses,
            "stamp": self._stamp,
        }
        return Record(
            arrivals=self._arrivals,
            updates=[self._update(number, call) for number, call in enumerate(self.calls)],
            marks=self._marks,
            texts={kept: "".join(pieces) for kept, pieces in self._pieces.items()},
            parses=self._parses.call_count if self._parses is not None else None,
            left=sorted(_running() - (self._running or set())),
            until=self._until(),
            evidence=frozenset(name for name, each in given.items() if each is not None),
            latest=self._latest,
        )

    def _now(self) -> float:
        if self._clock is _NO_CLOCK_YET:
            self._clock = virtual_clock_here()
            self._running = _running()
        return time.monotonic() if self._clock is None else self._clock.monotonic

    def _until(self) -> float:
        """Now; or when the last thing happened, if that was by another clock."""
        if virtual_clock_here() is self._clock:
            return time.monotonic()
        arrived, marked = self._arrivals[-1:], self._marks[-1:]
        times = (*self._ended[-1:], *(a.time for a in arrived), *(m.time for m in marked))
        return max(times, default=0.0)

    def _update(self, number: int, call: Call) -> Update:
        value = self._values[number] if self._value is not None else None
        key = self._key(call) if self._key is not None else None
        if not isinstance(key, Hashable):
            msg = f"key must make something hashable of a call, an id for example, not {key!r}"
            raise TypeError(msg)
        began, order = self._begun[number]
        stamp = self._stamp(call) if self._stamp is not None else None
        if stamp is not None and abs(stamp - self._stamped[number]) < abs(stamp - began):
            stamp += began - self._stamped[number]  # it is `time.time`'s
        size = _size(call.args if self._value is None else value)
        return Update(began, order, self._ended[number], key, value, stamp, size)

    def assert_throttled(  # noqa: PLR0913 - one argument for each part of the policy
        self,
        *,
        every: Seconds,
        trailing: Literal["timer", "next", "end"] = "timer",
        on_cancel: Literal["drop", "flush"] = "drop",
        on_error: Literal["drop", "flush"] = "flush",
        on_retry: Literal["clear", "keep"] = "clear",
        max_total_bytes: Bytes | None = None,
        max_updates: int | None = None,
        tolerance: Seconds = 1e-6,
    ) -> ThrottlingResult:
        """Fail unless the updates kept to the contract of a throttle, and return what was found.

        At most one update per key in the time `every`, the first at once, each with the latest
        value, and everything out before the end. `every` is in seconds, or a text such as "100ms".
        `trailing` says what sends a value that waits when the time has come: a "timer", the "next"
        delta, or that and the "end" of the stream. `on_cancel`, `on_error` and `on_retry` say what
        becomes of it then. `max_total_bytes` limits all that is sent, in bytes or as "10kB", and
        `max_updates` the number of updates. `tolerance`, in seconds or as "5ms", is for real
        time.

        Raises `ThrottlingExceeded`, `ThrottlingInconclusive` where evidence is missing that the
        counter was not given, `NothingMeasured` if there was no update, and `ValueError` or
        `TypeError` for bad arguments.

        >>> def test_updates(update_counter, token_stream):
        ...     stream = token_stream(tokens=500, every=0.02)
        ...     show = update_counter(of=stream, value=lambda call: call.args[0])
        ...     render(stream, show)
        ...     show.assert_throttled(every=0.1)
        """
        self.asserted = True
        interval = argument("every", interval_of, every)
        leeway = argument("tolerance", seconds_of, tolerance)
        most = optional_argument("max_total_bytes", bytes_of, max_total_bytes)
        policy = Policy(interval, trailing, on_cancel, on_error, on_retry, leeway)
        _check(policy)
        if not self.calls:
            advice = "pass the counter to the code under test as its callback"
            raise nothing_measured("throttling", "the update counter was never called", advice)
        throttling = judged(self.record, policy, most, max_updates)
        conclude(throttling, ThrottlingExceeded, ThrottlingInconclusive, stacklevel=2)
        return throttling


def judged(
    record: Record,
    policy: Policy,
    max_total_bytes: int | None = None,
    max_updates: int | None = None,
) -> ThrottlingResult:
    """Hold a record against a policy, and say what came of it."""
    sent = sum(update.size for update in record.updates)
    findings = message.Findings(
        record,
        policy,
        breaches(record, policy),
        message.over_budget(record, sent, max_total_bytes, max_updates),
        message.unchecked(record),
    )
    return ThrottlingResult(
        stem="throttling",
        verdict=findings.verdict,
        headline=message.headline(findings),
        details=message.details(findings),
        figures=Figures(
            given={"deltas": len(record.arrivals), "every": policy.every},
            counts=known(
                {"updates": len(record.updates), "bytes sent": sent, "parses": record.parses}
            ),
            limits=known({"bytes sent": max_total_bytes, "updates": max_updates}),
        ),
        series=message.series(record),
        breaches=findings.breaches,
        unchecked={number: each.says for number, each in findings.unchecked.items()},
        updates=len(record.updates),
        sent=sent,
    )


def _check(policy: Policy) -> None:
    for name, chosen, allowed in (
        ("trailing", policy.trailing, _TRAILING),
        ("on_cancel", policy.on_cancel, ("drop", "flush")),
        ("on_error", policy.on_error, ("drop", "flush")),
        ("on_retry", policy.on_retry, ("clear", "keep")),
    ):
        if chosen not in allowed:
            msg = f"{name} must be one of {', '.join(map(repr, allowed))}, not {chosen!r}"
            raise ValueError(msg)


def _size(value: Any) -> int:
    """Bytes that a value takes on its way: as text, or as JSON."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes | bytearray):
        return len(value)
    try:
        return len(json.dumps(value, default=str))
    except (TypeError, ValueError):
        return len(repr(value))


def _running() -> set[str]:
    """What runs here: tasks and timers of the event loop, and threads, but for the current ones."""
    here = threading.current_thread()
    found = {
        f"thread {each.name}"
        for each in threading.enumerate()
        if each is not here and not each.name.startswith(_POOLS)
    }
    if running_loop() == "asyncio":
        loop, me = asyncio.get_running_loop(), asyncio.current_task()
        found |= {f"task {each.get_name()}" for each in asyncio.all_tasks() if each is not me}
        timers = getattr(loop, "timers", list)
        now = loop.time()
        found |= {f"a timer due in {timer.when() - now:.3f} s" for timer in timers()}
    return found
