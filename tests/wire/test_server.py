"""Tests of `wire.server`: streams over real sockets and as responses that respx mocks.

The clients must receive the chunks of the stream, at its pace, and its faults. A function
`by_CLIENT` takes a served script and returns or yields the chunks that the client received.
"""

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
REQUEST_BODY = {"model": "scripted", "stream": True}
# Time limit for an event in another thread. Not measured.
TIMEOUT_SECONDS = 5.0


# -- clients over a socket


def by_httpx(script, client=httpx):
    """Yield the chunks that an httpx or httpx2 client receives over a socket."""
    with client.stream("POST", f"{script.url}/v1/chat/completions", json=REQUEST_BODY) as response:
        yield from response.iter_raw()


def by_async_httpx(script):
    """Return the chunks that an async httpx client receives over a socket."""

    async def main():
        async with (
            httpx.AsyncClient() as client,
            client.stream(
                "POST", f"{script.url}/v1/chat/completions", json=REQUEST_BODY
            ) as response,
        ):
            return [chunk async for chunk in response.aiter_raw()]

    return asyncio.run(main())


def by_websocket(script):
    """Yield the messages that a WebSocket client receives over a socket."""
    with connect(script.url.replace("http", "ws") + "/v1/realtime", max_size=2**24) as socket:
        socket.send(json.dumps(REQUEST_BODY))
        yield from socket


SOCKETS = {
    "httpx": by_httpx,
    "httpx2": partial(by_httpx, client=httpx2),
    "websocket": by_websocket,
}
OVER_SOCKETS = pytest.mark.parametrize("by_client", SOCKETS.values(), ids=SOCKETS)


class LockStep(Stream):
    """A stream that yields a chunk only after the client has received the chunk before it."""

    def __init__(self, chunks):
        super().__init__(chunks)
        self.received = threading.Semaphore(1)

    def __aiter__(self):
        return self._in_step()

    async def _in_step(self):
        for chunk in self.deltas:
            if not await asyncio.to_thread(self.received.acquire, timeout=TIMEOUT_SECONDS):
                raise ConnectionAbortedError
            yield chunk


@OVER_SOCKETS
@pytest.mark.parametrize("cut", [per_byte, fixed(7), worst_case])
def test_chunks_end_where_they_did(by_client, cut):
    """A client receives over a socket exactly the chunks of the stream."""
    stream = WireStream(TURN, cut=cut)
    with serve(stream) as script:
        assert list(by_client(script)) == list(stream.deltas)


@OVER_SOCKETS
def test_chunks_are_not_held_back(by_client):
    """A client receives each chunk before the server sends the next one."""
    stream = LockStep(WireStream(TURN).deltas)
    with serve(stream) as script:
        chunks = []
        for chunk in by_client(script):
            chunks.append(chunk)
            stream.received.release()
    assert chunks == list(stream.deltas)


@OVER_SOCKETS
def test_chunks_come_no_earlier_than_they_are_due(by_client):
    """The server sends chunks at the pace of the stream, in real time, and never early."""
    stream = WireStream(TURN, every=0.01)
    with serve(stream) as script:
        start = time.monotonic()
        assert len(list(by_client(script))) == len(stream)
        assert time.monotonic() - start >= 0.01 * (len(stream) - 1)


def test_chunks_for_an_async_client():
    """An async client receives over a socket exactly the chunks of the stream."""
    with serve(WireStream(TURN, cut=fixed(7))) as script:
        assert by_async_httpx(script) == list(WireStream(TURN, cut=fixed(7)).deltas)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_dialect_is_served(name):
    """A dialect is served at its path, with its media type."""
    with serve(WireStream(TURN, name)) as script:
        response = httpx.post(f"{script.url}{dialect(name).PATH}", json=REQUEST_BODY)
    assert response.headers["content-type"] == dialect(name).MEDIA_TYPE
    assert response.content == b"".join(dialect(name).encode(TURN))


def test_a_recording_is_served_as_what_it_is():
    """A recording is served at any path, with the media type that it was recorded with."""
    recording = Recording((b"{}\n",), (0.0,), "application/x-ndjson")
    with serve(recording.stream()) as script:
        response = httpx.get(script.url)
    assert (response.headers["content-type"], response.content) == ("application/x-ndjson", b"{}\n")


def test_requests_are_kept():
    """A script keeps the path, the headers and the body of each request."""
    with serve(WireStream(TURN)) as script:
        httpx.post(f"{script.url}/v1/chat/completions", json=REQUEST_BODY, headers={"X-Trace": "7"})
    (request,) = script.requests
    assert (request.path, request.json) == ("/v1/chat/completions", REQUEST_BODY)
    assert request.headers["x-trace"] == "7"


