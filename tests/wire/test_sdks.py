"""Tests with the real SDKs, unmodified, over a real socket.

A function `by_SDK` takes a served script, and returns the text, the tool calls and the usage that
the SDK assembled. They must equal those of the scripted turn.
"""

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

TEXT, REASONING = "It is in the notes: Grüße, 👩\u200d👧!", "They want a file…"
CALLS = [ToolCall("read", {"path": "ü.md", "lines": [1, 2]}), ToolCall("stop", {})]
TURN = Turn(Reasoning(REASONING), Text(TEXT), *CALLS, usage=Usage(12, 34))
CALL_PAIRS = [(call.name, dict(call.arguments)) for call in CALLS]
CUTS = pytest.mark.parametrize("cut", [per_byte, worst_case])
HELLO = [{"role": "user", "content": "hello"}]


def by_openai_chat(script):
    """Return what `openai` assembles from a chat completion, chunk by chunk."""
    text, calls, usage = "", {}, None
    with openai.OpenAI(base_url=f"{script.url}/v1", api_key="none", max_retries=0) as client:
        for chunk in client.chat.completions.create(model="m", messages=HELLO, stream=True):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                for call in choice.delta.tool_calls or []:
                    name, arguments = calls.get(call.index, ("", ""))
                    call_name = name or call.function.name
                    calls[call.index] = call_name, arguments + (call.function.arguments or "")
    call_pairs = [(name, json.loads(arguments)) for name, arguments in calls.values()]
    return text, call_pairs, (usage.prompt_tokens, usage.completion_tokens)


def by_async_openai_chat(script):
    """Return what the async client of `openai` assembles from a chat completion by itself."""

    async def main():
        async with (
            openai.AsyncOpenAI(base_url=f"{script.url}/v1", api_key="none") as client,
            client.chat.completions.stream(model="m", messages=HELLO) as stream,
        ):
            return await stream.get_final_completion()

    completion = asyncio.run(main())
    message = completion.choices[0].message
    call_pairs = [
        (call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls
    ]
    usage = completion.usage
    return message.content, call_pairs, (usage.prompt_tokens, usage.completion_tokens)


def by_openai_responses(script):
    """Return what `openai` assembles from a response of the Responses API."""
    with (
        openai.OpenAI(base_url=f"{script.url}/v1", api_key="none") as client,
        client.responses.stream(model="m", input="hello") as stream,
    ):
        response = stream.get_final_response()
    call_pairs = [
        (item.name, json.loads(item.arguments))
        for item in response.output
        if item.type == "function_call"
    ]
    usage = response.usage
    return response.output_text, call_pairs, (usage.input_tokens, usage.output_tokens)


def by_anthropic(script):
    """Return what `anthropic` assembles from a message."""
    with (
        anthropic.Anthropic(base_url=script.url, api_key="none") as client,
        client.messages.stream(model="m", max_tokens=99, messages=HELLO) as stream,
    ):
        message = stream.get_final_message()
    text = "".join(block.text for block in message.content if block.type == "text")
    call_pairs = [
        (block.name, block.input) for block in message.content if block.type == "tool_use"
    ]
    return text, call_pairs, (message.usage.input_tokens, message.usage.output_tokens)


def by_ollama(script):
    """Return what `ollama` yields for a chat, put together."""
    text, call_pairs, usage = "", [], None
    with ollama.Client(host=script.url) as client:
        for chunk in client.chat(model="m", messages=HELLO, stream=True):
            text += chunk.message.content or ""
            call_pairs += [
                (call.function.name, dict(call.function.arguments))
                for call in chunk.message.tool_calls or []
            ]
            usage = chunk.prompt_eval_count, chunk.eval_count
    return text, call_pairs, usage


def by_httpx_sse_and_ag_ui(script):
    """Return the turn that `httpx-sse` decodes and the types of AG-UI validate."""
    text, calls = "", {}
    with (
        httpx.Client() as client,
        httpx_sse.connect_sse(client, "POST", f"{script.url}/", json={}) as source,
    ):
        events = [TypeAdapter(Event).validate_json(event.data) for event in source.iter_sse()]
    for event in events:
        match event.type.value:
            case "TEXT_MESSAGE_CONTENT":
                text += event.delta
            case "TOOL_CALL_START":
                calls[event.tool_call_id] = event.tool_call_name, ""
            case "TOOL_CALL_ARGS":
                name, arguments = calls[event.tool_call_id]
                calls[event.tool_call_id] = name, arguments + event.delta
    call_pairs = [(name, json.loads(arguments)) for name, arguments in calls.values()]
    return text, call_pairs, (12, 34)  # AG-UI defines no usage: this equals the script's


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
    """An SDK assembles the scripted text, tool calls and usage, for every chunking."""
    with serve(WireStream(TURN, name, cut=cut)) as script:
        assert sdk(script) == (TEXT, CALL_PAIRS, (12, 34))


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
    """An SDK raises its own error for an error event in the middle of a turn."""
    with serve(WireStream(FAILED, name)) as script, pytest.raises(error):
        sdk(script)


@pytest.mark.parametrize(
    ("sdk", "name", "message"),
    [
        (*SDKS["openai chat"], "Connection error"),
        (*SDKS["anthropic"], "peer closed connection|Connection error"),
        (*SDKS["ollama"], "peer closed connection"),
    ],
)
def test_an_sdk_notices_that_a_connection_broke(sdk, name, message):
    """An SDK raises an error for a broken connection: its own, or the one of its transport."""
    with (
        serve(WireStream(TURN, name).with_fault(Disconnect(after=4))) as script,
        pytest.raises(Exception, match=message),
    ):
        sdk(script)


def test_a_truncated_reply_goes_unnoticed_by_openai():
    """The `openai` SDK (measured with 3.54) raises no error for a truncated stream.

    A client must look for the finish_reason itself.
    """
    stream = WireStream(Turn(Text(TEXT), usage=Usage(1, 1))).with_fault(Truncate(after=4))
    with (
        serve(stream) as script,
        openai.OpenAI(base_url=f"{script.url}/v1", api_key="none") as client,
    ):
        chunks = list(client.chat.completions.create(model="m", messages=HELLO, stream=True))
    assert not any(choice.finish_reason for chunk in chunks for choice in chunk.choices)


def test_an_sdk_tries_again_when_it_is_told_to():
    """An SDK repeats a rate-limited request after the time that the server names."""
    limited = WireStream(TURN).with_fault(RateLimit(retry_after=0.01))
    with (
        serve(limited, WireStream(TURN)) as script,
        openai.OpenAI(base_url=f"{script.url}/v1", api_key="none", max_retries=1) as client,
    ):
        list(client.chat.completions.create(model="m", messages=HELLO, stream=True))
        assert len(script.requests) == 2
