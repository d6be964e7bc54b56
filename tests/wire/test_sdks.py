"""The real SDKs, unmodified, over a real socket: what they make of a turn is what was scripted."""

import asyncio
import json

import anthropic
import httpx
import httpx_sse
import ollama
import openai
import pytest
from ag_ui.core import Event
from pydantic import TypeAdapter

from pytest_streamperf import Failure, Reasoning, Text, ToolCall, Turn, Usage, WireStream
from pytest_streamperf.streams.chunking import per_byte, worst_case
from pytest_streamperf.streams.faults import Disconnect, RateLimit, Truncate
from pytest_streamperf.wire.server import serve

SAID, THOUGHT = "It is in the notes: Grüße, 👩\u200d👧!", "They want a file…"
CALLS = [ToolCall("read", {"path": "ü.md", "lines": [1, 2]}), ToolCall("stop", {})]
TURN = Turn(Reasoning(THOUGHT), Text(SAID), *CALLS, usage=Usage(12, 34))
CALLED = [(call.name, dict(call.arguments)) for call in CALLS]
CUTS = pytest.mark.parametrize("cut", [per_byte, worst_case])
HELLO = [{"role": "user", "content": "hello"}]


def by_openai_chat(script):
    """What `openai` makes of chat completions."""
    said, calls, usage = "", {}, None
    with openai.OpenAI(base_url=f"{script.url}/v1", api_key="none", max_retries=0) as client:
        for chunk in client.chat.completions.create(model="m", messages=HELLO, stream=True):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                said += choice.delta.content or ""
                for call in choice.delta.tool_calls or []:
                    name, arguments = calls.get(call.index, ("", ""))
                    named = name or call.function.name
                    calls[call.index] = named, arguments + (call.function.arguments or "")
    called = [(name, json.loads(arguments)) for name, arguments in calls.values()]
    return said, called, (usage.prompt_tokens, usage.completion_tokens)


