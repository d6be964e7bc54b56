"""ASGI responses that stream: `EventStream` writes a turn of an agent, `ReplyStream` a reply.

An `EventStream` writes these server-sent events:

    delta        {"text"}                       a piece of text, as soon as the engine yields it
    tool_call    {"name", "arguments"}          a tool starts
    tool_result  {"name", "content", "failed"}  the tool has ended
    done         {"text"}                       the whole final reply
    error        {"error": {"type", "message"}} the turn failed; no event follows

While the engine yields no event, `: ping` comments keep the connection alive. A `ReplyStream`
writes only the model's text, in one of the dialects of `responses`.

Both close their source when the client leaves, and both end with an error event if the server
stops.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from reference_impl import responses
from reference_impl.agent import Done, Event, Invocation, TextDelta, ToolResult
from reference_impl.responses import Dialect

_PING = b": ping\n\n"
# An engine that never suspends would block the event loop: other turns would wait, and the server
# would not notice that the client has left. So the response yields to the loop after every fourth
# write: asyncio logs a warning from the fifth write to a lost connection on.
_WRITES_BEFORE_SLEEP = 4
# The error message of a stream that the server cuts off by stopping, and the longest time to write
# it. Not measured: one second is enough for a client that reads.
_STOPPING_MESSAGE, _LAST_WRITE_SECONDS = "the server is stopping", 1.0

_log = logging.getLogger(__name__)


class EventStream:
    """An ASGI response that writes one turn of an agent, one write per event.

    The turn runs only as fast as its client reads. A turn that raises is logged, and its last event
    is `error`. When the client leaves, the turn is cancelled and closed. After `heartbeat` seconds
    without a write, the response writes a ping.
    """

    def __init__(self, turn: AsyncGenerator[Event, None], heartbeat: float) -> None:
        self._turn = turn
        self._heartbeat = heartbeat

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Write the response; return when it is complete, or when the client has left."""
        await send(_start_message("text/event-stream"))
        body = _ResponseBody(send)
        stopping = _sse("error", error_body("server_stopping", _STOPPING_MESSAGE))
        await to_the_end(self._write_body(body, receive), lambda: body.write(stopping), send)

    async def _write_body(self, body: "_ResponseBody", receive: Receive) -> None:
        async with asyncio.TaskGroup() as group:
            background_tasks = (
                group.create_task(_raise_on_disconnect(receive)),
                group.create_task(body.keep_alive(self._heartbeat)),
            )
            async with aclosing(_frames(self._turn)) as frames:
                async for frame in frames:
                    await body.write(frame)
            # The lock lets an unfinished ping finish, and no ping follows the last event.
            async with body.write_lock:
                for disconnect_watch in background_tasks:
                    disconnect_watch.cancel()


class ReplyStream:
    """An ASGI response that writes one reply of a model in a dialect, flush by flush.

    A reply that raises is logged, and ends with an error of the dialect. When the client leaves,
    the reply is cancelled and closed.
    """

    def __init__(self, deltas: AsyncGenerator[str, None], dialect: Dialect) -> None:
        self._deltas = deltas
        self._dialect = dialect

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Write the response; return when it is complete, or when the client has left."""

        async def push(data: bytes) -> None:
            try:
                await send({"type": "http.response.body", "body": data, "more_body": True})
            except OSError as error:
                raise ClientDisconnect from error

        await send(_start_message(self._dialect.media_type))
        reply_writer = responses.ResponseWriter(push, self._dialect)
        await to_the_end(
            self._write_body(reply_writer, receive),
            lambda: reply_writer.fail(_STOPPING_MESSAGE),
            send,
        )

    async def _write_body(self, reply_writer: responses.ResponseWriter, receive: Receive) -> None:
        async with asyncio.TaskGroup() as group, aclosing(self._deltas) as deltas:
            disconnect_watch = group.create_task(_raise_on_disconnect(receive))
            try:
                await reply_writer.write(deltas)
            except ClientDisconnect:
                raise
            except Exception:  # noqa: BLE001 - the writer has sent the error to the client
                _log.exception("a reply failed")
            disconnect_watch.cancel()


async def to_the_end(
    writing: Coroutine[Any, Any, None], stopping: Callable[[], Awaitable[None]], send: Send
) -> None:
    """Run `writing`, which writes a response body, and then write the end of the body.

    A server that stops cancels the response. Then `stopping` writes the reason before the end. A
    client that has left ends the response silently.
    """
    end: Message = {"type": "http.response.body", "body": b"", "more_body": False}
    try:
        try:
            await writing
            await send(end)
        except asyncio.CancelledError:
            # The response ends early, but well: servers log a cancelled response as a failed one.
            asyncio.current_task().uncancel()  # type: ignore[union-attr]
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WRITE_SECONDS):
                    await stopping()
                    await send(end)
    # Servers of ASGI 2.4 and later raise OSError from `send` when the client has left.
    except* (ClientDisconnect, OSError):
        pass


def _start_message(media_type: str) -> Message:
    headers = [
        (b"content-type", media_type.encode()),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
    ]
    return {"type": "http.response.start", "status": 200, "headers": headers}


async def _raise_on_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ClientDisconnect


class _ResponseBody:
    """The response body of a turn: pings go between the frames of events, never inside one."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.write_lock = asyncio.Lock()
        self._clock = asyncio.get_running_loop().time
        self._last_write = self._clock()
        self._write_count = 0

    async def write(self, frame: bytes) -> None:
        async with self.write_lock:
            await self._send_frame(frame)
        self._write_count += 1
        if self._write_count % _WRITES_BEFORE_SLEEP == 0:
            await asyncio.sleep(0)

    async def keep_alive(self, heartbeat: float) -> None:
        while True:
            await asyncio.sleep(self._last_write + heartbeat - self._clock())
            # While a slow client holds up an event, a ping is not due: wait for that write first.
            async with self.write_lock:
                if self._clock() - self._last_write >= heartbeat:
                    await self._send_frame(_PING)

    async def _send_frame(self, frame: bytes) -> None:
        await self._send({"type": "http.response.body", "body": frame, "more_body": True})
        self._last_write = self._clock()


async def _frames(turn: AsyncGenerator[Event, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(turn):
        try:
            async for event in turn:
                yield _frame(event)
        except Exception as error:  # noqa: BLE001 - every error is sent to the client
            _log.exception("a turn failed")
            yield _sse("error", error_body("turn_failed", f"{type(error).__name__}: {error}"))


def _frame(event: Event) -> bytes:
    match event:
        case TextDelta(text):
            # Nearly all events are deltas, and to encode a string is faster than to encode a dict.
            return f'event: delta\ndata: {{"text": {json.dumps(text)}}}\n\n'.encode("ascii")
        case Invocation(name, arguments):
            return _sse("tool_call", {"name": name, "arguments": arguments})
        case ToolResult(name, content, failed):
            return _sse("tool_result", {"name": name, "content": content, "failed": failed})
        case Done(text):
            return _sse("done", {"text": text})


def _sse(event: str, data: object) -> bytes:
    # `json.dumps` writes pure ASCII: no line break can split the event, and a lone surrogate, which
    # UTF-8 cannot encode, is escaped.
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode("ascii")


def error_body(kind: str, message: str) -> dict[str, dict[str, str]]:
    """Return the JSON data of an error, for an event of a stream or for a whole response."""
    return {"error": {"type": kind, "message": message}}
