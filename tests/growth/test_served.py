"""Growth through the wire: application code, SDK and all, against a server in another process."""

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


def deltas(url):
    """What an application does with an SDK."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        for chunk in client.chat.completions.create(model="m", messages=HELLO, stream=True):
            yield from (choice.delta.content or "" for choice in chunk.choices)


def by_openai(url):
    """Joins once, at the end."""
    return "".join(deltas(url))


def by_anthropic(url):
    """Leaves it to the SDK."""
    with (
        anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client,
        client.messages.create(model="m", max_tokens=9, messages=HELLO, stream=True) as stream,
    ):
        return [event.type for event in stream]


def by_ollama(url):
    """Takes NDJSON."""
    with ollama.Client(host=url) as client:
        return list(client.chat(model="m", messages=HELLO, stream=True))


def counts_again(url):
    """Looks at every word again for every delta."""
    text, titles = "", 0
    for delta in deltas(url):
        text += delta
        titles += sum(word.istitle() and word.isalpha() for word in text.split(" "))
    return titles


@pytest.mark.parametrize(
    ("consume", "dialect"),
    [
        (by_openai, "openai-chat"),
        (by_anthropic, "anthropic-messages"),
        (by_ollama, "ollama-chat"),
    ],
)
def test_an_sdk_is_linear(consume, dialect):
    """Calls are counted, and what it takes to set up a client is taken off."""
    growth = assert_linear(consume, serve=dialect, up_to=500, seconds=6.0)
    assert growth.superlinear_share < 0.05
    assert growth.curves["calls"].length >= 250


def test_what_an_application_does_again_is_found():
    """Its line is blamed, not the SDK."""
    with pytest.raises(GrowthExceeded) as exceeded:
        assert_linear(counts_again, serve="openai-chat", up_to=500, seconds=6.0)
    growth = exceeded.value.verdict
    assert growth.metric == "calls"
    assert "word.istitle()" in growth.blame[0].source
    assert growth.blame[0].share > 0.9


def test_an_async_application():
    """It is awaited in the current task."""

    async def consume(url):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
            return [chunk async for chunk in stream]

    async def main():
        return await assert_linear.aio(consume, serve="openai-chat", up_to=200, seconds=6.0)

    assert asyncio.run(main()).verdict == "within"


def test_a_dialect_at_the_base_url():
    """AG-UI has no path of its own: what an agent's URL is called is up to its users."""
    growth = measure_growth(httpx.post, serve="ag-ui", up_to=200)
    assert growth.verdict == "within"


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"serve": "openai"}, "no dialect is named 'openai': there are 'ag-ui', "),
        ({"serve": "openai-chat", "delta": str}, "with serve= consume gets a URL"),
        ({"serve": "openai-chat", "up_to": 127}, "up_to must be at least 128, not 127"),
    ],
)
def test_what_cannot_be_served(terms, says):
    """It is said what can."""
    with pytest.raises(ValueError, match=says):
        measure_growth(by_openai, **terms)


@pytest.mark.parametrize(
    ("consume", "says"),
    [
        (lambda _url: None, "it asked the server for nothing"),
        (lambda url: httpx.post(f"{url}/v1/messages"), "it asked for /[0-9]+/v1/messages"),
    ],
    ids=["nothing", "another path"],
)
def test_an_application_that_takes_nothing(consume, says):
    """A check that measured nothing is an error."""
    with pytest.raises(NothingMeasured, match=says):
        measure_growth(consume, serve="openai-chat", up_to=200)


def refuses(url):
    """Whether nobody listens any more."""
    host, port = url.removeprefix("http://").split("/")[0].split(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) != 0


@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt])
def test_the_server_ends_with_its_check(error):
    """However that ends."""
    try:
        with served_elsewhere("openai-chat") as url_for:
            assert by_openai(url_for(1))
            if error:
                raise error
    except (ZeroDivisionError, KeyboardInterrupt):
        assert error
    assert refuses(url_for(1))


def test_a_server_that_does_not_start(monkeypatch, tmp_path):
    """The command is named; why is on standard error."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with (
        pytest.raises(RuntimeError, match=f"-m {server_process.__name__} ag-ui did not start"),
        served_elsewhere("ag-ui"),
    ):
        pass
