"""How often something is flushed: what is counted, what carried a delta, and the contract."""

import asyncio
import io
import itertools
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf import (
    FlushCounter,
    NothingMeasured,
    ThrottlingExceeded,
    ThrottlingInconclusive,
    TokenStream,
    ToolCall,
    VirtualClock,
)
from pytest_streamperf.throttling.coalescing import carried_by


class Responder:
    """Gathers what comes within 50 ms, or 8 KiB, into one server-sent event."""

    def __init__(self, write, *, within=0.05, block=8192, tail=True):
        self.write, self.within, self.block, self.tail = write, within, block, tail
        self.parts, self.since = [], 0.0

    def feed(self, delta):
        """Take a delta."""
        if not self.parts:
            self.since = time.monotonic()
        self.parts.append(delta)
        full = sum(map(len, self.parts)) >= self.block
        if full or time.monotonic() - self.since >= self.within:
            self.flush()

    def flush(self):
        """Write what there is."""
        if self.parts:
            self.write(f"data: {json.dumps(''.join(self.parts))}\n\n".encode())
            self.parts = []

    def end(self):
        """Write the rest."""
        if self.tail:
            self.flush()


def respond(counter, stream, **how):
    """Send a stream by way of a call, in virtual time."""
    with VirtualClock():
        responder = Responder(counter.call(len), **how)
        for delta in stream:
            responder.feed(delta)
        responder.end()


def counted(**how):
    """Five seconds of 100 deltas each, sent."""
    stream = TokenStream(tokens=500, every=0.01)
    counter = FlushCounter(of=stream)
    respond(counter, stream, **how)
    return counter


def test_a_good_responder_is_within():
    """Few flushes, none held back, and all of it out at the end."""
    found = counted().assert_coalesced(per_second=20, bytes_per_flush=20, max_held=0.1)
    assert found.verdict == "within"
    assert found.longest_held == pytest.approx(0.05, abs=1e-6)
    assert found.flushes < 90


BAD = {
    "one for every token": ({"within": 0.0}, {"per_second": 20}, r"10\d flushes in one second"),
    "small ones": (
        {"within": 0.0},
        {"bytes_per_flush": 40},
        r"500 flushes of \d+ bytes on average",
    ),
    "blocks": ({"within": 9.0, "block": 1024}, {}, r"a delta was held for 2.\d s, in a block of 1"),
    "a tail that is held back": (
        {"tail": False, "within": 0.06},
        {},
        r"\d deltas were never flushed",
    ),
}


@pytest.mark.parametrize(("how", "promise", "says"), BAD.values(), ids=BAD)
def test_what_is_exceeded(how, promise, says):
    """Each fault has a headline of its own; the message fits, and draws when."""
    with pytest.raises(ThrottlingExceeded, match=says) as caught:
        counted(**how).assert_coalesced(**promise)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 13
    assert all(len(line) <= 72 for line in lines)
    assert any(line.lstrip().startswith("flushes") for line in lines)


def test_a_late_flush_is_told():
    """A timer that flushes when the stream is long over."""
    stream = TokenStream(tokens=3)
    counter = FlushCounter(of=stream)
    with VirtualClock():
        push = counter.call(len)
        text = "".join(stream)
        time.sleep(0.2)
        push(text)
    with pytest.raises(ThrottlingExceeded, match="the last flush came 200 ms after the stream had"):
        counter.assert_coalesced()


def test_what_was_written_and_never_flushed():
    """A file that is not flushed at the end keeps the tail in its buffer."""
    stream = TokenStream(list("abc"))
    counter = FlushCounter(of=stream)
    file = counter.file(io.BytesIO())
    for delta in stream:
        file.write(delta.encode())
    with pytest.raises(ThrottlingExceeded, match="3 B were written and never flushed"):
        counter.assert_coalesced()


def test_files_flush_when_they_are_told_to():
    """Writes are gathered; closing flushes; what else a file can do it does."""
    counter = FlushCounter()
    with counter.file(io.BytesIO()) as file:
        file.write(b"one")
        file.writelines([b"two", b"three"])
        file.flush()
        file.flush()
        assert file.getvalue() == b"onetwothree"
        file.write(b"four")
    assert [(flush.writes, flush.data) for flush in counter.record.flushes] == [
        (3, b"onetwothree"),
        (1, b"four"),
    ]
    assert file.closed


def test_text_files():
    """Text is counted as UTF-8."""
    counter = FlushCounter()
    file = counter.file(io.StringIO())
    file.write("\N{SNOWMAN}")
    file.flush()
    assert counter.record.flushes[0].data == "\N{SNOWMAN}".encode()
    assert file.getvalue() == "\N{SNOWMAN}"


def test_a_stream_writer_over_a_socket():
    """Every write is pushed, and arrives."""
    counter = FlushCounter()

    async def serve(reader, writer):
        pushing = counter.writer(writer)
        pushing.write(await reader.read(1))
        await pushing.drain()
        pushing.writelines([b"two", b"three"])
        await pushing.drain()
        pushing.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"1")
            received = await reader.read()
            writer.close()
            return received

    assert asyncio.run(main()) == b"1twothree"
    assert [flush.data for flush in counter.record.flushes] == [b"1", b"twothree"]


