"""anthropic: arguments of a tool call. Every delta has all the arguments parsed again."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import anthropic
import httpx2

_BLOCK = {"type": "tool_use", "id": "toolu_1", "name": "save", "input": {}}
_MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "a-model",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


def message_stream(stream):
    """Follow a reply as the documentation shows, over a transport that makes it of the stream."""
    transport = httpx2.MockTransport(lambda _request: _reply(stream))
    question = {"role": "user", "content": "Save it."}
    shown = 0
    with (
        anthropic.Anthropic(api_key="-", http_client=httpx2.Client(transport=transport)) as client,
        client.messages.stream(max_tokens=1, messages=[question], model="a-model") as reply,
    ):
        for event in reply:
            shown += event.type == "input_json"
    return shown


def _reply(stream: Iterable[str]) -> httpx2.Response:
    return httpx2.Response(
        200, headers={"Content-Type": "text/event-stream"}, content=_events(stream)
    )


def _events(stream: Iterable[str]) -> Iterator[bytes]:
    yield _event("message_start", message=_MESSAGE)
    yield _event("content_block_start", index=0, content_block=_BLOCK)
    for delta in stream:
        arguments = {"type": "input_json_delta", "partial_json": delta}
        yield _event("content_block_delta", index=0, delta=arguments)
    yield _event("content_block_stop", index=0)
    yield _event("message_stop")


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()
