"""Updates of tool calls whose arguments stream in: at most one every 100 ms for each call.

The arguments so far are parsed only when an update goes out. The first one goes out at once, the
latest waits for a timer, and what is pending goes out at the end. `send(key, arguments)` is called
with the call's id, or its index where it has none, and what the arguments are so far.
"""

import asyncio
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol

Send = Callable[[Hashable, Any], object]


class Timer(Protocol):
    """What `later` returns."""

    def cancel(self) -> object:
        """Do not call."""


Later = Callable[[float, Callable[[], None]], Timer]


def parse(text: str) -> Any:
    """What JSON means that may not be complete yet; None where it means nothing yet."""
    # The agent alone needs no library.
    from partial_json_parser import loads  # type: ignore[import-untyped] # noqa: PLC0415

    try:
        return loads(text)
    except ValueError:
        return None


def after(seconds: float, callback: Callable[[], None]) -> Timer:
    """Call back later, on the running event loop."""
    return asyncio.get_running_loop().call_later(seconds, callback)


@dataclass(slots=True)
class ToolCall:
    """One tool call: its arguments so far, and when they were last sent."""

    key: Hashable
    pieces: list[str] = field(default_factory=list)
    sent: float = float("-inf")
    pending: bool = False
    timer: Timer | None = None


class ToolCallUpdates:
    """A throttle for each tool call of a turn; seconds."""

    def __init__(self, send: Send, *, every: float = 0.1, later: Later = after) -> None:
        self._send = send
        self._every = every
        self._later = later
        self._calls: dict[int, ToolCall] = {}

    def feed(self, index: int, call_id: str, piece: str) -> None:
        """Take a piece of the arguments of the tool call that has this index in its turn."""
        call = self._calls.get(index)
        if call is None:
            call = self._calls[index] = ToolCall(call_id or index)
        call.pieces.append(piece)
        call.pending = True
        wait = call.sent + self._every - time.monotonic()
        if wait <= 0:
            self._update(call)
        else:
            self._wait(call, wait)

    def end(self) -> None:
        """Send what is pending: the turn is over."""
        self._finish()

    def error(self) -> None:
        """Send what is pending: people see how far it came."""
        self._finish()

    def cancel(self) -> None:
        """Drop what is pending: nobody waits for it."""
        self._clear()

    def retry(self) -> None:
        """Forget all there was: it comes again."""
        self._clear()

    def _wait(self, call: ToolCall, seconds: float) -> None:
        if call.timer is None:
            call.timer = self._later(seconds, lambda: self._update(call))

    def _finish(self) -> None:
        try:
            self._flush()
        finally:
            self._clear()

    def _flush(self) -> None:
        for call in self._calls.values():
            if call.pending:
                self._update(call)

    def _clear(self) -> None:
        for call in self._calls.values():
            self._stop(call)
        self._calls.clear()

    def _update(self, call: ToolCall) -> None:
        self._stop(call)
        call.pending = False
        call.sent = time.monotonic()
        self._send(call.key, parse("".join(call.pieces)))

    def _stop(self, call: ToolCall) -> None:
        if call.timer is not None:
            call.timer.cancel()
            call.timer = None
