"""uvicorn, as `serve_app` runs it: loaded where that is called, and uvicorn is installed."""

import asyncio
import socket
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import uvicorn

# A response that was cancelled when its grace was over has this long to send an error and its end.
# The reference server gives its clients 1 s to take them.
LAST_WORDS_SECONDS = 2.0
# The longest message that a client may send over a WebSocket. Without a bound one client fills
# the memory of the test run; 1 MiB is what the websockets library allows by itself.
MAX_MESSAGE_BYTES = 2**20


class ThreadedServer(uvicorn.Server):
    """A uvicorn server that runs in a thread, says when it is ready, and is stopped from another.

    `grace` is how many seconds responses in flight have to end when the server stops; without any
    their connections are aborted. `patience` is how many seconds uvicorn waits for the others then.
    """

    def __init__(self, app: Any, grace: float, patience: float, choices: Mapping[str, Any]) -> None:
        # The protocol of WebSockets and the headers are fixed: the bytes of a response, and what
        # they cost, are the same whatever is installed and whatever the time is.
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
        """Serve until `stop` is called; `ready` gets the error of a server that does not start."""
        try:
            with listener:
                self.run(sockets=[listener])
        except BaseException as error:  # uvicorn exits where a lifespan fails
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

        uvicorn itself looks ten times a second. A test that moves the process's clock and puts it
        back would leave that wait pending for days.
        """
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close connections, and wait for responses as long as their grace and last words take."""
        # A stream need not end by itself. Aborted, it ends as it does when its client leaves. Nor
        # can uvicorn send a close frame over a WebSocket that is just being closed: it would raise.
        for connection in list(self.server_state.connections):
            if not self._grace or _is_websocket_being_closed(connection):
                connection.transport.abort()
        await asyncio.sleep(0)  # the next round of the loop drops the aborted connections
        await super().shutdown(sockets)
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=LAST_WORDS_SECONDS)


def _is_websocket_being_closed(connection: Any) -> bool:
    scope = getattr(connection, "scope", None) or {}
    return scope.get("type") == "websocket" and connection.transport.is_closing()
