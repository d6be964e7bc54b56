"""Streamed replies in three dialects: OpenAI, Anthropic and NDJSON, several deltas to a flush.

`ResponseWriter` takes the deltas of one reply and pushes bytes. It flushes the first delta at once,
so that the user sees it early. Later deltas share a flush, at most one every 50 ms. The writer
flushes all pending bytes at the end, and also before an error. It does not keep the reply. A slow
client holds the model back: the writer takes no further delta while too many bytes are pending.
"""

import asyncio
import json
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

# Above this number of pending bytes, the writer flushes before it takes the next delta. After this
# number of deltas it yields to the event loop, because a model that never suspends would block all
# other clients. Neither number is measured.
_MAX_PENDING_BYTES, _DELTAS_BEFORE_SLEEP = 2**16, 64

Push = Callable[[bytes], Awaitable[None]]
"""An async function that sends bytes to the client; each call is one flush."""


class Dialect(NamedTuple):
    """A wire format of replies: functions that encode the start, a delta, the end and an error."""

    media_type: str
    start: Callable[[], bytes]
    delta: Callable[[str], bytes]
    end: Callable[[], bytes]
    error: Callable[[str], bytes]


# `json.dumps` would create an encoder at each call, because the separators are not the default.
_encoder = json.JSONEncoder(separators=(",", ":"))


def _json(data: Mapping[str, Any]) -> bytes:
    # JSON in ASCII has no line breaks, and a lone surrogate does not fail to encode.
    return _encoder.encode(data).encode("ascii")


def _openai_chunk(delta: Mapping[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {
        "id": "chatcmpl-0",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "reference",
        "choices": [choice],
    }
    return b"data: %b\n\n" % _json(chunk)


def _anthropic_event(kind: str, **more: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode("ascii"), _json({"type": kind, **more}))


def _ndjson_line(content: str, **more: Any) -> bytes:
    message = {"role": "assistant", "content": content}
    return _json({"model": "reference", "message": message, "done": False, **more}) + b"\n"


_USAGE = {"input_tokens": 0, "output_tokens": 0}

DIALECTS: Final[Mapping[str, Dialect]] = {
    "openai": Dialect(
        "text/event-stream",
        start=lambda: _openai_chunk({"role": "assistant", "content": ""}),
        delta=lambda text: _openai_chunk({"content": text}),
        end=lambda: _openai_chunk({}, "stop") + b"data: [DONE]\n\n",
        error=lambda message: (
            b"data: %b\n\n" % _json({"error": {"type": "server_error", "message": message}})
        ),
    ),
    "anthropic": Dialect(
        "text/event-stream",
        start=lambda: (
            _anthropic_event(
                "message_start",
                message={
                    "id": "msg_0",
                    "type": "message",
                    "role": "assistant",
                    "model": "reference",
                    "content": [],
                    "stop_reason": None,
                    "stop_sequence": None,
                    "usage": _USAGE,
                },
            )
            + _anthropic_event(
                "content_block_start", index=0, content_block={"type": "text", "text": ""}
            )
        ),
        delta=lambda text: _anthropic_event(
            "content_block_delta", index=0, delta={"type": "text_delta", "text": text}
        ),
        end=lambda: (
            _anthropic_event("content_block_stop", index=0)
            + _anthropic_event(
                "message_delta",
                delta={"stop_reason": "end_turn", "stop_sequence": None},
                usage=_USAGE,
            )
            + _anthropic_event("message_stop")
        ),
        error=lambda message: _anthropic_event(
            "error", error={"type": "api_error", "message": message}
        ),
    ),
    "ndjson": Dialect(
        "application/x-ndjson",
        start=lambda: b"",
        delta=_ndjson_line,
        end=lambda: _ndjson_line("", done=True, done_reason="stop"),
        error=lambda message: _json({"error": message}) + b"\n",
    ),
}
"""The dialects by name: OpenAI chat completions, Anthropic messages, and Ollama's NDJSON."""


class ResponseWriter:
    """The writer of one reply. A delta waits at most `within` seconds to share a flush."""

    def __init__(self, push: Push, dialect: Dialect, *, within: float = 0.05) -> None:
        self._push = push
        self._dialect = dialect
        self._interval_seconds = within
        self._pending: list[bytes] = []
        self._has_pending = asyncio.Event()
        self._push_lock = asyncio.Lock()
        self._flush_task: asyncio.Task[None] | None = None

    async def write(self, deltas: AsyncIterable[str]) -> None:
        """Write a whole reply. If `deltas` raises, write an error of the dialect and re-raise."""
        self._pending.append(self._dialect.start())
        self._flush_task = asyncio.create_task(self._flush_periodically())
        written = pending = 0
        try:
            async for text in deltas:
                if not self._pending:
                    pending = 0
                piece = self._dialect.delta(text)
                self._pending.append(piece)
                written, pending = written + 1, pending + len(piece)
                await self._after_delta()
                if pending > _MAX_PENDING_BYTES:
                    await self._flush()
                elif written % _DELTAS_BEFORE_SLEEP == 0:
                    await asyncio.sleep(0)
        except Exception as error:
            await self.fail(f"{type(error).__name__}: {error}")
            raise
        else:
            self._pending.append(self._dialect.end())
            await self._after_last_delta()
        finally:
            await self._stop_flush_task(self._flush_task)

    async def _after_delta(self) -> None:
        self._has_pending.set()
        if self._flush_task is not None and self._flush_task.done():
            self._flush_task.result()  # raises if the client has left

    async def fail(self, message: str) -> None:
        """End the reply with an error, after all pending deltas."""
        self._pending.append(self._dialect.error(message))
        await self._flush()

    async def _after_last_delta(self) -> None:
        await self._flush()

    async def _stop_flush_task(self, flush_task: asyncio.Task[None]) -> None:
        flush_task.cancel()
        await asyncio.wait([flush_task])

    async def _flush_periodically(self) -> None:
        while True:
            await self._has_pending.wait()
            await self._flush()
            await asyncio.sleep(self._interval_seconds)

    async def _flush(self) -> None:
        self._has_pending.clear()
        async with self._push_lock:  # one push at a time, so the bytes stay in order
            data = b"".join(self._pending)
            self._pending.clear()
            if data:
                await self._push(data)
