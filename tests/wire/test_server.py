"""Streams over real sockets and as mocked answers: where chunks end, and when they come."""

import asyncio
import doctest
import json
import threading
import time
from contextlib import contextmanager
from functools import partial

import httpx
import httpx2
import pytest
import respx
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from pytest_streamperf import Text, TokenStream, ToolCall, Turn, VirtualClock, WireStream
from pytest_streamperf.streams.chunking import fixed, per_byte, worst_case
from pytest_streamperf.streams.faults import Corrupt, Disconnect, RateLimit, Truncate
from pytest_streamperf.streams.recording import Recorder, Recording
from pytest_streamperf.streams.token_stream import Stream
from pytest_streamperf.wire import BUILT_IN, dialect, sse
from pytest_streamperf.wire import server as serving
from pytest_streamperf.wire.server import Request, Script, serve, serve_app
from reference_impl import create_app

TURN = Turn(Text("Grüße, 👩\u200d👧!"), ToolCall("read", {"path": "ü.md"}))
URL = "https://api.example.com/v1/chat/completions"
ASKED = {"model": "scripted", "stream": True}
SECONDS = 5.0


# -- each way to a client: a function from a script to the chunks it got


def by_httpx(script, client=httpx):
    """Over a socket."""
    with client.stream("POST", f"{script.url}/v1/chat/completions", json=ASKED) as response:
        yield from response.iter_raw()


def by_async_httpx(script):
    """Over a socket, in an event loop."""

    async def main():
        async with (
            httpx.AsyncClient() as client,
            client.stream("POST", f"{script.url}/v1/chat/completions", json=ASKED) as response,
        ):
            return [chunk async for chunk in response.aiter_raw()]

    return asyncio.run(main())


def by_websocket(script):
    """Over a socket, a message each."""
    with connect(script.url.replace("http", "ws") + "/v1/realtime", max_size=2**24) as socket:
        socket.send(json.dumps(ASKED))
        yield from socket


SOCKETS = {
    "httpx": by_httpx,
    "httpx2": partial(by_httpx, client=httpx2),
    "websocket": by_websocket,
}
OVER_SOCKETS = pytest.mark.parametrize("way", SOCKETS.values(), ids=SOCKETS)


class LockStep(Stream):
    """Hands out a chunk when the client has got the one before, and not earlier."""

    def __init__(self, chunks):
        super().__init__(chunks)
        self.got = threading.Semaphore(1)

    def __aiter__(self):
        return self._in_step()

    async def _in_step(self):
        for chunk in self.deltas:
            if not await asyncio.to_thread(self.got.acquire, timeout=SECONDS):
                raise ConnectionAbortedError
            yield chunk


@OVER_SOCKETS
@pytest.mark.parametrize("cut", [per_byte, fixed(7), worst_case])
def test_chunks_end_where_they_did(way, cut):
    """Over a socket as in the stream."""
    stream = WireStream(TURN, cut=cut)
    with serve(stream) as script:
        assert list(way(script)) == list(stream.deltas)


@OVER_SOCKETS
def test_chunks_are_not_held_back(way):
    """Each is there before the next one is sent."""
    stream = LockStep(WireStream(TURN).deltas)
    with serve(stream) as script:
        chunks = []
        for chunk in way(script):
            chunks.append(chunk)
            stream.got.release()
    assert chunks == list(stream.deltas)


@OVER_SOCKETS
def test_chunks_come_no_earlier_than_they_are_due(way):
    """The server keeps the pace, in real time."""
    stream = WireStream(TURN, every=0.01)
    with serve(stream) as script:
        start = time.monotonic()
        assert len(list(way(script))) == len(stream)
        assert time.monotonic() - start >= 0.01 * (len(stream) - 1)


def test_chunks_for_an_async_client():
    """They are the same."""
    with serve(WireStream(TURN, cut=fixed(7))) as script:
        assert by_async_httpx(script) == list(WireStream(TURN, cut=fixed(7)).deltas)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_dialect_is_served(name):
    """Where its clients look for it, under its media type."""
    with serve(WireStream(TURN, name)) as script:
        response = httpx.post(f"{script.url}{dialect(name).PATH}", json=ASKED)
    assert response.headers["content-type"] == dialect(name).MEDIA_TYPE
    assert response.content == b"".join(dialect(name).encode(TURN))


def test_a_recording_is_served_as_what_it_is():
    """Under the media type that it was recorded with, at any path."""
    recording = Recording((b"{}\n",), (0.0,), "application/x-ndjson")
    with serve(recording.stream()) as script:
        response = httpx.get(script.url)
    assert (response.headers["content-type"], response.content) == ("application/x-ndjson", b"{}\n")


def test_requests_are_kept():
    """What clients asked for can be looked at."""
    with serve(WireStream(TURN)) as script:
        httpx.post(f"{script.url}/v1/chat/completions", json=ASKED, headers={"X-Trace": "7"})
    (request,) = script.requests
    assert (request.path, request.json) == ("/v1/chat/completions", ASKED)
    assert request.headers["x-trace"] == "7"


