"""Send HTTP requests as real clients do: they read to the end, leave midway, or leave at once.

`ask` sends a `Request` over a connection of its own and returns an `Answer`. `tasks` and `until`
help checks to run many clients at the same time.

- A client that leaves aborts its connection, as a browser does when a tab is closed.
- A server that sends nothing for 30 seconds raises `TimeoutError`. A connection that it closes
  early raises `ConnectionError`.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, overload
from urllib.parse import urlsplit

Leave = Literal["never", "midway", "at once"]
"""When a client leaves: after the whole answer, with the first data of the body, or at once.

A client that leaves at once sends its request and reads no answer.
"""

# Seconds without data after which a client gives up. Not measured: longer than any normal pause.
_TIMEOUT_S = 30.0
# Bytes of one read from the socket. Not measured: 64 KiB is a choice.
_READ_BYTES = 2**16
# Seconds to wait for an answer to `Expect: 100-continue`. curl waits as long (its option
# CURLOPT_EXPECT_100_TIMEOUT_MS).
_CONTINUE_TIMEOUT_S = 1.0
# Seconds between two evaluations of a condition in `until`. Not measured.
_POLL_S = 0.001


@dataclass(frozen=True, slots=True)
class Request:
    """The request of a client: a method, a path, a body and headers.

    A `body` of bytes is sent unchanged, any other is sent as JSON, and None is an empty body.

    >>> str(Request("POST", "/v1/chat/completions", {"stream": True}))
    'POST /v1/chat/completions'
    """

    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def content(self) -> bytes:
        """Return the body as bytes."""
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a server: its status, headers and body.

    The names of `headers` are in lower case. `complete` is False if the client left before the end.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool


Arrived = Callable[[int, bool], None]
"""A callback for each part of a body that arrives.

Its arguments are the size of the part in bytes, and whether a chunk of the transfer encoding begins
with it.
"""


@overload
async def ask(
    url: str,
    request: Request,
    leave: Literal["never", "midway"] = "never",
    arrived: Arrived | None = None,
) -> Answer: ...


@overload
async def ask(
    url: str, request: Request, leave: Leave, arrived: Arrived | None = None
) -> Answer | None: ...


async def ask(
    url: str, request: Request, leave: Leave = "never", arrived: Arrived | None = None
) -> Answer | None:
    """Send a request over a connection of its own, and return the answer.

    `leave` tells when the client leaves; `arrived` is called for each part of the body. With an
    `Expect: 100-continue` header, the client sends the body after the first data from the server,
    or after one second without data. It does not send the body after a refusal. A server that
    refuses a large body may close the connection of a client that goes on sending.

    Returns None for a client that leaves at once. Raises `TimeoutError` if the server sends nothing
    for 30 seconds, and `ConnectionError` if it closes the connection early.
    """
    import h11  # noqa: PLC0415 - comes with the extra that serves

    async with _connect(url) as (reader, writer):
        connection = h11.Connection(h11.CLIENT)
        head, *rest = _request_events(url, request)
        writer.write(connection.send(head) or b"")
        event = h11.NEED_DATA
        if "expect" in request.headers:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CONTINUE_TIMEOUT_S):
                    connection.receive_data(await reader.read(_READ_BYTES))
            event = _next_event(request, connection)
        if not isinstance(event, h11.Response):
            for body_event in rest:
                writer.write(connection.send(body_event) or b"")
        if leave == "at once":
            await asyncio.sleep(0)
            return None
        parts: list[bytes] = []

        def keep_part(data: bytes, chunk_begins: bool) -> None:  # noqa: FBT001 - a flag of h11
            parts.append(data)
            if arrived is not None:
                arrived(len(data), chunk_begins)

        status, headers, complete = await _read_answer(
            request, connection, reader, leave=leave, event=event, keep_part=keep_part
        )
        return Answer(status, headers, b"".join(parts), complete)


async def _read_answer(  # noqa: PLR0913 - the connection, and when to stop
    request: Request,
    connection: Any,
    reader: asyncio.StreamReader,
    *,
    leave: Leave,
    event: Any,
    keep_part: Callable[[bytes, bool], None],
) -> tuple[int, Mapping[str, str], bool]:
    """Return the status, the headers, and whether the whole body arrived.

    `event` is the first event of the answer, and `keep_part` receives each part of the body.
    """
    import h11  # noqa: PLC0415

    status, has_data = 0, False
    headers: dict[str, str] = {}
    while True:
        match event:
            case h11.NEED_DATA if has_data and leave == "midway":
                return status, headers, False
            case h11.NEED_DATA:
                async with asyncio.timeout(_TIMEOUT_S):
                    connection.receive_data(await reader.read(_READ_BYTES))
            case h11.Response():
                status = event.status_code
                # Browsers join headers of the same name in this way.
                for name, value in event.headers:
                    before = f"{headers[name.decode()]}, " if name.decode() in headers else ""
                    headers[name.decode()] = before + value.decode("latin-1")
            case h11.Data():
                has_data = True
                keep_part(bytes(event.data), event.chunk_start)
            case h11.EndOfMessage():
                return status, headers, True
            case h11.ConnectionClosed():
                msg = f"the server closed the connection before the end of its answer to {request}"
                raise ConnectionError(msg)
        event = _next_event(request, connection)


def _next_event(request: Request, connection: Any) -> Any:
    """Return the next event of h11, or raise `ConnectionError` for an answer that breaks off."""
    import h11  # noqa: PLC0415

    try:
        return connection.next_event()
    except h11.RemoteProtocolError as error:
        msg = f"the server closed the connection of {request}: {error}"
        raise ConnectionError(msg) from error


def _request_events(url: str, request: Request) -> Iterator[Any]:
    """Yield the h11 events of a request: the head, the body and the end."""
    import h11  # noqa: PLC0415

    address, content = urlsplit(url), request.content
    headers = {"host": address.netloc, "connection": "close"}
    if content or request.method == "POST":
        headers |= {"content-length": str(len(content)), "content-type": "application/json"}
    headers |= {name.lower(): value for name, value in request.headers.items()}
    target = address.path.rstrip("/") + request.path
    yield h11.Request(method=request.method, target=target, headers=list(headers.items()))
    yield h11.Data(data=content)
    yield h11.EndOfMessage()


@asynccontextmanager
async def _connect(
    url: str,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to a server, and abort the connection at the end."""
    address = urlsplit(url)
    secure = address.scheme == "https"
    port = address.port or (443 if secure else 80)
    async with asyncio.timeout(_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(
            address.hostname, port, ssl=True if secure else None
        )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition()` is true, and let other tasks run meanwhile."""
    while not condition():  # noqa: ASYNC110 - the condition has no event
        await asyncio.sleep(_POLL_S)


@asynccontextmanager
async def tasks() -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Yield a list for tasks; at the end, cancel the tasks in it, and ignore their errors."""
    running: list[asyncio.Task[Any]] = []
    try:
        yield running
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
