"""The server under uvicorn, in the main thread: what `python -m reference_impl` runs."""

import asyncio
import math
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

# A stream that is cancelled when its grace is over has this long to send an error and its end.
LAST_WORDS_SECONDS = 2.0
# The longest message that a client may send over a WebSocket.
MAX_MESSAGE_BYTES = 2**20
_LAST_PORT = 65535


class Server(uvicorn.Server):
    """A uvicorn server that prints its URL when it listens, and ends as a program should."""

    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and print where."""
        await super().startup(sockets)
        print(f"serving {self._url}", flush=True)  # noqa: T201 - how callers learn the port

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGINT and SIGTERM, and exit with 0; uvicorn would raise them again."""
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self.handle_exit)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, and wait until streams that were cancelled have said so."""
        # Without a grace streams are cut off, as if their clients had left. And uvicorn would raise
        # where it closes a WebSocket that its client is just closing.
        for connection in list(self.server_state.connections):
            scope = getattr(connection, "scope", None) or {}
            closing = scope.get("type") == "websocket" and connection.transport.is_closing()
            if closing or not self.config.timeout_graceful_shutdown:
                connection.transport.abort()
        await asyncio.sleep(0)  # the next round of the loop drops them
        await super().shutdown(sockets)
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=LAST_WORDS_SECONDS)


def serve(app: ASGIApp, address: tuple[str, int], *, loop: str, http: str, grace: float) -> None:
    """Serve an app until SIGINT or SIGTERM; streams in flight then have `grace` seconds to end.

    Raises `OSError` for an address that cannot be bound, and `ValueError` for a port out of range
    and a grace below 0.
    """
    if not 0 <= address[1] <= _LAST_PORT:
        raise ValueError(f"port={address[1]!r}: must be 0 to {_LAST_PORT}")
    if not 0 <= grace < math.inf:
        raise ValueError(f"grace={grace!r}: must be 0 seconds or more, and finite")
    listener = socket.create_server(address)
    config = uvicorn.Config(
        app,
        loop=loop,
        http=http,
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
        log_config=None,
        log_level="warning",
        access_log=False,
        date_header=False,  # the bytes of a turn are the same at any time
        server_header=False,
        timeout_graceful_shutdown=grace,  # type: ignore[arg-type]
    )
    with listener:
        Server(config, "http://{}:{}".format(*listener.getsockname())).run(sockets=[listener])
