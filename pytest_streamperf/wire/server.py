"""Servers for tests: of scripted streams, over real sockets and for mocked requests; of ASGI apps.

`serve` answers with streams, `serve_app` runs any ASGI app.

    with serve(WireStream(turn, "openai-chat")) as server:
        client = OpenAI(base_url=f"{server.url}/v1", api_key="none")

Each request is answered with the next stream, and those after the last with the last. Chunks end
where the stream has them end, and come at its pace: each is a chunk of an HTTP/1.1 body, or a
message of a WebSocket.

What a WebSocket asks for is its first message: by then it is open, and HTTP 429 can no longer be
sent. A `RateLimit` closes it with 1013, "try again later", and the reason says how long. A stream
that breaks off is hung up on, over either: no last chunk comes, no close frame.
"""

import asyncio
import json
import logging
import socket
import sys
import threading
from collections import deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    MutableMapping,
)
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from pytest_streamperf._results.units import argument, seconds_of
from pytest_streamperf.exceptions import RateLimited, missing_extra
from pytest_streamperf.streams.token_stream import Stream
from pytest_streamperf.wire.wire_stream import WireStream

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

# So many requests are kept, the last ones.
_KEPT = 1_000
# https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1, and
# https://www.iana.org/assignments/websocket/websocket.xhtml#close-code-number
_NORMAL, _TRY_AGAIN_LATER = 1000, 1013

# How long a server may take to start, and to stop after its grace. A second does on a busy machine;
# ten keep a hang from looking like a slow machine.
_PATIENCE_SECONDS = 10.0
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked for; the names of `headers` are in lower case.

    >>> Request("/v1/chat/completions", {}, b'{"stream": true}').json["stream"]
    True
    """

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


Answer = Stream | Callable[[Request], Stream]
"""What is answered: a stream of bytes, or what makes one of a request."""


class Script:
    """What is answered to one request after the other, as an ASGI app and for respx.

    `requests` are those that came, the last 1,000; `url` is where a server listens.
    """

    def __init__(self, *answers: Answer) -> None:
        if not answers:
            msg = "a script needs at least one stream to answer with"
            raise TypeError(msg)
        for answer in answers:
            if not isinstance(answer, Stream) and not callable(answer):
                msg = f"a script takes streams, and functions from a Request to one, not {answer!r}"
                raise TypeError(msg)
        self.url = ""
        self.requests: deque[Request] = deque(maxlen=_KEPT)
        self._answers = deque(answers)

    def _answer(self, request: Request) -> Stream:
        self.requests.append(request)
        answer = self._answers.popleft() if len(self._answers) > 1 else self._answers[0]
        return answer if isinstance(answer, Stream) else answer(request)

    async def __call__(self, scope: Mapping[str, Any], receive: _Receive, send: _Send) -> None:
        """Answer as an ASGI app does, and raise the error of a stream that breaks off."""
        over = {"http": _over_http, "websocket": _over_websocket}[scope["type"]]
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}

        def answer(body: bytes) -> Stream:
            return self._answer(Request(scope["path"], headers, body))

        await over(scope["path"], answer, receive, send)

    def respond(self, request: Any) -> Any:
        """Answer a request that respx mocks: `respx.post(...).mock(side_effect=script.respond)`.

        The clients of httpx and, with pytest-httpx2, of httpx2 get the same.
        """
        import httpx  # noqa: PLC0415 - respx is there, so it is, too

        headers = {name.lower(): value for name, value in request.headers.items()}
        stream = self._answer(Request(request.url.path, headers, request.read()))
        status, told, body = _opening(stream, request.url.path)
        content = _mocked_body(stream) if body is None else httpx.ByteStream(body)
        return httpx.Response(status, headers=told, stream=content)


@contextmanager
def serve(*answers: Answer) -> Iterator[Script]:
    """Serve streams on loopback, from a thread of this process, and yield the script.

    Raises `ModuleNotFoundError` where uvicorn or websockets is missing.

    >>> from pytest_streamperf import Text, Turn
    >>> with serve(WireStream(Turn(Text("Hi")))) as server:
    ...     server.url.startswith("http://127.0.0.1:")
    True
    """
    script = Script(*answers)
    # What breaks off on purpose is no error of the server's.
    with (
        unlogged(lambda error: isinstance(error, ConnectionError)),
        serve_app(script, lifespan="off") as script.url,
    ):
        yield script


@contextmanager
def serve_app(  # noqa: PLR0913 - the address, and what uvicorn runs on
    app: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    lifespan: Literal["off", "auto"] = "auto",
    loop: Literal["asyncio", "uvloop"] = "asyncio",
    http: Literal["h11", "httptools"] = "h11",
    grace: float | str = 0.0,
) -> Iterator[str]:
    """Serve an ASGI app from a thread of this process, and yield its base URL.

    `host` is a name or an IPv4 address; with `port` 0 the system picks a free one. With
    `lifespan="off"` the app is not told about start and stop. `loop` and `http` are the event loop
    and the HTTP parser that uvicorn uses.

    The server stops at the end of the block. Responses in flight then have `grace` to end, in
    seconds or as "5s"; after that they are cancelled. With a grace of 0 their connections are
    aborted, as if the clients had left.

    Raises `ValueError` for a port out of range or a bad grace, `OSError` for an address that cannot
    be bound, `ModuleNotFoundError` where a library is not installed, and `RuntimeError` for a
    server that does not start in 10 seconds, or does not stop in 10 seconds after the grace.

    >>> async def app(scope, receive, send):
    ...     await send({"type": "http.response.start", "status": 204, "headers": []})
    ...     await send({"type": "http.response.body"})
    >>> with serve_app(app, lifespan="off") as url:
    ...     url.startswith("http://127.0.0.1:")
    True
    """
    if not 0 <= port <= _LAST_PORT:
        msg = f"port={port!r}: must be 0 to {_LAST_PORT}"
        raise ValueError(msg)
    grace_seconds = argument("grace", seconds_of, grace)
    try:
        import websockets  # noqa: F401, PLC0415 - uvicorn would load it for the first WebSocket

        from pytest_streamperf.wire.uvicorn_server import ThreadedServer  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise missing_extra(str(error.name), "serve", "serving an app") from error
    for module in ("uvloop", "httptools"):
        if module in (loop, http) and find_spec(module) is None:
            raise missing_extra(module, "fast", f"serving an app on {module}")
    listener = socket.create_server((host, port))
    choices = {"lifespan": lifespan, "loop": loop, "http": http}
    server = ThreadedServer(app, grace_seconds, _PATIENCE_SECONDS / 2, choices)
    url = "http://{}:{}".format(*listener.getsockname())
    thread = threading.Thread(
        target=server.serve_in_thread, args=(listener,), name=f"serving {url}", daemon=True
    )
    thread.start()
    try:
        try:
            server.ready.result(_PATIENCE_SECONDS)
        except Exception as error:
            msg = f"the server at {url} did not start"
            raise RuntimeError(msg) from error
        yield url
    finally:
        server.stop()
        thread.join(_PATIENCE_SECONDS + grace_seconds)
    if thread.is_alive():
        msg = f"the server at {url} did not stop: its app blocks the event loop"
        raise RuntimeError(msg)


@contextmanager
def unlogged(expected: Callable[[BaseException | None], bool]) -> Iterator[None]:
    """Leave errors that are expected out of the server's log."""

    def unexpected(record: logging.LogRecord) -> bool:
        return not (record.exc_info and expected(record.exc_info[1]))

    logger = logging.getLogger("uvicorn.error")
    logger.addFilter(unexpected)
    try:
        yield
    finally:
        logger.removeFilter(unexpected)


