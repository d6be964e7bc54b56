"""Serve scripted streams, or any ASGI app, to real clients from a thread of the test process.

`serve` answers requests with streams, and `serve_app` runs an ASGI app; both listen on a socket and
yield a URL. A `Script` is the ASGI app behind `serve`; it also answers requests that respx mocks.

    with serve(WireStream(turn, "openai-chat")) as server:
        client = OpenAI(base_url=f"{server.url}/v1", api_key="none")

A request gets the next stream of the script; after the last stream, the last one again. A chunk of
the stream is sent at the pace of the stream, as one chunk of an HTTP/1.1 body or one message of a
WebSocket.

The first message of a WebSocket is its request. The connection is open by then, so HTTP 429 is no
longer possible: a `RateLimit` closes it with code 1013, "try again later", and the reason holds the
seconds. A stream that breaks off aborts the connection: an HTTP body then has no last chunk, and a
WebSocket gets no close frame.
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

# Not measured. The limit bounds the memory of a script that answers requests for a long time.
_MAX_KEPT_REQUESTS = 1_000
# https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1, and
# https://www.iana.org/assignments/websocket/websocket.xhtml#close-code-number
_NORMAL_CLOSURE, _TRY_AGAIN_LATER = 1000, 1013

# Time limit for the start of a server, and for its stop after the grace. One second is enough on a
# busy machine, so a server that needs ten seconds hangs.
_PATIENCE_SECONDS = 10.0
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Request:
    """A request of a client, over HTTP or a WebSocket; the names of `headers` are in lower case.

    >>> Request("/v1/chat/completions", {}, b'{"stream": true}').json["stream"]
    True
    """

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed as JSON."""
        return json.loads(self.body)


Answer = Stream | Callable[[Request], Stream]
"""An answer of a script: a stream of bytes, or a function from a request to one."""


class Script:
    """An ASGI app that answers each request with the next of its answers.

    Its method `respond` answers the requests that respx mocks. `requests` holds the latest 1,000
    requests. `url` is the base URL of the server that `serve` started, otherwise empty.
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
        self.requests: deque[Request] = deque(maxlen=_MAX_KEPT_REQUESTS)
        self._answers = deque(answers)

    def _answer(self, request: Request) -> Stream:
        self.requests.append(request)
        answer = self._answers.popleft() if len(self._answers) > 1 else self._answers[0]
        return answer if isinstance(answer, Stream) else answer(request)

    async def __call__(self, scope: Mapping[str, Any], receive: _Receive, send: _Send) -> None:
        """Answer a request as an ASGI app; raise the error of a stream that breaks off."""
        send_answer = {"http": _answer_http, "websocket": _answer_websocket}[scope["type"]]
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}

        def answer(body: bytes) -> Stream:
            return self._answer(Request(scope["path"], headers, body))

        await send_answer(scope["path"], answer, receive, send)

    def respond(self, request: Any) -> Any:
        """Answer a request that respx mocks: `respx.post(...).mock(side_effect=script.respond)`.

        This works for clients of httpx and, with pytest-httpx2, for clients of httpx2.
        """
        import httpx  # noqa: PLC0415 - respx is installed, and it needs httpx

        headers = {name.lower(): value for name, value in request.headers.items()}
        stream = self._answer(Request(request.url.path, headers, request.read()))
        status, response_headers, body = _response_start(stream, request.url.path)
        content = _mocked_body(stream) if body is None else httpx.ByteStream(body)
        return httpx.Response(status, headers=response_headers, stream=content)


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
    # A stream that breaks off on purpose is no error of the server, so its log must not show one.
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
    `lifespan="off"` the app gets no lifespan events. `loop` and `http` are the event loop and the
    HTTP parser that uvicorn uses.

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
    if not 0 <= port <= _MAX_PORT:
        msg = f"port={port!r}: must be 0 to {_MAX_PORT}"
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
    """Keep errors for which `expected` returns true out of uvicorn's log, within the block."""

    def unexpected(record: logging.LogRecord) -> bool:
        return not (record.exc_info and expected(record.exc_info[1]))

    logger = logging.getLogger("uvicorn.error")
    logger.addFilter(unexpected)
    try:
        yield
    finally:
        logger.removeFilter(unexpected)