def by_async_openai_chat(script):
    """The same in an event loop, by the SDK's own accumulator."""

    async def main():
        async with (
            openai.AsyncOpenAI(base_url=f"{script.url}/v1", api_key="none") as client,
            client.chat.completions.stream(model="m", messages=HELLO) as stream,
        ):
            return await stream.get_final_completion()

    completion = asyncio.run(main())
    message = completion.choices[0].message
    called = [
        (call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls
    ]
    usage = completion.usage
    return message.content, called, (usage.prompt_tokens, usage.completion_tokens)


def by_openai_responses(script):
    """What `openai` makes of responses."""
    with (
        openai.OpenAI(base_url=f"{script.url}/v1", api_key="none") as client,
        client.responses.stream(model="m", input="hello") as stream,
    ):
        response = stream.get_final_response()
    called = [
        (item.name, json.loads(item.arguments))
        for item in response.output
        if item.type == "function_call"
    ]
    usage = response.usage
    return response.output_text, called, (usage.input_tokens, usage.output_tokens)


def by_anthropic(script):
    """What `anthropic` makes of messages."""
    with (
        anthropic.Anthropic(base_url=script.url, api_key="none") as client,
        client.messages.stream(model="m", max_tokens=99, messages=HELLO) as stream,
    ):
        message = stream.get_final_message()
    said = "".join(block.text for block in message.content if block.type == "text")
    called = [(block.name, block.input) for block in message.content if block.type == "tool_use"]
    return said, called, (message.usage.input_tokens, message.usage.output_tokens)


def by_ollama(script):
    """What `ollama` makes of its chat."""
    said, called, usage = "", [], None
    with ollama.Client(host=script.url) as client:
        for chunk in client.chat(model="m", messages=HELLO, stream=True):
            said += chunk.message.content or ""
            called += [
                (call.function.name, dict(call.function.arguments))
                for call in chunk.message.tool_calls or []
            ]
            usage = chunk.prompt_eval_count, chunk.eval_count
    return said, called, usage


def by_httpx_sse_and_ag_ui(script):
    """What `httpx-sse` decodes and the types of AG-UI take."""
    said, calls = "", {}
    with (
        httpx.Client() as client,
        httpx_sse.connect_sse(client, "POST", f"{script.url}/", json={}) as source,
    ):
        events = [TypeAdapter(Event).validate_json(event.data) for event in source.iter_sse()]
    for event in events:
        match event.type.value:
            case "TEXT_MESSAGE_CONTENT":
                said += event.delta
            case "TOOL_CALL_START":
                calls[event.tool_call_id] = event.tool_call_name, ""
            case "TOOL_CALL_ARGS":
                name, arguments = calls[event.tool_call_id]
                calls[event.tool_call_id] = name, arguments + event.delta
    called = [(name, json.loads(arguments)) for name, arguments in calls.values()]
    return said, called, (12, 34)  # AG-UI leaves the shape of a usage to its users


SDKS = {
    "openai chat": (by_openai_chat, "openai-chat"),
    "openai chat, async": (by_async_openai_chat, "openai-chat"),
    "openai responses": (by_openai_responses, "openai-responses"),
    "anthropic": (by_anthropic, "anthropic-messages"),
    "ollama": (by_ollama, "ollama-chat"),
    "httpx-sse and ag-ui": (by_httpx_sse_and_ag_ui, "ag-ui"),
}
EACH_SDK = pytest.mark.parametrize(("sdk", "name"), SDKS.values(), ids=SDKS)


@CUTS
@EACH_SDK
def test_an_sdk_assembles_what_was_scripted(sdk, name, cut):
    """Text, parallel tool calls and usage, wherever chunks end."""
    with serve(WireStream(TURN, name, cut=cut)) as script:
        assert sdk(script) == (SAID, CALLED, (12, 34))


FAILED = Turn(Text("Hi"), Failure("Overloaded", type="overloaded_error"))


@pytest.mark.parametrize(
    ("sdk", "name", "error"),
    [
        (by_openai_chat, "openai-chat", openai.APIError),
        (by_openai_responses, "openai-responses", (openai.APIError, RuntimeError)),
        (by_anthropic, "anthropic-messages", anthropic.APIError),
        (by_ollama, "ollama-chat", ollama.ResponseError),
    ],
)
def test_an_sdk_raises_its_own_error(sdk, name, error):
    """For an error event in the middle of a turn, and for a connection that breaks."""
    with serve(WireStream(FAILED, name)) as script, pytest.raises(error):
        sdk(script)


@pytest.mark.parametrize(
    ("sdk", "name", "says"),
    [
        (*SDKS["openai chat"], "Connection error"),
        (*SDKS["anthropic"], "peer closed connection|Connection error"),
        (*SDKS["ollama"], "peer closed connection"),
    ],
)
def test_an_sdk_notices_that_a_connection_broke(sdk, name, says):
    """Or lets the error of its transport through."""
    with (
        serve(WireStream(TURN, name).with_fault(Disconnect(after=4))) as script,
        pytest.raises(Exception, match=says),
    ):
        sdk(script)


def test_a_truncated_reply_goes_unnoticed_by_openai():
    """As was seen with openai 3.54: a client that cares has to look for the finish_reason."""
    stream = WireStream(Turn(Text(SAID), usage=Usage(1, 1))).with_fault(Truncate(after=4))
    with (
        serve(stream) as script,
        openai.OpenAI(base_url=f"{script.url}/v1", api_key="none") as client,
    ):
        chunks = list(client.chat.completions.create(model="m", messages=HELLO, stream=True))
    assert not any(choice.finish_reason for chunk in chunks for choice in chunk.choices)


def test_an_sdk_tries_again_when_it_is_told_to():
    """After a rate limit, in as many seconds as the server says."""
    limited = WireStream(TURN).with_fault(RateLimit(retry_after=0.01))
    with (
        serve(limited, WireStream(TURN)) as script,
        openai.OpenAI(base_url=f"{script.url}/v1", api_key="none", max_retries=1) as client,
    ):
        list(client.chat.completions.create(model="m", messages=HELLO, stream=True))
        assert len(script.requests) == 2
