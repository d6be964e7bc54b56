"""The model by itself: replies as OpenAI and Anthropic stream them, read by their SDKs."""

import asyncio
import json
import threading
import time

import anthropic
import httpx
import openai
import pytest

from pytest_streamperf import TokenStream, VirtualClock
from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app, responses
from reference_impl.agent import Invocation
from reference_impl.responses import DIALECTS

HELLO = [{"role": "user", "content": "hello"}]
PATHS = ["/v1/chat/completions", "/messages", "/v1/messages"]
EVERY_PATH = pytest.mark.parametrize("path", PATHS)


async def engine(messages):
    """Say what was said last, control deltas in between, and fail where that is asked for."""
    if messages[-1]["content"] == "refuse":
        return
    for word in messages[-1]["content"].split():
        yield f"{word} "
        yield "\ufffehint"
        if word == "fail":
            raise RuntimeError("the model is gone")
    yield Invocation("word_count", {"text": "x"}).to_delta()


@pytest.fixture(scope="module")
def url():
    """One server for all that only ask."""
    with serve_app(create_app(engine)) as url:
        yield url


def ask(url, path, content, **more):
    """Ask for a reply."""
    messages = [{"role": "user", "content": content}]
    return httpx.post(url + path, json={"stream": True, "messages": messages, **more})


def test_openais_sdk_reads_a_reply(url):
    """Text alone, and the reason that it ended."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
        messages = [{"role": "system", "content": "x"}, {"role": "user", "content": parts}]
        chunks = list(
            client.chat.completions.create(model="reference", messages=messages, stream=True)
        )
    assert "".join(each.choices[0].delta.content or "" for each in chunks) == "one two "
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_anthropics_sdk_reads_a_reply(url):
    """Text alone."""
    with (
        anthropic.Anthropic(base_url=url, api_key="none") as client,
        client.messages.stream(model="reference", max_tokens=9, messages=HELLO) as stream,
    ):
        assert stream.get_final_text() == "hello "


def test_a_model_that_fails_is_told(caplog):
    """What came before is read, then the SDK raises, and the log has it once."""
    messages = [{"role": "user", "content": "then fail"}]
    said = ""
    with (
        serve_app(create_app(engine)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        stream = client.chat.completions.create(model="m", messages=messages, stream=True)
        with pytest.raises(openai.APIError, match="RuntimeError: the model is gone"):  # noqa: PT012
            for chunk in stream:
                said += chunk.choices[0].delta.content or ""
    assert said == "then fail "
    assert [record.message for record in caplog.records] == ["a reply failed"]


@EVERY_PATH
def test_an_engine_that_refuses(path, caplog):
    """Before it says anything: 500, and nothing of the reason but in the log."""

    def refuses(_messages):
        raise RuntimeError("no model today")

    with serve_app(create_app(refuses)) as url:
        answer = ask(url, path, "hello")
    assert answer.status_code == 500
    assert answer.json()["error"] == {"type": "internal_error", "message": "the server failed"}
    assert "no model today" in caplog.text


@EVERY_PATH
def test_only_streams(url, path):
    """What asks for a whole reply is told what is allowed."""
    answer = ask(url, path, "hello", stream=False)
    assert answer.status_code == 422
    assert 'stream is False, allowed: {"stream": true' in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/messages", {"role": "system", "content": "x"}),
        ("/v1/chat/completions", {"role": "user", "content": [{"type": "image_url"}]}),
        ("/v1/chat/completions", {"role": "user", "content": []}),
        ("/v1/chat/completions", {"role": ["user"], "content": "x"}),
    ],
)
def test_a_message_that_is_refused(url, path, message):
    """By its place."""
    answer = httpx.post(url + path, json={"stream": True, "messages": [*HELLO, message]})
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith("messages[1] is ")


@EVERY_PATH
def test_a_client_that_leaves_ends_the_reply(path):
    """The engine's stream is closed where it waits."""
    closed = threading.Event()

    async def endless(_messages):
        try:
            while True:
                yield "word "
                await asyncio.sleep(0.005)
        finally:
            closed.set()

    body = {"stream": True, "messages": HELLO}
    with (
        serve_app(create_app(endless)) as url,
        httpx.stream("POST", url + path, json=body) as reply,
    ):
        next(reply.iter_raw())
        reply.close()
        assert closed.wait(10)


