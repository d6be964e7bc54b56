"""The server under uvicorn, in a thread of this process."""

import asyncio
import math
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any, Literal

import uvicorn
from starlette.types import ASGIApp

Lifespan = Literal["off", "auto"]
Loop = Literal["asyncio", "uvloop"]
Http = Literal["h11", "httptools"]

# Seconds to start, to stop after the grace, and for the last words of what is cut off.
_PATIENCE, _LAST_WORDS = 10.0, 2.0
_LAST_PORT = 65535
# Bytes of what a client may say over a WebSocket at once.
_LONGEST_MESSAGE = 2**20


class _Server(uvicorn.Server):
    def __init__(
        self, app: ASGIApp, lifespan: Lifespan, loop: Loop, http: Http, grace: float
    ) -> None:
        # One protocol and one loop whatever else is installed, and no header that tells the time:
        # the bytes of a turn, and what it costs, are the same everywhere.
        super().__init__(
            uvicorn.Config(
                app,
                loop=loop,
                http=http,
                ws="websockets-sansio",
                ws_max_size=_LONGEST_MESSAGE,
                lifespan=lifespan,
                log_config=None,
                log_level="warning",
                access_log=False,
                date_header=False,
                server_header=False,
                timeout_graceful_shutdown=grace or _PATIENCE / 2,  # type: ignore[arg-type]
            )
        )
        self._grace = grace
        self.ready: Future[None] = Future()
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def serve_in_thread(self, listener: socket.socket) -> None:
        try:
            with listener:
                self.run(sockets=[listener])
        except BaseException as error:  # uvicorn exits where a lifespan fails
            if self.ready.done():
                raise
            exits = isinstance(error, SystemExit)
            self.ready.set_exception(RuntimeError("uvicorn gave up") if exits else error)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self.ready.set_result(None)

    async def main_loop(self) -> None:
        # uvicorn looks ten times a second whether to exit. A test that moves the process's clock
        # and puts it back would have that wait for days.
        await self._stopping.wait()

    def stop(self) -> None:
        """Have it exit; from another thread."""
        self.should_exit = True
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # A stream need not end by itself. Hung up on, it ends as it does when its client leaves.
        # Nor can uvicorn say goodbye over a WebSocket that is just being closed: it would raise.
        for connection in list(self.server_state.connections):
            if not self._grace or _is_being_closed(connection):
                connection.transport.abort()
        await asyncio.sleep(0)  # they are forgotten in the next round of the loop
        await super().shutdown(sockets)
        if self.server_state.tasks:  # cancelled when the grace was over, and on their way out
            await asyncio.wait(self.server_state.tasks, timeout=_LAST_WORDS)


def _is_being_closed(connection: Any) -> bool:
    scope = getattr(connection, "scope", None) or {}
    return scope.get("type") == "websocket" and connection.transport.is_closing()


@contextmanager
def running(  # noqa: PLR0913 - where, and on what
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    lifespan: Lifespan = "auto",
    loop: Loop = "asyncio",
    http: Http = "h11",
    grace: float = 0.0,
) -> Iterator[str]:
    """Serve an ASGI app from a thread of its own, and yield its base URL.

    `host` is a name or an IPv4 address; port 0 lets the system pick one; `lifespan="off"` leaves an
    app that would like to know untold of start and stop; `loop` and `http` are what uvicorn runs
    on. The server always stops at the end of the block. Streams in flight have `grace` seconds to
    end; then they are cancelled, and end with an error. Without any they are cut off, as if their
    clients had left.

    A port out of range and a grace below 0 are a `ValueError`, an address that cannot be bound an
    `OSError`, a loop or a protocol that is not installed a `ModuleNotFoundError`. A server that
    does not start within 10 seconds, or does not stop within 10 because an engine or a tool blocks
    its event loop, is a `RuntimeError`.

        with running(create_app()) as url:
            httpx.post(f"{url}/agents/demo/run", json=body)
    """
    if not 0 <= port <= _LAST_PORT:
        raise ValueError(f"port={port!r}: must be 0 to {_LAST_PORT}")
    if not 0 <= grace < math.inf:
        raise ValueError(f"grace={grace!r}: must be 0 seconds or more, and finite")
    for module in (loop, http):
        if find_spec(module) is None:
            raise ModuleNotFoundError(
                f"running() needs {module}: pip install 'pytest-streamperf[fast]'", name=module
            )
    listener = socket.create_server((host, port))
    server = _Server(app, lifespan, loop, http, grace)
    url = "http://{}:{}".format(*listener.getsockname())
    thread = threading.Thread(
        target=server.serve_in_thread, args=(listener,), name=f"serving {url}", daemon=True
    )
    thread.start()
    try:
        try:
            server.ready.result(_PATIENCE)
        except Exception as error:
            raise RuntimeError(f"the server at {url} did not start") from error
        yield url
    finally:
        server.stop()
        thread.join(_PATIENCE + grace)
    if thread.is_alive():
        raise RuntimeError(
            f"the server at {url} did not stop: an engine or a tool blocks its event loop"
        )
