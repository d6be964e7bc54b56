"""Clients as they are in the field: some read to the end, some leave midway, some at once."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, overload
from urllib.parse import urlsplit

Leave = Literal["never", "midway", "at once"]
"""When a client hangs up: when all has come, with the first piece of a body, or having asked."""

_PATIENCE = 30.0
_PIECE = 2**16
# Seconds to wait for a word where one is expected, as curl does.
_EXPECTING = 1.0
_LOOK = 0.001


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for: a method, a path, and what is sent, as JSON unless it is bytes.

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
        """The bytes of the body."""
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: names of `headers` are in lower case.

    `complete` is whether all of it came.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool


Arrived = Callable[[int, bool], None]
"""Called with the size of each part of a body that arrives, and whether a chunk begins with it."""


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
    """Send a request over a connection of its own, and read the answer for as long as asked.

    With `Expect: 100-continue` the body is held back until the server says something, or nothing
    for a second: what refuses a body by its size hangs up on those who go on sending.

    None where the client left at once. Raises `TimeoutError` where the server says
    nothing for 30 seconds, and `ConnectionError` where it hangs up.
    """
    import h11  # noqa: PLC0415 - comes with the extra that serves

    async with _connected(url) as (reader, writer):
        connection = h11.Connection(h11.CLIENT)
        head, *rest = _sent(url, request)
        writer.write(connection.send(head) or b"")
        event = h11.NEED_DATA
        if "expect" in request.headers:
            with suppress(TimeoutError):
                async with asyncio.timeout(_EXPECTING):
                    connection.receive_data(await reader.read(_PIECE))
            event = _next(request, connection)
        if not isinstance(event, h11.Response):
            for each in rest:
                writer.write(connection.send(each) or b"")
        if leave == "at once":
            await asyncio.sleep(0)
            return None
        parts: list[bytes] = []

        def keep(data: bytes, begins: bool) -> None:  # noqa: FBT001 - as h11 says it
            parts.append(data)
            if arrived is not None:
                arrived(len(data), begins)

        status, told, complete = await _answered(
            request, connection, reader, leave=leave, event=event, keep=keep
        )
        return Answer(status, told, b"".join(parts), complete)


async def _answered(  # noqa: PLR0913 - what is read, and how far
    request: Request,
    connection: Any,
    reader: asyncio.StreamReader,
    *,
    leave: Leave,
    event: Any,
    keep: Callable[[bytes, bool], None],
) -> tuple[int, Mapping[str, str], bool]:
    """The status, the headers, and whether all of the body came; `keep` gets its parts."""
    import h11  # noqa: PLC0415

    status, some = 0, False
    told: dict[str, str] = {}
    while True:
        match event:
            case h11.NEED_DATA if some and leave == "midway":
                return status, told, False
            case h11.NEED_DATA:
                async with asyncio.timeout(_PATIENCE):
                    connection.receive_data(await reader.read(_PIECE))
            case h11.Response():
                status = event.status_code
                for name, value in event.headers:  # those that come twice are one, as pages see it
                    before = f"{told[name.decode()]}, " if name.decode() in told else ""
                    told[name.decode()] = before + value.decode("latin-1")
            case h11.Data():
                some = True
                keep(bytes(event.data), event.chunk_start)
            case h11.EndOfMessage():
                return status, told, True
            case h11.ConnectionClosed():
                msg = f"the server hung up on {request}"
                raise ConnectionError(msg)
        event = _next(request, connection)


def _next(request: Request, connection: Any) -> Any:
    import h11  # noqa: PLC0415

    try:
        return connection.next_event()
    except h11.RemoteProtocolError as error:
        msg = f"the server hung up on {request}: {error}"
        raise ConnectionError(msg) from error


def _sent(url: str, request: Request) -> Iterator[Any]:
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
async def _connected(
    url: str,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect, and hang up at the end, without a word."""
    address = urlsplit(url)
    secure = address.scheme == "https"
    port = address.port or (443 if secure else 80)
    async with asyncio.timeout(_PATIENCE):
        reader, writer = await asyncio.open_connection(
            address.hostname, port, ssl=True if secure else None
        )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def until(met: Callable[[], bool]) -> None:
    """Wait for what other tasks do."""
    while not met():  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(_LOOK)


@asynccontextmanager
async def tasks() -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Tasks that end with this, whatever came of them."""
    running: list[asyncio.Task[Any]] = []
    try:
        yield running
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
