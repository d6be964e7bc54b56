"""How a turn is written: server-sent events, over ASGI.

    delta        {"text"}                       a piece of text, as soon as the engine yields it
    tool_call    {"name", "arguments"}          a tool starts
    tool_result  {"name", "content", "failed"}  it is done
    done         {"text"}                       the final reply, whole
    error        {"error": {"type", "message"}} the turn failed; nothing follows

While nothing else is written, `: ping` comments keep the connection alive.
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
# An engine that never suspends would hold the loop: other turns would wait, and nobody would notice
# that the client has left. asyncio warns from the fifth write to a lost connection on.
_WRITES_BEFORE_REST = 4
# What is said where the server stops first, and the seconds that a client has to take it.
_STOPPING, _LAST_WORDS = "the server is stopping", 1.0

_log = logging.getLogger(__name__)


class EventStream:
    """An ASGI response that writes one turn, a write per event, at the pace of its client.

    A turn that raises is logged and ends in an `error` event. When the client leaves, the turn is
    cancelled where it waits, and closed.
    """

    def __init__(self, turn: AsyncGenerator[Event, None], heartbeat: float) -> None:
        self._turn = turn
        self._heartbeat = heartbeat

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Write the response; return when it is complete, or nobody is there to read it."""
        await send(_start("text/event-stream"))
        body = _Body(send)
        stopping = _sse("error", error_body("server_stopping", _STOPPING))
        await to_the_end(self._write(body, receive), lambda: body.write(stopping), send)

    async def _write(self, body: "_Body", receive: Receive) -> None:
        async with asyncio.TaskGroup() as group:
            watches = (
                group.create_task(_raise_on_disconnect(receive)),
                group.create_task(body.keep_alive(self._heartbeat)),
            )
            async with aclosing(_frames(self._turn)) as frames:
                async for frame in frames:
                    await body.write(frame)
            # A ping on its way is let through, and none comes after the end.
            async with body.turnstile:
                for watch in watches:
                    watch.cancel()


class ReplyStream:
    """An ASGI response that writes one reply in a dialect, flush by flush.

    One that fails is logged, and ends in the dialect's error. When the client leaves, the reply is
    cancelled where it waits, and closed.
    """

    def __init__(self, deltas: AsyncGenerator[str, None], dialect: Dialect) -> None:
        self._deltas = deltas
        self._dialect = dialect

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Write the response; return when it is complete, or nobody is there to read it."""

        async def push(data: bytes) -> None:
            try:
                await send({"type": "http.response.body", "body": data, "more_body": True})
            except OSError as error:
                raise ClientDisconnect from error

        await send(_start(self._dialect.media_type))
        writer = responses.ResponseWriter(push, self._dialect)
        await to_the_end(self._write(writer, receive), lambda: writer.fail(_STOPPING), send)

    async def _write(self, writer: responses.ResponseWriter, receive: Receive) -> None:
        async with asyncio.TaskGroup() as group, aclosing(self._deltas) as deltas:
            watch = group.create_task(_raise_on_disconnect(receive))
            try:
                await writer.write(deltas)
            except ClientDisconnect:
                raise
            except Exception:  # noqa: BLE001 - the client has been told
                _log.exception("a reply failed")
            watch.cancel()


async def to_the_end(
    writing: Coroutine[Any, Any, None], stopping: Callable[[], Awaitable[None]], send: Send
) -> None:
    """Write a body and its end; where the server stops first, which cancels it, say so there."""
    end: Message = {"type": "http.response.body", "body": b"", "more_body": False}
    try:
        try:
            await writing
            await send(end)
        except asyncio.CancelledError:
            # It ends as it should, if early: a cancelled response would be logged as a failed one.
            asyncio.current_task().uncancel()  # type: ignore[union-attr]
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS):
                    await stopping()
                    await send(end)
    # Servers of ASGI 2.4 and later raise OSError from `send` when the client has left.
    except* (ClientDisconnect, OSError):
        pass


def _start(media_type: str) -> Message:
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


class _Body:
    """The response body, frame by frame: pings go between events, never inside one."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.turnstile = asyncio.Lock()
        self._clock = asyncio.get_running_loop().time
        self._written = self._clock()
        self._writes = 0

    async def write(self, frame: bytes) -> None:
        async with self.turnstile:
            await self._put(frame)
        self._writes += 1
        if self._writes % _WRITES_BEFORE_REST == 0:
            await asyncio.sleep(0)

    async def keep_alive(self, heartbeat: float) -> None:
        while True:
            await asyncio.sleep(self._written + heartbeat - self._clock())
            # An event that a slow client holds up is not silence: wait for it, then look.
            async with self.turnstile:
                if self._clock() - self._written >= heartbeat:
                    await self._put(_PING)

    async def _put(self, frame: bytes) -> None:
        await self._send({"type": "http.response.body", "body": frame, "more_body": True})
        self._written = self._clock()


async def _frames(turn: AsyncGenerator[Event, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(turn):
        try:
            async for event in turn:
                yield _frame(event)
        except Exception as error:  # noqa: BLE001 - the client hears of whatever went wrong
            _log.exception("a turn failed")
            yield _sse("error", error_body("turn_failed", f"{type(error).__name__}: {error}"))


def _frame(event: Event) -> bytes:
    match event:
        case TextDelta(text):
            # Nearly all that there is: a text takes the encoder a fraction of what an object does.
            return f'event: delta\ndata: {{"text": {json.dumps(text)}}}\n\n'.encode("ascii")
        case Invocation(name, arguments):
            return _sse("tool_call", {"name": name, "arguments": arguments})
        case ToolResult(name, content, failed):
            return _sse("tool_result", {"name": name, "content": content, "failed": failed})
        case Done(text):
            return _sse("done", {"text": text})


def _sse(event: str, data: object) -> bytes:
    # As pure ASCII, JSON holds no line break and survives half a surrogate pair.
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode("ascii")


def error_body(kind: str, message: str) -> dict[str, dict[str, str]]:
    """Return what tells a client of an error, in a stream or in place of one."""
    return {"error": {"type": kind, "message": message}}
