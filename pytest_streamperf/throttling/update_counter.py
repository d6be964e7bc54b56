"""Count the updates that code makes from a stream, and check them against a throttle's contract.

`UpdateCounter` takes the place of the sink: a callback, an RPC or a UI sink. It records the call
times and values, and the deltas of the stream given as `of`. The test adds marks for the end, a
cancel, a retry and an error. `UpdateCounter.record` returns all of this as plain values.
`assert_throttled` evaluates the record and raises where an invariant of the policy is broken.

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
from pytest_streamperf.throttling.invariants import Breach, ThrottlePolicy
from pytest_streamperf.throttling.record import (
    Arrival,
    EvidenceKind,
    Kind,
    Mark,
    ThrottleRecord,
    Update,
    read_again,
)

__all__ = ["Call", "ThrottlingResult", "UpdateCounter"]

__tracebackhide__ = True  # pytest shows the user's own frames

_TRAILING_CHOICES = ("timer", "next", "end")
_NO_CLOCK_YET = object()
# Pools keep idle threads alive between tasks, so the code under test did not leak these.
_POOL_THREAD_PREFIXES = "asyncio_", "ThreadPoolExecutor", "AnyIO", "Trio"


class Call(NamedTuple):
    """The arguments of one call of the sink, named as in `unittest.mock`."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottlingResult(Verdict):
    """The result of `assert_throttled`.

    `breaches` lists the broken invariants. `unchecked` maps the number of each invariant that was
    not checked to the reason. `updates` counts the updates, and `sent` counts their bytes.
    """

    breaches: Sequence[Breach]
    unchecked: Mapping[int, str]
    updates: int
    sent: int


