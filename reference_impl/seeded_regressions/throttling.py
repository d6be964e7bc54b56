"""Seeded regressions of throttling: the updates of tool calls, and the flushes of replies.

`assert_throttled` must catch those of `throttle`, and `assert_coalesced` those of `responses`.
"""

import asyncio
import time
from typing import Any

from reference_impl import responses, throttle
from reference_impl.seeded_regressions import Regression, seeded


class UpdatesForEveryPiece(throttle.ToolCallUpdates):
    """The throttle sends an update for every piece of the arguments."""

    def __init__(self, send: throttle.Send, **options: Any) -> None:
        super().__init__(send, **{**options, "every": 0.0})


class ParsesEveryPiece(throttle.ToolCallUpdates):
    """The throttle parses the arguments at every piece, even when it sends no update."""

    def feed(self, index: int, call_id: str, piece: str) -> None:
        """Parse the arguments, then take the piece."""
        earlier_pieces = self._calls[index].pieces if index in self._calls else []
        throttle.parse("".join([*earlier_pieces, piece]))
        super().feed(index, call_id, piece)


class LosesLastUpdate(throttle.ToolCallUpdates):
    """The end of a turn cancels the timers, so the last update is never sent."""

    def end(self) -> None:
        """Stop the timers without sending pending updates."""
        self._clear()


class SendsAfterTheEnd(throttle.ToolCallUpdates):
    """The last update is left to the event loop, which sends it after the end event."""

    def end(self) -> None:
        """Send pending updates in the next round of the event loop."""
        asyncio.get_running_loop().call_soon(super().end)


class SendsOnCancel(throttle.ToolCallUpdates):
    """A cancelled turn still sends its pending updates."""

    def cancel(self) -> None:
        """Send pending updates, as at the end."""
        self.end()


class SharesOneKey(throttle.ToolCallUpdates):
    """Tool calls without an id share one key, so their arguments are mixed."""

    def feed(self, index: int, call_id: str, piece: str) -> None:
        """Take a piece; without an id, take it for the first call."""
        super().feed(index if call_id else 0, call_id, piece)


class LeadingOnly(throttle.ToolCallUpdates):
    """An update that falls within the interval is dropped instead of sent later."""

    def _wait(self, call: throttle.ToolCall, _seconds: float) -> None:
        call.pending = False


class Debounces(throttle.ToolCallUpdates):
    """Every piece restarts the interval, so a steady stream gets no updates in between."""

    def _wait(self, call: throttle.ToolCall, _seconds: float) -> None:
        self._stop(call)
        super()._wait(call, self._every)
        call.sent = time.monotonic()


class SendsStaleValue(throttle.ToolCallUpdates):
    """A delayed update sends the arguments as they were when its timer was set."""

    def _wait(self, call: throttle.ToolCall, seconds: float) -> None:
        if call.timer is None:
            planned_pieces = list(call.pieces)

            def fire() -> None:
                call.pieces, all_pieces = planned_pieces, call.pieces
                self._update(call)
                call.pieces = all_pieces

            call.timer = self._later(seconds, fire)


class LeavesTimerRunning(throttle.ToolCallUpdates):
    """A timer that looks for pending updates keeps running after the end of the turn."""

    def _update(self, call: throttle.ToolCall) -> None:
        super()._update(call)
        self._schedule_next_look(call)

    def _schedule_next_look(self, call: throttle.ToolCall) -> None:
        call.timer = self._later(self._every, lambda: self._send_if_pending(call))

    def _send_if_pending(self, call: throttle.ToolCall) -> None:
        if call.pending:
            self._update(call)
        else:
            self._schedule_next_look(call)

    def _clear(self) -> None:
        self._calls.clear()


class FlushesEveryDelta(responses.ResponseWriter):
    """The writer flushes every delta by itself."""

    async def _after_delta(self) -> None:
        await self._flush()


class EndsWithoutFlush(responses.ResponseWriter):
    """The writer does not flush at the end, so the last deltas are never sent."""

    async def _after_last_delta(self) -> None:
        pass


class SwallowsError(responses.ResponseWriter):
    """The writer does not flush after an error, so the last deltas and the error are lost."""

    async def fail(self, message: str) -> None:
        """Write neither the error nor the pending deltas."""


def _throttle_regression(name: str, replacement: type, *breaks: int) -> Regression:
    return seeded("assert_throttled", name, "throttle:ToolCallUpdates", replacement, *breaks)


def _writer_regression(name: str, replacement: type) -> Regression:
    return seeded("assert_coalesced", name, "responses:ResponseWriter", replacement)


REGRESSIONS = (
    _throttle_regression("no-throttle", UpdatesForEveryPiece, 2),
    _throttle_regression("parse-per-delta", ParsesEveryPiece, 14),
    _throttle_regression("trailing-value-lost", LosesLastUpdate, 5),
    _throttle_regression("final-flush-after-end", SendsAfterTheEnd, 5, 6),
    _throttle_regression("flush-on-cancel", SendsOnCancel, 7),
    _throttle_regression("shared-key", SharesOneKey, 8),
    _throttle_regression("leading-only", LeadingOnly, 4, 5),
    _throttle_regression("trailing-debounce", Debounces, 9),
    _throttle_regression("stale-value", SendsStaleValue, 3),
    _throttle_regression("timer-left-running", LeavesTimerRunning, 6),
    _writer_regression("flush-per-token", FlushesEveryDelta),
    _writer_regression("held-back-tail", EndsWithoutFlush),
    _writer_regression("swallowed-error-flush", SwallowsError),
)
