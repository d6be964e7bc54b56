"""Mistakes in how often something is sent: by the throttle of tool calls, and by the writers."""

import asyncio
import time
from typing import Any

from reference_impl import responses, throttle
from reference_impl.seeded_regressions import Regression, seeded


class EveryPiece(throttle.ToolCallUpdates):
    """No throttle at all."""

    def __init__(self, send: throttle.Send, **options: Any) -> None:
        super().__init__(send, **{**options, "every": 0.0})


class ParsesEveryPiece(throttle.ToolCallUpdates):
    """Parses each time, and looks at the clock afterwards."""

    def feed(self, index: int, call_id: str, piece: str) -> None:
        """Take a piece."""
        so_far = self._calls[index].pieces if index in self._calls else []
        throttle.parse("".join([*so_far, piece]))
        super().feed(index, call_id, piece)


class LosesTheTail(throttle.ToolCallUpdates):
    """Stops its timers at the end, and what they were to send is gone."""

    def end(self) -> None:
        """Forget to send what is pending."""
        self._clear()


class FlushesAfterTheEnd(throttle.ToolCallUpdates):
    """Leaves the last flush to the event loop, which comes to it after the end event."""

    def end(self) -> None:
        """Send what is pending, soon."""
        asyncio.get_running_loop().call_soon(super().end)


class FlushesOnCancel(throttle.ToolCallUpdates):
    """Treats a cancel as an end."""

    def cancel(self) -> None:
        """Send what nobody waits for."""
        self.end()


class SharesAKey(throttle.ToolCallUpdates):
    """Tells calls apart by their id, which some servers leave empty."""

    def feed(self, index: int, call_id: str, piece: str) -> None:
        """Take a piece, for the first call where there is no id."""
        super().feed(index if call_id else 0, call_id, piece)


class LeadingOnly(throttle.ToolCallUpdates):
    """Throws away what comes within the interval."""

    def _wait(self, call: throttle.ToolCall, _seconds: float) -> None:
        call.pending = False


class Debounces(throttle.ToolCallUpdates):
    """Starts the interval again for every piece."""

    def _wait(self, call: throttle.ToolCall, _seconds: float) -> None:
        self._stop(call)
        super()._wait(call, self._every)
        call.sent = time.monotonic()


class SendsWhatItPlanned(throttle.ToolCallUpdates):
    """Takes the value when it sets the timer, not when that fires."""

    def _wait(self, call: throttle.ToolCall, seconds: float) -> None:
        if call.timer is None:
            planned = list(call.pieces)

            def fire() -> None:
                call.pieces, whole = planned, call.pieces
                self._update(call)
                call.pieces = whole

            call.timer = self._later(seconds, fire)


class LeavesATimer(throttle.ToolCallUpdates):
    """Looks for something to send every so often, for ever."""

    def _update(self, call: throttle.ToolCall) -> None:
        super()._update(call)
        self._look_again(call)

    def _look_again(self, call: throttle.ToolCall) -> None:
        call.timer = self._later(self._every, lambda: self._look(call))

    def _look(self, call: throttle.ToolCall) -> None:
        if call.pending:
            self._update(call)
        else:
            self._look_again(call)

    def _clear(self) -> None:
        self._calls.clear()


class FlushesEveryToken(responses.ResponseWriter):
    """Pushes every delta by itself."""

    async def _written(self) -> None:
        await self._flush()


class HoldsTheTail(responses.ResponseWriter):
    """Closes what it writes to, which is taken to flush it, and does not."""

    async def _ended(self) -> None:
        pass


class SwallowsTheError(responses.ResponseWriter):
    """Raises before it has flushed, so that nobody hears of the error, nor of what came before."""

    async def fail(self, says: str) -> None:
        """End with an error."""


def _throttle(name: str, replacement: type, *breaks: int) -> Regression:
    return seeded("assert_throttled", name, "throttle:ToolCallUpdates", replacement, *breaks)


def _writer(name: str, replacement: type) -> Regression:
    return seeded("assert_coalesced", name, "responses:ResponseWriter", replacement)


REGRESSIONS = (
    _throttle("no-throttle", EveryPiece, 2),
    _throttle("parse-per-delta", ParsesEveryPiece, 14),
    _throttle("trailing-value-lost", LosesTheTail, 5),
    _throttle("final-flush-after-end", FlushesAfterTheEnd, 5, 6),
    _throttle("flush-on-cancel", FlushesOnCancel, 7),
    _throttle("shared-key", SharesAKey, 8),
    _throttle("leading-only", LeadingOnly, 4, 5),
    _throttle("trailing-debounce", Debounces, 9),
    _throttle("stale-value", SendsWhatItPlanned, 3),
    _throttle("timer-left-running", LeavesATimer, 6),
    _writer("flush-per-token", FlushesEveryToken),
    _writer("held-back-tail", HoldsTheTail),
    _writer("swallowed-error-flush", SwallowsTheError),
)