def test_one_answer_after_the_other():
    """Each request gets the next answer, and later requests get the last answer.

    An answer may be a function that makes a stream from the request.
    """
    texts = ["one", "two"]

    def echo(request):
        return WireStream(Turn(Text(request.json["model"])))

    with serve(*(WireStream(Turn(Text(text))) for text in texts), echo) as script:
        answers = [list(by_httpx(script)) for _ in range(4)]
    for text, chunks in zip([*texts, "scripted", "scripted"], answers, strict=True):
        assert chunks == list(WireStream(Turn(Text(text))).deltas)


def test_another_path_is_refused():
    """A client of another dialect gets a 404 that names the dialect of the script."""
    with serve(WireStream(TURN, "anthropic-messages")) as script:
        response = httpx.post(f"{script.url}/v1/chat/completions", json=REQUEST_BODY)
    assert response.status_code == 404
    assert response.json()["error"]["message"] == (
        "nothing is at /v1/chat/completions: the script serves anthropic-messages at /v1/messages"
    )


def test_recordings_are_served():
    """A recording of a served stream can be served again, with the same chunks."""
    recorder = Recorder()
    with serve(WireStream(TURN, cut=fixed(9))) as script:
        first = list(recorder(by_httpx(script)))
    with serve(recorder.recording.stream()) as script:
        assert list(by_httpx(script)) == first


# -- faults


def test_a_disconnect_over_http(caplog):
    """A disconnect fault ends the body early with an error in the client, and logs nothing."""
    chunks = []
    with (
        serve(WireStream(TURN).with_fault(Disconnect(after=3))) as script,
        pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"),
    ):
        chunks.extend(chunk for chunk in by_httpx(script))
    assert chunks == list(WireStream(TURN).deltas)[:3]
    assert not caplog.records


def test_a_disconnect_over_websocket(caplog):
    """A disconnect fault aborts a WebSocket without a close frame, and logs nothing."""
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
    """A rate limit closes an open WebSocket with code 1013, and the reason holds the seconds."""
    with (
        serve(WireStream(TURN).with_fault(RateLimit(retry_after=1e6))) as script,
        pytest.raises(ConnectionClosedError) as closed,
    ):
        list(by_websocket(script))
    assert closed.value.rcvd.code == 1013
    assert closed.value.rcvd.reason == "rate limited: HTTP 429, Retry-After: 1000000"


@OVER_SOCKETS
def test_a_truncated_stream_ends_well(by_client):
    """A truncated stream ends the connection without an error in the client."""
    with serve(WireStream(TURN).with_fault(Truncate(after=3))) as script:
        assert list(by_client(script)) == list(WireStream(TURN).deltas)[:3]


def test_a_rate_limit_then_an_answer():
    """A rate limit is HTTP 429 with a Retry-After header, and the next request is served."""
    limited = WireStream(TURN).with_fault(RateLimit(retry_after=0.5))
    with serve(limited, WireStream(TURN)) as script:
        url = f"{script.url}/v1/chat/completions"
        first, second = (httpx.post(url, json=REQUEST_BODY) for _ in range(2))
    assert (first.status_code, first.headers["retry-after"]) == (429, "0.5")
    assert first.json()["error"]["type"] == "rate_limit_error"
    assert second.status_code == 200


def test_corrupt_bytes_are_served_as_they_are():
    """Corrupt bytes reach the client unchanged."""
    broken = WireStream(TURN).with_fault(Corrupt(at=2))
    with serve(broken) as script:
        assert list(by_httpx(script)) == list(broken.deltas)


def test_who_leaves_is_not_streamed_to():
    """The server stops a stream as soon as its client disconnects."""
    stopped = threading.Event()

    class Watched(Stream):
        def __aiter__(self):
            return self._watched()

        async def _watched(self):
            try:
                yield b"data: 1\n\n"
                await asyncio.sleep(3_600)
            finally:
                stopped.set()

    with serve(Watched([])) as script:
        with httpx.stream(
            "POST", f"{script.url}/v1/chat/completions", json=REQUEST_BODY
        ) as response:
            assert next(response.iter_raw()) == b"data: 1\n\n"
        assert stopped.wait(TIMEOUT_SECONDS)


# -- mocked requests


@contextmanager
def mocked(script, using="httpcore"):
    """Let respx answer POST requests to `URL` with the script, for httpx or httpx2."""
    with respx.mock(using=using) as router:
        router.post(URL).mock(side_effect=script.respond)
        yield


MOCKED = pytest.mark.parametrize(
    ("client", "using"), [(httpx, "httpcore"), (httpx2, "httpcore2")], ids=["httpx", "httpx2"]
)


def times_of(chunks):
    """Return each chunk with the seconds since the call at which it arrived."""
    start = time.monotonic()
    return [(time.monotonic() - start, chunk) for chunk in chunks]


