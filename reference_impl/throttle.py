"""The reference throttle: limits the updates of tool calls whose arguments stream in.

`ToolCallUpdates` takes the pieces of the arguments and calls `send(key, arguments)` for an update.
`key` is the id of the tool call, or its index if it has no id; `arguments` is the parsed value of
all pieces so far.

The first update of a call is sent at once. Later ones wait for a timer, so that a call has at most
one update per interval, 100 ms by default. The end of a turn sends the pending updates. Arguments
are parsed only when an update is sent.
"""

import asyncio
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol

Send = Callable[[Hashable, Any], object]
"""Sends one update: takes the key of a tool call and its arguments so far."""


class Timer(Protocol):
    """A scheduled callback, as `Later` returns it."""

    def cancel(self) -> object:
        """Cancel the callback."""


Later = Callable[[float, Callable[[], None]], Timer]
"""Schedules a callback after some seconds."""


def parse(text: str) -> Any:
    """Return the value of JSON that may be incomplete, or None if it has no value yet."""
    # Imported on first use: a server without streamed tool calls does not need the library.
    from partial_json_parser import loads  # type: ignore[import-untyped] # noqa: PLC0415

    try:
        return loads(text)
    except ValueError:
        return None


def after(seconds: float, callback: Callable[[], None]) -> Timer:
    """Schedule a callback on the running event loop, after some seconds."""
    return asyncio.get_running_loop().call_later(seconds, callback)


@dataclass(slots=True)
class ToolCall:
    """A tool call of a turn, with the pieces of its arguments so far and the state of its updates.

    `sent` is the time of the last update, by `time.monotonic`. `pending` is whether pieces have
    arrived since then.
    """

    key: Hashable
    pieces: list[str] = field(default_factory=list)
    sent: float = float("-inf")
    pending: bool = False
    timer: Timer | None = None


class ToolCallUpdates:
    """Throttled updates for all tool calls of one turn.

    `every` is the shortest time between two updates of the same call, in seconds. `later` schedules
    the timers.
    """

    def __init__(self, send: Send, *, every: float = 0.1, later: Later = after) -> None:
        self._send = send
        self._every = every
        self._later = later
        self._calls: dict[int, ToolCall] = {}

    def feed(self, index: int, call_id: str, piece: str) -> None:
        """Add a piece to the arguments of the call with this index, and send or plan an update."""
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
        """End the turn: send all pending updates."""
        self._finish()

    def error(self) -> None:
        """End the turn after an error: send all pending updates, so that no arguments are lost."""
        self._finish()

    def cancel(self) -> None:
        """End the turn after a cancellation: drop all pending updates."""
        self._clear()

    def retry(self) -> None:
        """Start the turn again: forget all tool calls, because the model repeats them."""
        self._clear()

    def _wait(self, call: ToolCall, seconds: float) -> None:
        """Start the timer of the next update, unless it is already running."""
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
        """Cancel the timer of the next update, if one is running."""
        if call.timer is not None:
            call.timer.cancel()
            call.timer = None