def told_before() -> Callable[[BaseException | None], bool]:
    """For `unlogged`: an error that was logged is not logged again, for each client that met it."""
    told: set[tuple[type, str]] = set()

    def again(error: BaseException | None) -> bool:
        this = type(error), str(error)
        known = this in told
        told.add(this)
        return known

    return again


def _opening(stream: Stream, path: str) -> tuple[int, dict[str, str], bytes | None]:
    """Status, headers, and the body where it is not the stream."""
    if isinstance(stream.error, RateLimited):
        told = {"retry-after": stream.error.header}
        return _refused(429, "rate_limit_error", str(stream.error), told)
    dialect = stream.dialect if isinstance(stream, WireStream) else None
    if dialect and not path.endswith(dialect.PATH.rstrip("/")):  # "/" is any
        what = f"{path} was asked for, and the script has {dialect.NAME}, at {dialect.PATH}"
        return _refused(404, "not_found_error", what, {})
    return 200, {"content-type": stream.media_type, "cache-control": "no-cache"}, None


def _refused(
    status: int, kind: str, what: str, told: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    # As OpenAI and Anthropic have it; others show the text.
    error = {"type": "error", "error": {"type": kind, "message": what}}
    return status, {"content-type": "application/json", **told}, json.dumps(error).encode()


async def _over_http(
    path: str, answer: Callable[[bytes], Stream], receive: _Receive, send: _Send
) -> None:
    pieces, more = [], True
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    stream = answer(b"".join(pieces))
    status, told, body = _opening(stream, path)
    headers = [(name.encode(), value.encode()) for name, value in told.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})

    async def streamed() -> None:
        async for chunk in stream if body is None else _once(body):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})

    await _unless_gone(streamed(), receive)


async def _over_websocket(
    _path: str, answer: Callable[[bytes], Stream], receive: _Receive, send: _Send
) -> None:
    """The first message is what is asked for."""
    await receive()
    await send({"type": "websocket.accept"})
    asked = await receive()
    if asked["type"] == "websocket.disconnect":
        return
    stream = answer(asked.get("bytes") or (asked.get("text") or "").encode())

    async def streamed() -> None:
        code, reason = _NORMAL, ""
        try:
            async for chunk in stream:
                await send({"type": "websocket.send", "bytes": chunk})
        except RateLimited as limited:
            code, reason = _TRY_AGAIN_LATER, str(limited)
        await send({"type": "websocket.close", "code": code, "reason": reason})

    await _unless_gone(streamed(), receive)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _unless_gone(streamed: Coroutine[Any, Any, None], receive: _Receive) -> None:
    """Stream, and stop where the client leaves: nobody would hear the rest."""

    async def left() -> None:
        while not (await receive())["type"].endswith(".disconnect"):
            pass

    streaming, leaving = asyncio.ensure_future(streamed), asyncio.ensure_future(left())
    try:
        await asyncio.wait({streaming, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if streaming.done():
            streaming.result()
    finally:
        for task in (streaming, leaving):
            task.cancel()
        await asyncio.gather(streaming, leaving, return_exceptions=True)


def _mocked_body(stream: Stream) -> Any:
    """The stream as httpx has a response's body, for sync clients and for async ones."""
    import httpx  # noqa: PLC0415

    class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            try:
                yield from stream
            except ConnectionError as error:
                raise _read_error(error) from error

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for chunk in stream:
                    yield chunk
            except ConnectionError as error:
                raise _read_error(error) from error

    return Body()


def _read_error(error: ConnectionError) -> Exception:
    """What a transport raises where a connection breaks: which of the two is not known here."""
    loaded = [sys.modules[name] for name in ("httpcore", "httpcore2") if name in sys.modules]
    both = tuple(module.RemoteProtocolError for module in loaded)
    broken: type[Exception] = type("RemoteProtocolError", both, {})
    return broken(str(error))
