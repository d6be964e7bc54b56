"""Telemetry over WebSockets: everyone is told at once, and nobody waits for the slowest.

What a client has not taken yet is kept for it, up to a limit in bytes. Beyond that the policy says
what becomes of it: "skip" leaves messages out until there is room again, and tells the client how
many, `{"skipped": 3}`, when it reads again; "close" hangs up with 1013, "try again later". A client
that says nothing for a while, whatever it is told, is closed with 1001, "going away": any message
shows that it is there.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

Policy = Literal["skip", "close"]

# https://www.iana.org/assignments/websocket/websocket.xhtml#close-code-number
_GOING_AWAY, _TRY_AGAIN_LATER = 1001, 1013
# A client that does not read is not told why it is hung up on: nobody waits for it for longer.
_LAST_WORDS = 1.0
_EVERY = 1.0


class Hub:
    """The clients there are, and the terms that they are served on.

    `limit` is in bytes and `idle` in seconds. A value that is not positive is a `ValueError`, and
    so is a policy that there is not.
    """

    def __init__(self, *, limit: int = 2**20, idle: float = 30.0, policy: Policy = "skip") -> None:
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
        self._telling: asyncio.Task[None] | None = None

    def snapshot(self) -> dict[str, int]:
        """How many clients there are, and what is kept for them."""
        return {
            "clients": len(self.sessions),
            "bufferedBytes": sum(session.buffered for session in self.sessions),
        }

    def join(self, session: "Session") -> None:
        """Tell a client of all that is broadcast, and every second what `told` returns."""
        self.sessions.add(session)
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_now_and_then())

    def leave(self, session: "Session") -> None:
        """Tell it no more."""
        self.sessions.discard(session)
        if not self.sessions and self._telling is not None:
            self._telling.cancel()

    async def _tell_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            await broadcast(self, json.dumps(self.told()))


async def broadcast(hub: Hub, text: str) -> None:
    """Tell every client."""
    size = len(text.encode())
    for session in tuple(hub.sessions):
        session.offer(text, size)


class Session:
    """One client, from its handshake to its end; `buffered` is what is kept for it, in bytes."""

    def __init__(self, hub: Hub, socket: "WebSocket") -> None:
        self.buffered = 0
        self.skipped = 0
        self._hub = hub
        self._socket = socket
        self._pending: deque[tuple[str, int]] = deque()
        self._some = asyncio.Event()
        self._idle = asyncio.timeout(None)
        self._hung_up = asyncio.Event()
        self._why = 0, ""

    def offer(self, text: str, size: int) -> None:
        """Take a message of so many bytes, if there is room for it."""
        if self.buffered + size <= self._hub.limit:
            self._keep(text, size)
        elif self._hub.policy == "skip":
            self.skipped += 1
        else:
            self._hang_up(_TRY_AGAIN_LATER, f"{self._hub.limit} bytes behind")

    async def serve(self) -> None:
        """Serve the client until it leaves, or is hung up on."""
        await self._socket.accept()
        self._hub.join(self)
        parts = (self._tell(), self._listen(), self._hung_up.wait())
        tasks = {asyncio.ensure_future(part) for part in parts}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._leave()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._hung_up.is_set():
            with suppress(OSError, RuntimeError, TimeoutError):  # it left, or does not read
                async with asyncio.timeout(_LAST_WORDS):
                    await self._socket.close(*self._why)

    async def _tell(self) -> None:
        while True:
            await self._some.wait()
            text, size = self._pending.popleft()
            if not self._pending:
                self._some.clear()
            await self._send(text)
            self.buffered -= size
            skipped, self.skipped = self.skipped, 0
            if skipped:
                await self._send(json.dumps({"skipped": skipped}))

    async def _listen(self) -> None:
        try:
            async with self._idle:
                self._heard()
                while (await self._socket.receive())["type"] == "websocket.receive":
                    self._heard()
        except TimeoutError:
            self._hang_up(_GOING_AWAY, f"nothing was heard for {self._hub.idle:g} s")

    async def _send(self, text: str) -> None:
        await self._socket.send_text(text)

    def _heard(self) -> None:
        self._idle.reschedule(asyncio.get_running_loop().time() + self._hub.idle)

    def _keep(self, text: str, size: int) -> None:
        self._pending.append((text, size))
        self.buffered += size
        self._some.set()

    def _hang_up(self, code: int, reason: str) -> None:
        self._why = code, reason
        self._hung_up.set()

    def _leave(self) -> None:
        self._hub.leave(self)
