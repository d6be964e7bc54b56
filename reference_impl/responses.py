"""Streamed replies in three dialects, a few deltas to a flush.

The first delta goes out at once, so that people see that something comes; after it, what comes
within a few milliseconds goes out together. What is pending goes out at the end, before an error
too. Nothing is gathered up: each delta is written and forgotten, and where a client is slow, the
model is waited with.
"""

import asyncio
import json
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

# A reply rests when so much is pending, in bytes, and after so many deltas: a model that never
# suspends would have everybody else wait.
_MOST_PENDING, _DELTAS_BEFORE_REST = 2**16, 64

Push = Callable[[bytes], Awaitable[None]]
"""Where the bytes go; a flush each time."""


class Dialect(NamedTuple):
    """How a reply is written: its start, a piece of text, its end, an error."""

    media_type: str
    start: Callable[[], bytes]
    delta: Callable[[str], bytes]
    end: Callable[[], bytes]
    error: Callable[[str], bytes]


# Made once: with separators of one's own `json.dumps` makes one each time.
_encoder = json.JSONEncoder(separators=(",", ":"))


def _json(data: Mapping[str, Any]) -> bytes:
    # As pure ASCII, JSON holds no line break and survives half a surrogate pair.
    return _encoder.encode(data).encode("ascii")


def _openai(delta: Mapping[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {
        "id": "chatcmpl-0",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "reference",
        "choices": [choice],
    }
    return b"data: %b\n\n" % _json(chunk)


def _anthropic(kind: str, **more: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode("ascii"), _json({"type": kind, **more}))


def _ndjson(content: str, **more: Any) -> bytes:
    message = {"role": "assistant", "content": content}
    return _json({"model": "reference", "message": message, "done": False, **more}) + b"\n"


_USAGE = {"input_tokens": 0, "output_tokens": 0}

DIALECTS: Final[Mapping[str, Dialect]] = {
    "openai": Dialect(
        "text/event-stream",
        start=lambda: _openai({"role": "assistant", "content": ""}),
        delta=lambda text: _openai({"content": text}),
        end=lambda: _openai({}, "stop") + b"data: [DONE]\n\n",
        error=lambda says: (
            b"data: %b\n\n" % _json({"error": {"type": "server_error", "message": says}})
        ),
    ),
    "anthropic": Dialect(
        "text/event-stream",
        start=lambda: (
            _anthropic(
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
            + _anthropic("content_block_start", index=0, content_block={"type": "text", "text": ""})
        ),
        delta=lambda text: _anthropic(
            "content_block_delta", index=0, delta={"type": "text_delta", "text": text}
        ),
        end=lambda: (
            _anthropic("content_block_stop", index=0)
            + _anthropic(
                "message_delta",
                delta={"stop_reason": "end_turn", "stop_sequence": None},
                usage=_USAGE,
            )
            + _anthropic("message_stop")
        ),
        error=lambda says: _anthropic("error", error={"type": "api_error", "message": says}),
    ),
    "ndjson": Dialect(
        "application/x-ndjson",
        start=lambda: b"",
        delta=_ndjson,
        end=lambda: _ndjson("", done=True, done_reason="stop"),
        error=lambda says: _json({"error": says}) + b"\n",
    ),
}
"""OpenAI chat completions, Anthropic messages, and lines of JSON as Ollama sends them."""


class ResponseWriter:
    """Writes one reply; `within` is how many seconds a delta may wait for others."""

    def __init__(self, push: Push, dialect: Dialect, *, within: float = 0.05) -> None:
        self._push = push
        self._dialect = dialect
        self._within = within
        self._pending: list[bytes] = []
        self._some = asyncio.Event()
        self._turnstile = asyncio.Lock()
        self._flushing: asyncio.Task[None] | None = None

    async def write(self, deltas: AsyncIterable[str]) -> None:
        """Write all of a reply; one that fails ends with an error, and raises."""
        self._pending.append(self._dialect.start())
        self._flushing = asyncio.create_task(self._flush_now_and_then())
        written = pending = 0
        try:
            async for text in deltas:
                if not self._pending:
                    pending = 0
                piece = self._dialect.delta(text)
                self._pending.append(piece)
                written, pending = written + 1, pending + len(piece)
                await self._written()
                if pending > _MOST_PENDING:
                    await self._flush()
                elif written % _DELTAS_BEFORE_REST == 0:
                    await asyncio.sleep(0)
        except Exception as error:
            await self.fail(f"{type(error).__name__}: {error}")
            raise
        else:
            self._pending.append(self._dialect.end())
            await self._ended()
        finally:
            await self._stop(self._flushing)

    async def _written(self) -> None:
        self._some.set()
        if self._flushing is not None and self._flushing.done():
            self._flushing.result()  # the client has left

    async def fail(self, says: str) -> None:
        """End with an error, after what is pending."""
        self._pending.append(self._dialect.error(says))
        await self._flush()

    async def _ended(self) -> None:
        await self._flush()

    async def _stop(self, flushing: asyncio.Task[None]) -> None:
        flushing.cancel()
        await asyncio.wait([flushing])

    async def _flush_now_and_then(self) -> None:
        while True:
            await self._some.wait()
            await self._flush()
            await asyncio.sleep(self._within)

    async def _flush(self) -> None:
        self._some.clear()
        async with self._turnstile:  # a slow client is waited for: its bytes stay in order
            data = b"".join(self._pending)
            self._pending.clear()
            if data:
                await self._push(data)