class UpdateCounter:
    """Records updates: pass it where the code under test takes a callback, an RPC or a UI sink.

    Call the counter, or await `counter.aio(...)` where the sink is async. `of` is the stream that
    the updates are made from: the counter records its deltas and its end. `key` and `value` return
    the key and the value of an update from its `Call`. `latest` returns the value that an update
    should carry, from all the text so far; the default is the text itself. `stamp` returns the
    timestamp in an update from its `Call`. `parses` is a mock that counts costly work. `wraps` is
    the real sink. `slow` is how long each call takes: seconds, or a text such as "50ms".

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
        self._begin_times: list[tuple[float, int]] = []
        self._end_times: list[float] = []
        self._values: list[Any] = []
        self._arrivals: list[Arrival] = []
        self._texts: dict[tuple[Hashable, int], list[str]] = {}
        self._lengths: dict[tuple[Hashable, int], int] = {}
        self._marks: list[Mark] = []
        self._keys: dict[tuple[int, int], Hashable] = {}
        self._wall_times: list[float] = []
        self._value_error: Exception | None = None
        self._stream_ended = self.asserted = False
        self._attempt = 0
        self._initially_running: set[str] | None = None
        self._clock: Any = _NO_CLOCK_YET
        listen(of, self)

    # -- calls by the code under test

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Record an update, and return what the wrapped sink returns."""
        number = self._begin(args, kwargs)
        try:
            if self._slow:
                time.sleep(self._slow)
            return self._wraps(*args, **kwargs) if self._wraps is not None else None
        finally:
            self._end_times[number] = self._now()

    async def aio(self, *args: Any, **kwargs: Any) -> Any:
        """Record an update of an async sink, and return what the wrapped sink returns."""
        number = self._begin(args, kwargs)
        try:
            if self._slow:
                loop = loop_running_here()
                await loop.sleep_until(loop.time() + self._slow)
            result = self._wraps(*args, **kwargs) if self._wraps is not None else None
            return await result if inspect.isawaitable(result) else result
        finally:
            self._end_times[number] = self._now()

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        now = self._now()
        self._begin_times.append((now, next(self._order)))
        self._end_times.append(now)
        call = Call(args, kwargs)
        self.calls.append(call)
        if self._stamp is not None:
            self._wall_times.append(time.time())
        if self._value is not None:
            self._values.append(None)
            try:
                value = self._value(call)
                # Copy the value: the code under test may change the object after it sent it.
                self._values[-1] = value if isinstance(value, str) else copy.deepcopy(value)
            except Exception as error:  # noqa: BLE001 - `record` raises it in the test
                self._value_error = self._value_error or error
        return len(self.calls) - 1

    # -- calls by the stream

    def arrived(self, delta: Any) -> None:
        """Record a delta that the stream hands out."""
        if self._stream_ended:
            raise read_again()
        key, text = None, text_of(delta)
        if isinstance(delta, ToolCallDelta):
            # Some servers send the id with the first delta only, others send no id.
            number = (delta.index, self._attempt)
            key = self._keys.setdefault(number, delta.id or delta.index)
        key_attempt = key, self._attempt
        self._texts.setdefault(key_attempt, []).append(text)
        length = self._lengths[key_attempt] = self._lengths.get(key_attempt, 0) + len(text)
        self._arrivals.append(Arrival(self._now(), next(self._order), key, length))

    def ended(self) -> None:
        """Record that the stream has no more deltas."""
        self._stream_ended = True
        self._mark("source_end")

    # -- calls by the test

    def end(self) -> None:
        """Record that the code under test signals the end: pending updates must be out by now."""
        self._mark("end")

    def cancel(self) -> None:
        """Record that the stream is cancelled."""
        self._mark("cancel")

    def retry(self) -> None:
        """Record a retry: deltas and updates from now on belong to the next attempt."""
        self._mark("retry")
        self._attempt += 1
        self._stream_ended = False

    def error(self) -> None:
        """Record that the stream failed."""
        self._mark("error")

    def _mark(self, kind: Kind) -> None:
        self._marks.append(Mark(self._now(), next(self._order), kind))

    # -- results

    @property
    def record(self) -> ThrottleRecord:
        """The deltas, updates and marks so far, as plain values.

        Raises the first error that `value` raised, and `TypeError` for a key that is not hashable.
        """
        if self._value_error is not None:
            raise self._value_error
        given: dict[EvidenceKind, object] = {
            "of": self._of,
            "key": self._key,
            "value": self._value,
            "parses": self._parses,
            "stamp": self._stamp,
        }
        return ThrottleRecord(
            arrivals=self._arrivals,
            updates=[self._update(number, call) for number, call in enumerate(self.calls)],
            marks=self._marks,
            texts={key_attempt: "".join(texts) for key_attempt, texts in self._texts.items()},
            parses=self._parses.call_count if self._parses is not None else None,
            left=sorted(_running_names() - (self._initially_running or set())),
            until=self._until(),
            evidence=frozenset(name for name, source in given.items() if source is not None),
            latest=self._latest,
        )

    def _now(self) -> float:
        if self._clock is _NO_CLOCK_YET:
            self._clock = virtual_clock_here()
            self._initially_running = _running_names()
        return time.monotonic() if self._clock is None else self._clock.monotonic

    def _until(self) -> float:
        """Return the time now, or the last recorded time if another clock recorded it."""
        if virtual_clock_here() is self._clock:
            return time.monotonic()
        arrived, marked = self._arrivals[-1:], self._marks[-1:]
        times = (*self._end_times[-1:], *(a.time for a in arrived), *(m.time for m in marked))
        return max(times, default=0.0)

    def _update(self, number: int, call: Call) -> Update:
        value = self._values[number] if self._value is not None else None
        key = self._key(call) if self._key is not None else None
        if not isinstance(key, Hashable):
            msg = f"key must make something hashable of a call, an id for example, not {key!r}"
            raise TypeError(msg)
        began, order = self._begin_times[number]
        stamp = self._stamp(call) if self._stamp is not None else None
        if stamp is not None and abs(stamp - self._wall_times[number]) < abs(stamp - began):
            stamp += began - self._wall_times[number]  # the stamp is from `time.time`
        size = _size(call.args if self._value is None else value)
        return Update(began, order, self._end_times[number], key, value, stamp, size)

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
        """Fail if the updates break the contract of a throttle; otherwise return the result.

        A throttle sends at most one update per key in the time `every`. It sends the first at once,
        each with the latest value, and everything before the end. `every` is in seconds, or a text
        such as "100ms". `trailing` names the trigger that sends a pending value after the interval:
        a "timer", the "next" delta, or the next delta or the "end" of the stream. `on_cancel`,
        `on_error` and `on_retry` decide what happens to a pending value then. `max_total_bytes`
        limits the bytes of all updates, as a number or as "10kB". `max_updates` limits their
        number. `tolerance`, in seconds or as "5ms", allows for jitter in real time.

        Raises `ThrottlingExceeded` for a breach, and `ThrottlingInconclusive` where the counter was
        not given the evidence for an invariant. Raises `NothingMeasured` if there was no update,
        and `ValueError` or `TypeError` for bad arguments.

        >>> def test_updates(update_counter, token_stream):
        ...     stream = token_stream(tokens=500, every=0.02)
        ...     show = update_counter(of=stream, value=lambda call: call.args[0])
        ...     render(stream, show)
        ...     show.assert_throttled(every=0.1)
        """
        self.asserted = True
        interval = argument("every", interval_of, every)
        tolerance_seconds = argument("tolerance", seconds_of, tolerance)
        byte_limit = optional_argument("max_total_bytes", bytes_of, max_total_bytes)
        policy = ThrottlePolicy(
            interval, trailing, on_cancel, on_error, on_retry, tolerance_seconds
        )
        _check_choices(policy)
        if not self.calls:
            advice = "pass the counter to the code under test as its callback"
            raise nothing_measured("throttling", "the update counter was never called", advice)
        result = check_updates(self.record, policy, byte_limit, max_updates)
        conclude(result, ThrottlingExceeded, ThrottlingInconclusive, stacklevel=2)
        return result


