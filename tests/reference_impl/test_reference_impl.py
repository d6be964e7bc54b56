"""The reference server: what it streams, over real sockets."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app
from reference_impl.agent import Message

BODY = {"messages": [{"role": "user", "content": "one two three"}]}
RUN = "/agents/demo/run"


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    """Return the URL of one server for all tests that only ask it something."""
    with serve_app(create_app()) as url:
        yield url


def run(url: str) -> list[tuple[str, object]]:
    """Run a turn to its end, and return its events as names and data."""
    response = httpx.post(url + RUN, json=BODY)
    assert response.status_code == 200, response.text
    return [event(block) for block in response.text.removesuffix("\n\n").split("\n\n")]


def event(block: str) -> tuple[str, object]:
    """Read one server-sent event."""
    name, data = block.split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


class Held:
    """An engine that says hello, waits to be released, and says goodbye."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self._released = asyncio.Event()

    async def __call__(self, _messages: list[Message]) -> AsyncIterator[str]:
        """Begin a stream, on the loop of the server."""
        self._loop = asyncio.get_running_loop()
        try:
            yield "hello"
            await self._released.wait()
            yield "goodbye"
        finally:
            self.closed.set()

    def release(self) -> None:
        """Let every stream of this engine go on, from another thread than the server's."""
        self._loop.call_soon_threadsafe(self._released.set)


HELLO = 'event: delta\ndata: {"text": "hello"}\n\n'
GOODBYE = (
    'event: delta\ndata: {"text": "goodbye"}\n\nevent: done\ndata: {"text": "hellogoodbye"}\n\n'
)


def test_a_turn_as_server_sent_events(demo: str) -> None:
    """The demo agent streams text, uses its tool and ends with the final text."""
    assert run(demo) == [
        ("delta", {"text": "Let"}),
        ("delta", {"text": " me"}),
        ("delta", {"text": " count"}),
        ("delta", {"text": "."}),
        ("tool_call", {"name": "word_count", "arguments": {"text": "one two three"}}),
        ("tool_result", {"name": "word_count", "content": "3", "failed": False}),
        ("delta", {"text": "Word "}),
        ("delta", {"text": "count: "}),
        ("delta", {"text": "3"}),
        ("delta", {"text": "."}),
        ("done", {"text": "Word count: 3."}),
    ]


def test_the_headers_keep_proxies_from_holding_the_stream(demo: str) -> None:
    """And nothing in them tells the time or the version of the server."""
    assert dict(httpx.post(demo + RUN, json=BODY).headers) == {
        "content-type": "text/event-stream",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "GET, POST, OPTIONS",
        "access-control-allow-headers": "Content-Type, Authorization",
        "transfer-encoding": "chunked",
    }


def test_the_engine_reads_system_prompt_and_conversation() -> None:
    """Messages are passed on by role and content, after the prompt of the agent."""
    given = []

    async def engine(messages: list[Message]) -> AsyncIterator[str]:
        given.extend(messages)
        yield ""

    conversation = [
        {"role": "user", "content": "a \N{SNOWMAN}"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "\ud83d", "id": 7},
    ]
    with serve_app(create_app(engine)) as url:
        content = json.dumps({"messages": conversation, "model": "any"})
        assert httpx.post(url + RUN, content=content).status_code == 200
    assert [message["role"] for message in given] == ["system", "user", "assistant", "user"]
    assert [message["content"] for message in given[1:]] == ["a \N{SNOWMAN}", "b", "\ud83d"]


def test_any_text_survives_the_wire() -> None:
    """Line breaks and half a surrogate pair do not break an event."""
    awkward = 'a\nb\r\n\n"\\\u2028\ud83d\N{SNOWMAN}'

    async def engine(_messages: list[Message]) -> AsyncIterator[str]:
        yield awkward

    with serve_app(create_app(engine)) as url:
        assert run(url) == [("delta", {"text": awkward}), ("done", {"text": awkward})]


def test_a_delta_arrives_before_the_next_is_made() -> None:
    """Nothing on the way holds a delta back."""
    engine = Held()
    with (
        serve_app(create_app(engine)) as url,
        httpx.stream("POST", url + RUN, json=BODY) as response,
    ):
        chunks = response.iter_text()
        assert next(chunks) == HELLO
        engine.release()
        assert "".join(chunks) == GOODBYE


def test_heartbeats_while_the_engine_waits() -> None:
    """Pings come between two deltas, and the engine is not disturbed by them."""
    engine = Held()
    with (
        serve_app(create_app(engine, heartbeat=0.01)) as url,
        httpx.stream("POST", url + RUN, json=BODY) as response,
    ):
        chunks = response.iter_text()
        assert next(chunks).startswith(HELLO)
        assert next(chunks).startswith(": ping\n\n")
        engine.release()
        assert "".join(chunks).replace(": ping\n\n", "") == GOODBYE


def test_an_engine_that_fails_mid_turn(caplog: pytest.LogCaptureFixture) -> None:
    """The client gets an error event and a whole response, the traceback stays in the log."""

    async def engine(_messages: list[Message]) -> AsyncIterator[str]:
        yield "hello"
        raise ConnectionError("the model is gone")

    with serve_app(create_app(engine)) as url:
        error = {"type": "turn_failed", "message": "ConnectionError: the model is gone"}
        failed = [("delta", {"text": "hello"}), ("error", {"error": error})]
        assert run(url) == failed
        assert run(url) == failed
    assert [record.getMessage() for record in caplog.records] == ["a turn failed"] * 2


def test_an_engine_that_cannot_start(caplog: pytest.LogCaptureFixture) -> None:
    """An engine that raises before its first delta ends in an error event too."""

    def engine(_messages: list[Message]) -> AsyncIterator[str]:
        raise LookupError("no such model")

    with serve_app(create_app(engine)) as url:
        error = {"type": "turn_failed", "message": "LookupError: no such model"}
        assert run(url) == [("error", {"error": error})]
    assert len(caplog.records) == 1


def test_a_client_that_leaves_while_the_engine_waits(caplog: pytest.LogCaptureFixture) -> None:
    """The engine is closed, the log stays empty and the server keeps serving."""
    engine = Held()
    with serve_app(create_app(engine)) as url:
        with httpx.stream("POST", url + RUN, json=BODY) as response:
            assert next(response.iter_text()) == HELLO
        assert engine.closed.wait(30)
        engine.release()
        assert run(url)[-1] == ("done", {"text": "hellogoodbye"})
    assert not caplog.records


def test_a_client_that_leaves_an_engine_without_rest(caplog: pytest.LogCaptureFixture) -> None:
    """An engine that speaks without end, and never lets the loop run, is closed as well."""
    closed = threading.Event()

    async def engine(_messages: list[Message]) -> AsyncIterator[str]:
        try:
            while True:
                yield "on and on "
        finally:
            closed.set()

    with serve_app(create_app(engine)) as url:
        with httpx.stream("POST", url + RUN, json=BODY) as response:
            next(response.iter_raw())
        assert closed.wait(30)
        assert httpx.get(url).status_code == 200
    assert not caplog.records
