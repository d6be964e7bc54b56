"""The server under uvicorn in the main thread, as `python -m reference_impl` runs it.

`serve` binds the address, prints the URL and serves until SIGINT or SIGTERM. Streams in flight then
have a grace time to end, and cancelled streams have a moment to send their last event.
"""

import asyncio
import math
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

# A stream that is cancelled after its grace time has this long to send an error and its end. Not
# measured: `writers` gives the client 1 s to take them, and this is twice as long.
LAST_WORDS_SECONDS = 2.0
# The longest message that a client may send over a WebSocket. 1 MiB is the default of the library
# websockets; without a limit, one client could fill the memory.
MAX_MESSAGE_BYTES = 2**20
_LAST_PORT = 65535


class Server(uvicorn.Server):
    """A uvicorn server that prints its URL when it listens, and exits with 0 after a signal."""

    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and print the URL."""
        await super().startup(sockets)
        print(f"serving {self._url}", flush=True)  # noqa: T201 - callers read the port from it

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Exit with 0 after SIGINT or SIGTERM; uvicorn's own method raises the signal again."""
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self.handle_exit)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, and wait until cancelled streams have sent their last event."""
        # Without a grace time, a stream ends as if its client had left. A WebSocket that its client
        # is just closing is aborted, too: uvicorn would raise an error if it closed the WebSocket.
        for connection in list(self.server_state.connections):
            scope = getattr(connection, "scope", None) or {}
            closing = scope.get("type") == "websocket" and connection.transport.is_closing()
            if closing or not self.config.timeout_graceful_shutdown:
                connection.transport.abort()
        await asyncio.sleep(0)  # the loop drops aborted connections in its next round
        await super().shutdown(sockets)
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=LAST_WORDS_SECONDS)


def serve(app: ASGIApp, address: tuple[str, int], *, loop: str, http: str, grace: float) -> None:
    """Serve an app until SIGINT or SIGTERM; streams in flight then have `grace` seconds to end.

    An address that cannot be bound raises an `OSError`. A port out of range, or a `grace` that is
    negative or infinite, raises a `ValueError`.
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
        date_header=False,  # the bytes of a turn must not depend on the time
        server_header=False,
        timeout_graceful_shutdown=grace,  # type: ignore[arg-type]
    )
    with listener:
        Server(config, "http://{}:{}".format(*listener.getsockname())).run(sockets=[listener])
