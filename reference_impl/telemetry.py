"""Telemetry over WebSockets: a broadcast reaches all clients, and a slow client delays no other.

`Hub` holds the connected clients and their limits, `broadcast` sends a text to all of them, and a
`Session` serves one client from its handshake to its end.

A session keeps the messages that its client has not taken yet, up to a limit in bytes. Beyond the
limit the hub's policy decides. "skip" drops new messages until there is room again; when the client
reads again, it gets the number of dropped messages, `{"skipped": 3}`. "close" closes the connection
with code 1013, "try again later".

A client that sends no message for `idle` seconds is closed with code 1001, "going away". Messages
that the server sends do not count.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

SlowClientPolicy = Literal["skip", "close"]

# Close codes of WebSockets: https://www.iana.org/assignments/websocket/websocket.xhtml
_GOING_AWAY, _TRY_AGAIN_LATER = 1001, 1013
# Seconds to send the close frame. A client that does not read never takes the frame, so the session
# then ends without it. Not measured: one second is enough for a client that reads.
_CLOSE_SECONDS = 1.0
# Seconds between two status messages. Not measured: people watch them on the page.
_STATUS_INTERVAL_SECONDS = 1.0


class Hub:
    """The connected telemetry clients, and the limits that hold for each of them.

    `limit` is the most bytes that are kept for one client. A client that sends nothing for `idle`
    seconds is closed. `told` returns the status that all clients get every second, as JSON data.

    Raises `ValueError` for an unknown policy and for a `limit` or `idle` that is not positive.
    """

    def __init__(
        self, *, limit: int = 2**20, idle: float = 30.0, policy: SlowClientPolicy = "skip"
    ) -> None:
        for name, value in (("limit", limit), ("idle", idle)):
            if not value > 0:
                raise ValueError(f"{name}={value!r}: must be more than 0")
        if policy not in ("skip", "close"):
            raise ValueError(f"policy={policy!r}: must be 'skip' or 'close'")
        self.limit = limit
        self.idle = idle
        self.policy = policy
        self.sessions: set[Session] = set()
        self.told: Callable[[], Any] = self.snapshot
        self._status_task: asyncio.Task[None] | None = None

    def snapshot(self) -> dict[str, int]:
        """Return the number of clients and the bytes that are kept for all of them together."""
        return {
            "clients": len(self.sessions),
            "bufferedBytes": sum(session.buffered for session in self.sessions),
        }

    def join(self, session: "Session") -> None:
        """Add a client: from now on it gets every broadcast, and the status every second."""
        self.sessions.add(session)
        if self._status_task is None or self._status_task.done():
            self._status_task = asyncio.create_task(self._broadcast_status())

    def leave(self, session: "Session") -> None:
        """Remove a client: it gets no more messages. The last one to leave ends the status task."""
        self.sessions.discard(session)
        if not self.sessions and self._status_task is not None:
            self._status_task.cancel()

    async def _broadcast_status(self) -> None:
        while True:
            await asyncio.sleep(_STATUS_INTERVAL_SECONDS)
            await broadcast(self, json.dumps(self.told()))


async def broadcast(hub: Hub, text: str) -> None:
    """Hand a text to the session of every client, without waiting for any of them."""
    size = len(text.encode())
    for session in tuple(hub.sessions):
        session.offer(text, size)


class Session:
    """A telemetry session: serves one client from its handshake to its end.

    `buffered` is the size of the messages that the client has not taken yet, in bytes. `skipped`
    counts the messages that were dropped since the client last took one.
    """

    def __init__(self, hub: Hub, socket: "WebSocket") -> None:
        self.buffered = 0
        self.skipped = 0
        self._hub = hub
        self._socket = socket
        self._pending: deque[tuple[str, int]] = deque()
        self._has_pending = asyncio.Event()
        self._idle_timeout = asyncio.timeout(None)
        self._hung_up = asyncio.Event()
        self._close_reason = 0, ""

    def offer(self, text: str, size: int) -> None:
        """Keep a message of `size` bytes for the client, or apply the policy if it does not fit."""
        if self.buffered + size <= self._hub.limit:
            self._keep(text, size)
        elif self._hub.policy == "skip":
            self.skipped += 1
        else:
            self._hang_up(_TRY_AGAIN_LATER, f"{self._hub.limit} bytes behind")

    async def serve(self) -> None:
        """Serve the client until it leaves, or until the server closes the connection."""
        await self._socket.accept()
        self._hub.join(self)
        coroutines = (self._send_pending(), self._listen(), self._hung_up.wait())
        tasks = {asyncio.ensure_future(part) for part in coroutines}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._leave()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._hung_up.is_set():
            with suppress(OSError, RuntimeError, TimeoutError):  # the client left or does not read
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._socket.close(*self._close_reason)

    async def _send_pending(self) -> None:
        while True:
            await self._has_pending.wait()
            text, size = self._pending.popleft()
            if not self._pending:
                self._has_pending.clear()
            await self._send(text)
            self.buffered -= size
            skipped, self.skipped = self.skipped, 0
            if skipped:
                await self._send(json.dumps({"skipped": skipped}))

    async def _listen(self) -> None:
        try:
            async with self._idle_timeout:
                self._heard()
                while (await self._socket.receive())["type"] == "websocket.receive":
                    self._heard()
        except TimeoutError:
            self._hang_up(_GOING_AWAY, f"nothing was heard for {self._hub.idle:g} s")

    async def _send(self, text: str) -> None:
        await self._socket.send_text(text)

    def _heard(self) -> None:
        """Start the idle time again: the client has just sent a message."""
        self._idle_timeout.reschedule(asyncio.get_running_loop().time() + self._hub.idle)

    def _keep(self, text: str, size: int) -> None:
        """Put a message into the buffer of the client."""
        self._pending.append((text, size))
        self.buffered += size
        self._has_pending.set()

    def _hang_up(self, code: int, reason: str) -> None:
        """Have `serve` close the connection, with this close code and reason."""
        self._close_reason = code, reason
        self._hung_up.set()

    def _leave(self) -> None:
        """Take the session out of the hub."""
        self._hub.leave(self)