def test_one_answer_after_the_other():
    """A turn for each request, and the last one again; a function makes one of its request."""
    texts = ["one", "two"]

    def echo(request):
        return WireStream(Turn(Text(request.json["model"])))

    with serve(*(WireStream(Turn(Text(text))) for text in texts), echo) as script:
        answers = [list(by_httpx(script)) for _ in range(4)]
    for text, chunks in zip([*texts, "scripted", "scripted"], answers, strict=True):
        assert chunks == list(WireStream(Turn(Text(text))).deltas)


def test_another_path_is_refused():
    """A client of another dialect is told which one the script has."""
    with serve(WireStream(TURN, "anthropic-messages")) as script:
        response = httpx.post(f"{script.url}/v1/chat/completions", json=ASKED)
    assert response.status_code == 404
    assert response.json()["error"]["message"] == (
        "nothing is at /v1/chat/completions: the script serves anthropic-messages at /v1/messages"
    )


def test_recordings_are_served():
    """A recording of what was served is served again."""
    recorder = Recorder()
    with serve(WireStream(TURN, cut=fixed(9))) as script:
        first = list(recorder(by_httpx(script)))
    with serve(recorder.recording.stream()) as script:
        assert list(by_httpx(script)) == first


# -- faults


def test_a_disconnect_over_http(caplog):
    """The body is not complete, and the client is told so; that is no error of the server's."""
    chunks = []
    with (
        serve(WireStream(TURN).with_fault(Disconnect(after=3))) as script,
        pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"),
    ):
        chunks.extend(chunk for chunk in by_httpx(script))
    assert chunks == list(WireStream(TURN).deltas)[:3]
    assert not caplog.records


def test_a_disconnect_over_websocket(caplog):
    """The socket is hung up on: no close frame comes, and that is no error of the server's."""
    chunks = []
    with (
        serve(WireStream(TURN).with_fault(Disconnect(after=3))) as script,
        pytest.raises(ConnectionClosedError, match="no close frame received") as closed,
    ):
        chunks.extend(chunk for chunk in by_websocket(script))
    assert closed.value.rcvd is None
    assert chunks == list(WireStream(TURN).deltas)[:3]
    assert not caplog.records


def test_a_rate_limit_over_websocket():
    """It is open when it says what it asks for: it is closed, and told how long to wait."""
    with (
        serve(WireStream(TURN).with_fault(RateLimit(retry_after=1e6))) as script,
        pytest.raises(ConnectionClosedError) as closed,
    ):
        list(by_websocket(script))
    assert closed.value.rcvd.code == 1013
    assert closed.value.rcvd.reason == "rate limited: HTTP 429, Retry-After: 1000000"


@OVER_SOCKETS
def test_a_truncated_stream_ends_well(way):
    """As far as the connection goes."""
    with serve(WireStream(TURN).with_fault(Truncate(after=3))) as script:
        assert list(way(script)) == list(WireStream(TURN).deltas)[:3]


def test_a_rate_limit_then_an_answer():
    """The status and the header that clients wait by; the next request is served."""
    limited = WireStream(TURN).with_fault(RateLimit(retry_after=0.5))
    with serve(limited, WireStream(TURN)) as script:
        url = f"{script.url}/v1/chat/completions"
        first, second = (httpx.post(url, json=ASKED) for _ in range(2))
    assert (first.status_code, first.headers["retry-after"]) == (429, "0.5")
    assert first.json()["error"]["type"] == "rate_limit_error"
    assert second.status_code == 200


def test_corrupt_bytes_are_served_as_they_are():
    """Whatever they are."""
    broken = WireStream(TURN).with_fault(Corrupt(at=2))
    with serve(broken) as script:
        assert list(by_httpx(script)) == list(broken.deltas)


def test_who_leaves_is_not_streamed_to():
    """An endless pace ends where its client does."""
    left = threading.Event()

    class Watched(Stream):
        def __aiter__(self):
            return self._watched()

        async def _watched(self):
            try:
                yield b"data: 1\n\n"
                await asyncio.sleep(3_600)
            finally:
                left.set()

    with serve(Watched([])) as script:
        with httpx.stream("POST", f"{script.url}/v1/chat/completions", json=ASKED) as response:
            assert next(response.iter_raw()) == b"data: 1\n\n"
        assert left.wait(SECONDS)


# -- mocked requests


@contextmanager
def mocked(script, using="httpcore"):
    """A route for both clients."""
    with respx.mock(using=using) as router:
        router.post(URL).mock(side_effect=script.respond)
        yield


MOCKED = pytest.mark.parametrize(
    ("client", "using"), [(httpx, "httpcore"), (httpx2, "httpcore2")], ids=["httpx", "httpx2"]
)


def times_of(chunks):
    """The chunks, each with the time it came at."""
    start = time.monotonic()
    return [(time.monotonic() - start, chunk) for chunk in chunks]