def test_an_asgi_send():
    """Messages with a body are flushes; a start, or an empty end, is none."""
    counter, sent = FlushCounter(), []

    async def send(message):
        sent.append(message["type"])

    async def app(send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"data: 1", "more_body": True})
        await send({"type": "websocket.send", "text": "two"})
        await send({"type": "http.response.body", "body": b""})

    asyncio.run(app(counter.send(send)))
    assert len(sent) == 4
    assert [flush.data for flush in counter.record.flushes] == [b"data: 1", b"two"]


def test_an_async_call():
    """Whatever takes what it pushes as its first argument."""
    counter = FlushCounter()

    async def push(data, *, to):
        return to, data

    assert asyncio.run(counter.call(push)(b"x", to=1)) == (1, b"x")
    assert len(counter.record.flushes) == 1


@given(
    texts=st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=20),
    sizes=st.lists(st.integers(1, 5), min_size=1),
    ascii_only=st.booleans(),
)
def test_a_delta_is_carried_by_the_flush_it_is_in(texts, sizes, ascii_only):
    """However deltas are gathered, and however they are written as JSON."""
    stream, carried = TokenStream(texts), []
    counter = FlushCounter(of=stream)
    push = counter.call(len)
    parts, cuts = [], itertools.cycle(sizes)
    room, number = next(cuts), 0
    for delta in stream:
        parts.append(delta)
        carried.append(number)
        if len(parts) == room:
            push(json.dumps("".join(parts), ensure_ascii=ascii_only).encode())
            parts, room, number = [], next(cuts), number + 1
    if parts:
        push(json.dumps("".join(parts), ensure_ascii=ascii_only).encode())
    record = counter.record
    assert [record.flushes.index(flush) for flush in carried_by(record)] == carried


def test_arguments_of_tool_calls_are_found():
    """Their deltas are pieces of JSON, which is escaped once more on its way."""
    stream = TokenStream.turn(ToolCall("write", {"content": 'say "hello" ' * 20}), every=0.01)
    counter = FlushCounter(of=stream)

    class OfArguments(Responder):
        def feed(self, delta):
            super().feed(delta.arguments)

    with VirtualClock():
        responder = OfArguments(counter.call(len))
        for delta in stream:
            responder.feed(delta)
        responder.end()
    assert counter.assert_coalesced(max_held=0.06).verdict == "within"


def test_without_a_stream_it_is_inconclusive():
    """What the flushes carried, and when it came, is not known."""
    counter = FlushCounter()
    counter.call(len)(b"x")
    with pytest.raises(ThrottlingInconclusive, match="no evidence") as caught:
        counter.assert_coalesced()
    assert "pass of=stream" in str(caught.value)


def test_nothing_written():
    """Is nothing measured."""
    with pytest.raises(NothingMeasured, match="nothing was written"):
        FlushCounter(of=TokenStream(3)).assert_coalesced()


@pytest.mark.parametrize("name", ["per_second", "bytes_per_flush", "max_held", "tolerance"])
@pytest.mark.parametrize("value", [-1, float("nan"), "2"])
def test_bad_promises(name, value):
    """The text names the argument, and what is allowed."""
    with pytest.raises(ValueError, match=f"^{name} must be .*'.*, not "):
        FlushCounter().assert_coalesced(**{name: value})


def test_bad_evidence():
    """A list of deltas is not a stream."""
    with pytest.raises(TypeError, match="of must be a TokenStream"):
        FlushCounter(of=["a"])


# -- found by review


def test_a_stream_that_is_read_again():
    """A stream that is counted can be read once."""
    stream = TokenStream(3)
    FlushCounter(of=stream)
    list(stream)
    with pytest.raises(RuntimeError, match="can be read once"):
        list(stream)


@pytest.mark.parametrize("deltas", [["a", "b", ""], ["a", "", "b"]])
def test_empty_deltas_are_carried_by_nothing(deltas):
    """Nor are they held, or missing."""
    stream = TokenStream(deltas, every=0.3)
    counter = FlushCounter(of=stream)
    push = counter.call(len)
    with VirtualClock():
        for delta in stream:
            if delta:
                push(delta)
    assert counter.assert_coalesced().verdict == "within"


def test_whatever_is_pushed_has_a_size():
    """Text with half a surrogate pair, and what is sent as JSON."""
    counter = FlushCounter()
    push = counter.call(lambda _: None)
    push("\ud800")
    push({"t": 1})
    assert [len(flush.data) for flush in counter.record.flushes] == [3, 8]


def test_less_than_one_flush_a_second():
    """Is not what `per_second` can say."""
    with pytest.raises(ValueError, match="per_second must be 1 or more"):
        FlushCounter().assert_coalesced(per_second=0.5)
