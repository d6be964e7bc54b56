"""A correct throttle and faulty ones, to find out whether a test detects the faults.

`make(send, every)` creates a throttle. A test calls its `feed(value, key)`, `end()`, `cancel()`,
`error()` and `retry()`; the throttle calls `send(key, value)`. `every` is in seconds, or a text
such as "50ms". A timer needs a running asyncio loop. Without a loop, a pending value waits for the
next value or the end.
"""

import asyncio
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from pytest_streamperf._results.units import Seconds, argument, seconds_of
from pytest_streamperf._runtime.context import running_loop

Send = Callable[[Hashable, Any], object]


class Throttle:
    """A correct throttle: at most one update per key in the time `every`, and the final value.

    `every` is in seconds, or a text such as "50ms".
    """

    def __init__(self, send: Send, every: Seconds) -> None:
        self._send = send
        self._every = argument("every", seconds_of, every)
        self._sent: dict[Hashable, float] = {}
        self._pending: dict[Hashable, Any] = {}
        self._timers: dict[Hashable, asyncio.TimerHandle] = {}

    def feed(self, value: Any, key: Hashable = None) -> None:
        """Accept a value: send it now, or keep it pending until the interval is over."""
        self._pending[key] = value
        wait = self._sent.get(key, float("-inf")) + self._every - time.monotonic()
        if wait <= 0:
            self._flush(key)
        else:
            self._later(key, wait)

    def end(self) -> None:
        """End the stream: send the pending values and stop the timers."""
        for key in list(self._pending):
            self._flush(key)
        self._stop()

    def error(self) -> None:
        """Handle an error: send the pending values and stop the timers."""
        self.end()

    def cancel(self) -> None:
        """Drop the pending values and stop the timers."""
        self._pending.clear()
        self._stop()

    def retry(self) -> None:
        """Drop the pending values and start every interval anew."""
        self.cancel()
        self._sent.clear()

    def _later(self, key: Hashable, wait: float) -> None:
        if key not in self._timers and running_loop() == "asyncio":
            timer = asyncio.get_running_loop().call_later(wait, self._fire, key)
            self._timers[key] = timer

    def _fire(self, key: Hashable) -> None:
        self._timers.pop(key, None)
        if key in self._pending:
            self._flush(key)

    def _flush(self, key: Hashable) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        self._sent[key] = time.monotonic()
        self._send(key, self._pending.pop(key))

    def _stop(self) -> None:
        while self._timers:
            self._timers.popitem()[1].cancel()


class _NoThrottle(Throttle):
    def __init__(self, send: Send, every: Seconds) -> None:
        super().__init__(send, every)
        self._every = 0.0


class _LeadingOnly(Throttle):
    def _later(self, key: Hashable, _wait: float) -> None:
        del self._pending[key]


class _NeverAgain(Throttle):
    def _flush(self, key: Hashable) -> None:
        super()._flush(key)
        self._sent[key] += 1e9


class _Debounce(Throttle):
    def feed(self, value: Any, key: Hashable = None) -> None:
        self._sent[key] = time.monotonic()
        if key in self._timers:
            self._timers.pop(key).cancel()
        super().feed(value, key)


class _LosesTheTail(Throttle):
    def end(self) -> None:
        self.cancel()


class _FlushesTwice(Throttle):
    def end(self) -> None:
        for key, value in list(self._pending.items()):
            self._send(key, value)
        super().end()


class _FlushesOnCancel(Throttle):
    def cancel(self) -> None:
        self.end()


class _KeepsOnRetry(Throttle):
    def retry(self) -> None:
        self.end()


class _DropsOnError(Throttle):
    def error(self) -> None:
        self.cancel()


class _OneForAll(Throttle):
    def feed(self, value: Any, key: Hashable = None) -> None:
        wait = max(self._sent.values(), default=float("-inf")) + self._every - time.monotonic()
        if wait > 0:
            self._sent.setdefault(key, time.monotonic() + wait - self._every)
        super().feed(value, key)


class _FirstOfTheWindow(Throttle):
    def feed(self, value: Any, key: Hashable = None) -> None:
        super().feed(self._pending.get(key, value), key)


class _TimerLeft(Throttle):
    def _stop(self) -> None:
        pass

    def cancel(self) -> None:
        self._stop()


class _FirstOneLate(Throttle):
    def feed(self, value: Any, key: Hashable = None) -> None:
        self._sent.setdefault(key, time.monotonic())
        super().feed(value, key)


THROTTLE_MUTANTS: Mapping[str, Callable[[Send, Seconds], Throttle]] = {
    "sends every value": _NoThrottle,
    "drops what comes within the interval": _LeadingOnly,
    "sends once, and then only at the end": _NeverAgain,
    "waits until no more values come": _Debounce,
    "loses what is pending at the end": _LosesTheTail,
    "sends the last value twice": _FlushesTwice,
    "sends what is pending on cancel": _FlushesOnCancel,
    "sends what is pending on retry": _KeepsOnRetry,
    "drops what is pending on error": _DropsOnError,
    "has one interval for all keys": _OneForAll,
    "sends the first value of an interval, not the last": _FirstOfTheWindow,
    "leaves its timer running": _TimerLeft,
    "sends the first value late": _FirstOneLate,
}
"""Faulty throttles by description of their fault; call one as `make(send, every)`."""