@MOCKED
def test_mocked_chunks(client, using):
    """A mocked response yields the chunks of the stream at its pace, in virtual time."""
    stream = WireStream(TURN, cut=fixed(7), every=0.25)
    with (
        mocked(Script(stream), using),
        VirtualClock(),
        client.stream("POST", URL, json=REQUEST_BODY) as response,
    ):
        arrivals = times_of(response.iter_raw())
    assert arrivals == [(0.25 * index, chunk) for index, chunk in enumerate(stream.deltas)]


@MOCKED
def test_mocked_chunks_for_an_async_client(client, using):
    """A mocked response to an async client yields the chunks of the stream at its pace."""
    stream = WireStream(TURN, cut=fixed(7), every=0.25)

    async def main():
        start = time.monotonic()
        async with (
            client.AsyncClient() as http,
            http.stream("POST", URL, json=REQUEST_BODY) as response,
        ):
            return [(time.monotonic() - start, chunk) async for chunk in response.aiter_raw()]

    with mocked(Script(stream), using), VirtualClock(), asyncio.Runner() as runner:
        arrivals = runner.run(main())
    assert arrivals == [(0.25 * index, chunk) for index, chunk in enumerate(stream.deltas)]


@MOCKED
def test_a_mocked_disconnect(client, using):
    """A mocked disconnect raises the client's own error in sync and async clients."""

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
    """A mocked rate limit has the status and the header, and the script keeps the request."""
    script = Script(WireStream(TURN).with_fault(RateLimit(3)))
    with mocked(script, using):
        response = client.post(URL, json=REQUEST_BODY)
    assert (response.status_code, response.headers["retry-after"]) == (429, "3")
    assert script.requests[0].json == REQUEST_BODY


def test_an_async_iterator():
    """A stream yields its chunks at its pace to `async for`, without a server."""
    stream = WireStream(TURN, cut=fixed(7), every=0.25)

    async def main():
        start = time.monotonic()
        return [(time.monotonic() - start, chunk) async for chunk in stream]

    with VirtualClock(), asyncio.Runner() as runner:
        arrivals = runner.run(main())
    assert arrivals == [(0.25 * index, chunk) for index, chunk in enumerate(stream.deltas)]


# -- the reference server


def test_the_reference_server_does_not_hold_back():
    """The reference server sends each delta of its engine before it takes the next one."""
    stream = LockStep(["one ", "two ", "three "])
    body = {"messages": [{"role": "user", "content": "count"}]}
    texts = []
    with (
        serve_app(create_app(lambda _messages: stream)) as url,
        httpx.stream("POST", f"{url}/agents/demo/run", json=body) as response,
    ):
        for chunk in response.iter_raw():
            texts += [json.loads(event.data).get("text") for event in sse.decode(chunk)]
            if texts[-1:] and texts[-1] in stream.deltas:
                stream.received.release()
    assert [text for text in texts if text in stream.deltas] == stream.deltas


def test_the_reference_server_keeps_the_pace():
    """The reference server writes each delta at the time at which its engine yields it."""
    stream = TokenStream(["one ", "two ", "three "], every=0.25)
    body = json.dumps({"messages": [{"role": "user", "content": "count"}]}).encode()
    scope = {"type": "http", "method": "POST", "path": "/agents/demo/run", "headers": []}
    requests = [{"type": "http.request", "body": body}]
    timed_texts = []

    async def receive():
        return requests.pop() if requests else await asyncio.Event().wait()

    async def send(message):
        for event in sse.decode(message.get("body", b"")):
            timed_texts.append((time.monotonic() - start, json.loads(event.data)["text"]))

    with VirtualClock():
        start = time.monotonic()
        asyncio.run(create_app(lambda _messages: stream)(scope, receive, send))
    assert timed_texts[:-1] == [(0.0, "one "), (0.25, "two "), (0.5, "three ")]


# -- scripts and requests


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([], "a script needs at least one stream"),
        ([TURN], r"takes streams, and functions from a Request to one, not Turn\("),
    ],
)
def test_what_is_no_script(answers, message):
    """A script needs at least one answer, and every answer must be a stream or a function."""
    with pytest.raises(TypeError, match=message):
        Script(*answers)


def test_a_request_reads_its_body():
    """`Request.json` is the body of the request, parsed as JSON."""
    assert Request("/", {}, b'{"a": 1}').json == {"a": 1}


def test_any_stream_of_bytes_will_do():
    """A script serves any stream of bytes at any path."""
    with serve(TokenStream([b"data: 1\n\n"])) as script:
        assert httpx.get(script.url).content == b"data: 1\n\n"


def test_examples_in_docstrings():
    """The doctests of the module `server` pass."""
    failed, attempted = doctest.testmod(serving)
    assert attempted
    assert not failed