def check_updates(
    record: ThrottleRecord,
    policy: ThrottlePolicy,
    max_total_bytes: int | None = None,
    max_updates: int | None = None,
) -> ThrottlingResult:
    """Return the result of checking a record against a policy and its limits."""
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
        unchecked={number: reason.says for number, reason in findings.unchecked.items()},
        updates=len(record.updates),
        sent=sent,
    )


def _check_choices(policy: ThrottlePolicy) -> None:
    for name, chosen, allowed in (
        ("trailing", policy.trailing, _TRAILING_CHOICES),
        ("on_cancel", policy.on_cancel, ("drop", "flush")),
        ("on_error", policy.on_error, ("drop", "flush")),
        ("on_retry", policy.on_retry, ("clear", "keep")),
    ):
        if chosen not in allowed:
            msg = f"{name} must be one of {', '.join(map(repr, allowed))}, not {chosen!r}"
            raise ValueError(msg)


def _size(value: Any) -> int:
    """Return how many bytes a value takes when it is sent as text or as JSON."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes | bytearray):
        return len(value)
    try:
        return len(json.dumps(value, default=str))
    except (TypeError, ValueError):
        return len(repr(value))


def _running_names() -> set[str]:
    """Name the other threads, and the other tasks and timers of the running event loop."""
    current_thread = threading.current_thread()
    names = {
        f"thread {thread.name}"
        for thread in threading.enumerate()
        if thread is not current_thread and not thread.name.startswith(_POOL_THREAD_PREFIXES)
    }
    if running_loop() == "asyncio":
        loop, current_task = asyncio.get_running_loop(), asyncio.current_task()
        names |= {
            f"task {task.get_name()}" for task in asyncio.all_tasks() if task is not current_task
        }
        timers = getattr(loop, "timers", list)
        now = loop.time()
        names |= {f"a timer due in {timer.when() - now:.3f} s" for timer in timers()}
    return names