@MOCKED
def test_mocked_chunks(client, using):
    """Where they end, and when they come, in virtual time."""
    stream = WireStream(TURN, cut=fixed(7), every=0.25)
    with (
        mocked(Script(stream), using),
        VirtualClock(),
        client.stream("POST", URL, json=ASKED) as response,
    ):
        came = times_of(response.iter_raw())
    assert came == [(0.25 * index, chunk) for index, chunk in enumerate(stream.deltas)]


@MOCKED
def test_mocked_chunks_for_an_async_client(client, using):
    """The same in an event loop."""
    stream = WireStream(TURN, cut=fixed(7), every=0.25)

    async def main():
        start = time.monotonic()
        async with (
            client.AsyncClient() as http,
            http.stream("POST", URL, json=ASKED) as response,
        ):
            return [(time.monotonic() - start, chunk) async for chunk in response.aiter_raw()]

    with mocked(Script(stream), using), VirtualClock(), asyncio.Runner() as runner:
        came = runner.run(main())
    assert came == [(0.25 * index, chunk) for index, chunk in enumerate(stream.deltas)]


@MOCKED
def test_a_mocked_disconnect(client, using):
    """Each client raises its own error for it, sync and async."""

    async def main():
        async with client.AsyncClient() as http, http.stream("POST", URL) as response:
            return [chunk async for chunk in response.aiter_raw()]

    script = Script(WireStream(TURN).with_fault(Disconnect(after=3)))
    with mocked(script, using):
        with pytest.raises(client.RemoteProtocolError, match="reset after 3"):
            client.post(URL)
        with pytest.raises(client.RemoteProtocolError, match="reset after 3"):
            asyncio.run(main())


@MOCKED
def test_a_mocked_rate_limit(client, using):
    """Its status, header and body; and what was asked is kept."""
    script = Script(WireStream(TURN).with_fault(RateLimit(3)))
    with mocked(script, using):
        response = client.post(URL, json=ASKED)
    assert (response.status_code, response.headers["retry-after"]) == (429, "3")
    assert script.requests[0].json == ASKED


def test_an_async_iterator():
    """Without a connection: the stream itself."""
    stream = WireStream(TURN, cut=fixed(7), every=0.25)

    async def main():
        start = time.monotonic()
        return [(time.monotonic() - start, chunk) async for chunk in stream]

    with VirtualClock(), asyncio.Runner() as runner:
        came = runner.run(main())
    assert came == [(0.25 * index, chunk) for index, chunk in enumerate(stream.deltas)]


# -- the reference server


def test_the_reference_server_does_not_hold_back():
    """Each delta of its engine is a chunk, which is there before the next one is sent."""
    stream = LockStep(["one ", "two ", "three "])
    asked = {"messages": [{"role": "user", "content": "count"}]}
    told = []
    with (
        serve_app(create_app(lambda _messages: stream)) as url,
        httpx.stream("POST", f"{url}/agents/demo/run", json=asked) as response,
    ):
        for chunk in response.iter_raw():
            told += [json.loads(event.data).get("text") for event in sse.decode(chunk)]
            if told[-1:] and told[-1] in stream.deltas:
                stream.got.release()
    assert [text for text in told if text in stream.deltas] == stream.deltas


def test_the_reference_server_keeps_the_pace():
    """Each delta is written when it comes, in virtual time, and not later with the next one."""
    stream = TokenStream(["one ", "two ", "three "], every=0.25)
    body = json.dumps({"messages": [{"role": "user", "content": "count"}]}).encode()
    scope = {"type": "http", "method": "POST", "path": "/agents/demo/run", "headers": []}
    asked = [{"type": "http.request", "body": body}]
    told = []

    async def receive():
        return asked.pop() if asked else await asyncio.Event().wait()

    async def send(message):
        for event in sse.decode(message.get("body", b"")):
            told.append((time.monotonic() - start, json.loads(event.data)["text"]))

    with VirtualClock():
        start = time.monotonic()
        asyncio.run(create_app(lambda _messages: stream)(scope, receive, send))
    assert told[:-1] == [(0.0, "one "), (0.25, "two "), (0.5, "three ")]


# -- what is refused


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([], "a script needs at least one stream"),
        ([TURN], r"takes streams, and functions from a Request to one, not Turn\("),
    ],
)
def test_what_is_no_script(answers, says):
    """It is said what one is made of."""
    with pytest.raises(TypeError, match=says):
        Script(*answers)


def test_a_request_reads_its_body():
    """As JSON."""
    assert Request("/", {}, b'{"a": 1}').json == {"a": 1}


def test_any_stream_of_bytes_will_do():
    """Deltas of one's own, at any path."""
    with serve(TokenStream([b"data: 1\n\n"])) as script:
        assert httpx.get(script.url).content == b"data: 1\n\n"


def test_examples_in_docstrings():
    """The module's doctests hold."""
    failed, attempted = doctest.testmod(serving)
    assert attempted
    assert not failed