def repeated_errors() -> Callable[[BaseException | None], bool]:
    """Return a predicate for `unlogged` that is true for an error that came before.

    Two errors are the same if their types and texts are equal. The log then shows an error once,
    however many clients it concerns.
    """
    earlier_errors: set[tuple[type, str]] = set()

    def is_repeated(error: BaseException | None) -> bool:
        key = type(error), str(error)
        repeated = key in earlier_errors
        earlier_errors.add(key)
        return repeated

    return is_repeated


def _response_start(stream: Stream, path: str) -> tuple[int, dict[str, str], bytes | None]:
    """Return the status, the headers and the body of the response to a request for `path`.

    The body is None if the stream itself is the body.
    """
    if isinstance(stream.error, RateLimited):
        headers = {"retry-after": stream.error.header}
        return _error_response(429, "rate_limit_error", str(stream.error), headers)
    dialect = stream.dialect if isinstance(stream, WireStream) else None
    if dialect and not path.endswith(dialect.PATH.rstrip("/")):  # a PATH of "/" allows every path
        message = f"nothing is at {path}: the script serves {dialect.NAME} at {dialect.PATH}"
        return _error_response(404, "not_found_error", message, {})
    return 200, {"content-type": stream.media_type, "cache-control": "no-cache"}, None


def _error_response(
    status: int, kind: str, message: str, headers: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    # OpenAI and Anthropic send errors in this format. Clients of other services show it as text.
    error = {"type": "error", "error": {"type": kind, "message": message}}
    return status, {"content-type": "application/json", **headers}, json.dumps(error).encode()


async def _answer_http(
    path: str, answer: Callable[[bytes], Stream], receive: _Receive, send: _Send
) -> None:
    pieces, more = [], True
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    stream = answer(b"".join(pieces))
    status, headers, body = _response_start(stream, path)
    raw_headers = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw_headers})

    async def send_stream() -> None:
        async for chunk in stream if body is None else _single_chunk(body):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})

    await _send_until_disconnect(send_stream(), receive)


async def _answer_websocket(
    _path: str, answer: Callable[[bytes], Stream], receive: _Receive, send: _Send
) -> None:
    """Accept a WebSocket, take its first message as the request, and send the answer."""
    await receive()
    await send({"type": "websocket.accept"})
    message = await receive()
    if message["type"] == "websocket.disconnect":
        return
    stream = answer(message.get("bytes") or (message.get("text") or "").encode())

    async def send_stream() -> None:
        code, reason = _NORMAL_CLOSURE, ""
        try:
            async for chunk in stream:
                await send({"type": "websocket.send", "bytes": chunk})
        except RateLimited as limited:
            code, reason = _TRY_AGAIN_LATER, str(limited)
        await send({"type": "websocket.close", "code": code, "reason": reason})

    await _send_until_disconnect(send_stream(), receive)


async def _single_chunk(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _send_until_disconnect(sending: Coroutine[Any, Any, None], receive: _Receive) -> None:
    """Await `sending`, and cancel it as soon as the client disconnects."""

    async def disconnected() -> None:
        while not (await receive())["type"].endswith(".disconnect"):
            pass

    sender, watcher = asyncio.ensure_future(sending), asyncio.ensure_future(disconnected())
    try:
        await asyncio.wait({sender, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if sender.done():
            sender.result()
    finally:
        for task in (sender, watcher):
            task.cancel()
        await asyncio.gather(sender, watcher, return_exceptions=True)


def _mocked_body(stream: Stream) -> Any:
    """Return the stream as the body of an httpx response, for sync and async clients."""
    import httpx  # noqa: PLC0415

    class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            try:
                yield from stream
            except ConnectionError as error:
                raise _broken_connection_error(error) from error

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for chunk in stream:
                    yield chunk
            except ConnectionError as error:
                raise _broken_connection_error(error) from error

    return Body()


def _broken_connection_error(error: ConnectionError) -> Exception:
    """Return the error that the transport of a client raises for a broken connection.

    The client may use httpcore or httpcore2, so the error derives from the class of each one that
    is loaded.
    """
    loaded = [sys.modules[name] for name in ("httpcore", "httpcore2") if name in sys.modules]
    bases = tuple(module.RemoteProtocolError for module in loaded)
    error_class: type[Exception] = type("RemoteProtocolError", bases, {})
    return error_class(str(error))