def test_models_may_be_kept():
    """By their tag; "*" is any."""
    with serve_app(create_app()) as url:
        tag = httpx.get(f"{url}/v1/models").headers["etag"]
        for known in (tag, f'"other", {tag}', "*"):
            answer = httpx.get(f"{url}/v1/models", headers={"if-none-match": known})
            assert (answer.status_code, answer.headers["etag"], answer.text) == (304, tag, "")
        answer = httpx.get(f"{url}/v1/models", headers={"if-none-match": '"other"'})
    assert answer.json()["data"][0]["id"] == "reference"


def test_a_model_that_never_waits():
    """Rests all the same, and is waited with where its client is slow: little is pending."""
    held, most, beats = 0, 0, 0
    over = asyncio.Event()

    async def deltas():
        nonlocal held, most
        async for delta in TokenStream(tokens=20_000):
            held += len(DIALECTS["openai"].delta(delta))
            most = max(most, held)
            yield delta

    async def slow(data):
        nonlocal held
        await asyncio.sleep(0.1)
        held = max(0, held - len(data))

    async def beat():
        nonlocal beats
        while not over.is_set() and beats < 200:  # time stands still as long as it goes on
            beats += 1
            await asyncio.sleep(0)

    async def main():
        beating = asyncio.create_task(beat())
        await responses.ResponseWriter(slow, DIALECTS["openai"]).write(deltas())
        over.set()
        await beating

    with VirtualClock():
        asyncio.run(main())
    assert most < 4 * 2**16
    assert beats == 200


# -- metrics and cross-origin headers


def test_the_metrics():
    """As the seed has them; to ask for them does not count."""
    with serve_app(create_app(debug=True)) as url:
        httpx.get(f"{url}/nowhere")
        before = time.time_ns()
        answer = httpx.get(f"{url}/api/dev/metrics")
    found = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    assert before <= found["timestampNs"] <= time.time_ns()
    assert found["timestamp"].endswith("+00:00")
    totals = {"requests": 1, "responses": 1, "failures": 0, "disconnects": 0}
    assert found["metrics"] == {
        "pendingRequests": 0,
        "pendingWebSockets": 0,
        "activeConnections": 0,
        "totals": totals | {"websocketOpens": 0, "websocketCloses": 0},
    }


def test_what_is_pending():
    """Two requests over two connections, while they last."""
    with serve_app(create_app(lambda _: TokenStream(every=60.0), debug=True)) as url:
        body = {"stream": True, "messages": HELLO}
        streams = [httpx.stream("POST", url + PATHS[0], json=body) for _ in range(2)]
        with streams[0], streams[1]:
            found = httpx.get(f"{url}/api/dev/metrics").json()["metrics"]
    assert (found["pendingRequests"], found["activeConnections"]) == (2, 2)
    assert (found["totals"]["requests"], found["totals"]["responses"]) == (2, 0)


def test_a_preflight():
    """Is answered with 204, for any path."""
    with serve_app(create_app()) as url:
        answer = httpx.options(f"{url}/anything", headers={"origin": "https://x.example"})
    assert (answer.status_code, answer.text) == (204, "")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
    assert answer.headers["access-control-allow-headers"] == "Content-Type, Authorization"


def test_a_reply_is_written_in_few_flushes(url):
    """Over the socket, too: what comes at once goes out together."""
    body = {"stream": True, "messages": [{"role": "user", "content": "word " * 500}]}
    with httpx.stream("POST", url + PATHS[0], json=body) as reply:
        chunks = list(reply.iter_raw())
    assert len(chunks) < 50
    events = b"".join(chunks).decode().split("\n\n")
    texts = [json.loads(each[6:])["choices"][0]["delta"].get("content") for each in events[:-2]]
    assert "".join(filter(None, texts)) == "word " * 500
