"""The uvicorn server that `serve_app` runs in a thread of the test process.

`serve_app` imports this module at its first call, because uvicorn may not be installed. The server
sets `ready` once it listens, and `stop` ends it from another thread. Responses in flight get a
grace before they are cancelled.
"""

import asyncio
import socket
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import uvicorn

# Time for a response that is cancelled after its grace to send an error and its end. It is longer
# than the 1 s in which the reference server lets its clients receive them.
CANCELLED_RESPONSE_SECONDS = 2.0
# Limit of a message that a client sends over a WebSocket. Without a limit, one client could fill
# the memory of the test run. 1 MiB is the default of the websockets library.
MAX_MESSAGE_BYTES = 2**20


class ThreadedServer(uvicorn.Server):
    """A uvicorn server that runs in a thread; another thread waits for `ready` and calls `stop`.

    `grace` is the time in seconds that responses in flight have to end when the server stops. With
    a grace of 0 their connections are aborted, and uvicorn waits `patience` seconds at most for the
    responses to end.
    """

    def __init__(self, app: Any, grace: float, patience: float, choices: Mapping[str, Any]) -> None:
        # The WebSocket implementation is fixed, and the date and server headers are off. So the
        # bytes of a response and their cost depend neither on other packages nor on the time.
        super().__init__(
            uvicorn.Config(
                app,
                ws="websockets-sansio",
                ws_max_size=MAX_MESSAGE_BYTES,
                log_config=None,
                log_level="warning",
                access_log=False,
                date_header=False,
                server_header=False,
                timeout_graceful_shutdown=grace or patience,  # type: ignore[arg-type]
                **choices,
            )
        )
        self._grace = grace
        self.ready: Future[None] = Future()
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def serve_in_thread(self, listener: socket.socket) -> None:
        """Serve until `stop` is called; an error of the start is raised by `ready.result()`."""
        try:
            with listener:
                self.run(sockets=[listener])
        except BaseException as error:  # uvicorn raises SystemExit if the lifespan fails
            if self.ready.done():
                raise
            exits = isinstance(error, SystemExit)
            self.ready.set_exception(RuntimeError("uvicorn gave up") if exits else error)

    def stop(self) -> None:
        """Stop the server, from another thread."""
        self.should_exit = True
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and set `ready`."""
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self.ready.set_result(None)

    async def main_loop(self) -> None:
        """Wait until `stop` is called.

        The loop of uvicorn itself sleeps 0.1 s at a time. After a test that moves the clock of the
        process and then restores it, such a sleep would last for days.
        """
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the connections, and wait for responses in flight until their grace is over.

        Wait `CANCELLED_RESPONSE_SECONDS` more for responses that were cancelled then.
        """
        # An endless stream ends only if its connection is aborted, as if its client had left. A
        # WebSocket that is closing must be aborted, too: uvicorn would raise for its close frame.
        for connection in list(self.server_state.connections):
            if not self._grace or _is_websocket_being_closed(connection):
                connection.transport.abort()
        await asyncio.sleep(0)  # the next round of the loop drops the aborted connections
        await super().shutdown(sockets)
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=CANCELLED_RESPONSE_SECONDS)


def _is_websocket_being_closed(connection: Any) -> bool:
    scope = getattr(connection, "scope", None) or {}
    return scope.get("type") == "websocket" and connection.transport.is_closing()
