"""Growth checks with `serve`: a consumer reads its deltas from a server in another process.

The consumer gets a URL instead of a stream, and reads from it with a real SDK. A dialect is the
protocol of the server, such as that of OpenAI's chat completions.
"""

import asyncio
import socket
import sys

import anthropic
import httpx
import ollama
import openai
import pytest

from pytest_streamperf import GrowthExceeded, NothingMeasured, assert_linear, measure_growth
from pytest_streamperf.wire import server_process
from pytest_streamperf.wire.server_process import served_elsewhere

pytestmark = pytest.mark.alone

HELLO = [{"role": "user", "content": "hello"}]


def openai_deltas(url):
    """Yield the texts of a reply that the SDK of OpenAI reads from the server at `url`."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        for chunk in client.chat.completions.create(model="m", messages=HELLO, stream=True):
            yield from (choice.delta.content or "" for choice in chunk.choices)


def join_with_openai(url):
    """Read a reply with the SDK of OpenAI, and join its texts once."""
    return "".join(openai_deltas(url))


def read_with_anthropic(url):
    """Read the events of a reply with the SDK of Anthropic."""
    with (
        anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client,
        client.messages.create(model="m", max_tokens=9, messages=HELLO, stream=True) as stream,
    ):
        return [event.type for event in stream]


def read_with_ollama(url):
    """Read the lines of a reply, which are NDJSON, with the SDK of Ollama."""
    with ollama.Client(host=url) as client:
        return list(client.chat(model="m", messages=HELLO, stream=True))


def recount_titles(url):
    """Count the capitalized words of the whole text again for every delta: quadratic work."""
    text, titles = "", 0
    for delta in openai_deltas(url):
        text += delta
        titles += sum(word.istitle() and word.isalpha() for word in text.split(" "))
    return titles


@pytest.mark.parametrize(
    ("consume", "dialect"),
    [
        (join_with_openai, "openai-chat"),
        (read_with_anthropic, "anthropic-messages"),
        (read_with_ollama, "ollama-chat"),
    ],
)
def test_an_sdk_is_linear(consume, dialect):
    """Reading a reply with an SDK is linear, as the cost of setting up a client is subtracted."""
    growth = assert_linear(consume, serve=dialect, up_to=500, seconds=6.0)
    assert growth.superlinear_share < 0.05
    assert growth.curves["calls"].length >= 250


def test_what_an_application_does_again_is_found():
    """Quadratic work of an application is blamed on its own line, not on the SDK."""
    with pytest.raises(GrowthExceeded) as exceeded:
        assert_linear(recount_titles, serve="openai-chat", up_to=500, seconds=6.0)
    growth = exceeded.value.verdict
    assert growth.metric == "calls"
    assert "word.istitle()" in growth.blame[0].source
    assert growth.blame[0].share > 0.9


def test_an_async_application():
    """`assert_linear.aio` awaits an async consumer, and its growth over the wire is within."""

    async def consume(url):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
            return [chunk async for chunk in stream]

    async def main():
        return await assert_linear.aio(consume, serve="openai-chat", up_to=200, seconds=6.0)

    assert asyncio.run(main()).verdict == "within"


def test_a_dialect_at_the_base_url():
    """A dialect without a path of its own, such as AG-UI, is served at the base URL."""
    growth = measure_growth(httpx.post, serve="ag-ui", up_to=200)
    assert growth.verdict == "within"


@pytest.mark.parametrize(
    ("arguments", "message_part"),
    [
        ({"serve": "openai"}, "no dialect is named 'openai': there are 'ag-ui', "),
        ({"serve": "openai-chat", "delta": str}, "with serve= consume gets a URL"),
        ({"serve": "openai-chat", "up_to": 127}, "up_to must be at least 128, not 127"),
    ],
)
def test_what_cannot_be_served(arguments, message_part):
    """An unknown dialect, or an argument that `serve` rules out, is a `ValueError` with advice."""
    with pytest.raises(ValueError, match=message_part):
        measure_growth(join_with_openai, **arguments)


@pytest.mark.parametrize(
    ("consume", "message_part"),
    [
        (lambda _url: None, "it asked the server for nothing"),
        (lambda url: httpx.post(f"{url}/v1/messages"), "it asked for /[0-9]+/v1/messages"),
    ],
    ids=["nothing", "another path"],
)
def test_an_application_that_takes_nothing(consume, message_part):
    """If the consumer takes no stream from the server, the check raises `NothingMeasured`."""
    with pytest.raises(NothingMeasured, match=message_part):
        measure_growth(consume, serve="openai-chat", up_to=200)


def refuses_connections(url):
    """Return whether the server at this URL refuses connections."""
    host, port = url.removeprefix("http://").split("/")[0].split(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) != 0


@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt])
def test_the_server_ends_with_its_check(error):
    """The server process ends with its check, also if the check raises an error."""
    try:
        with served_elsewhere("openai-chat") as url_for:
            assert join_with_openai(url_for(1))
            if error:
                raise error
    except (ZeroDivisionError, KeyboardInterrupt):
        assert error
    assert refuses_connections(url_for(1))


def test_a_server_that_does_not_start(monkeypatch, tmp_path):
    """A server process that does not start raises a `RuntimeError` that names its command."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with (
        pytest.raises(RuntimeError, match=f"-m {server_process.__name__} ag-ui did not start"),
        served_elsewhere("ag-ui"),
    ):
        pass
