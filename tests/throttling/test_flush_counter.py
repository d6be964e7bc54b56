"""Tests of `FlushCounter`: it counts flushes of a transport and checks their rate, size and delay.

The counter wraps a stream writer, a file, an ASGI `send` or a callable. `carried_by` returns the
flush that carried each delta. Most tests send a stream through a `Responder`, in virtual time.
"""

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
    """Code under test that joins deltas into one server-sent event, and then writes it.

    It writes when the first delta is `max_delay` seconds old, or at `max_length` characters.
    """

    def __init__(self, write, *, max_delay=0.05, max_length=8192, flush_at_end=True):
        self.write, self.max_delay, self.max_length = write, max_delay, max_length
        self.flush_at_end = flush_at_end
        self.pending, self.pending_since = [], 0.0

    def feed(self, delta):
        """Add a delta to the pending event, and write the event if it is old or long enough."""
        if not self.pending:
            self.pending_since = time.monotonic()
        self.pending.append(delta)
        full = sum(map(len, self.pending)) >= self.max_length
        if full or time.monotonic() - self.pending_since >= self.max_delay:
            self.flush()

    def flush(self):
        """Write the pending event, unless it is empty."""
        if self.pending:
            self.write(f"data: {json.dumps(''.join(self.pending))}\n\n".encode())
            self.pending = []

    def end(self):
        """Write the pending event at the end, unless `flush_at_end` is False."""
        if self.flush_at_end:
            self.flush()


def respond(counter, stream, **options):
    """Send a stream through a `Responder` whose writes `counter` counts, in virtual time."""
    with VirtualClock():
        responder = Responder(counter.call(len), **options)
        for delta in stream:
            responder.feed(delta)
        responder.end()


def counter_of_five_seconds(**options):
    """Return a counter of the flushes of a `Responder` with these options.

    The responder was fed for five seconds, with 100 deltas in each.
    """
    stream = TokenStream(tokens=500, every=0.01)
    counter = FlushCounter(of=stream)
    respond(counter, stream, **options)
    return counter


def test_a_good_responder_is_within():
    """A responder with few flushes, short delays and a flush at the end is within."""
    result = counter_of_five_seconds().assert_coalesced(
        per_second=20, bytes_per_flush=20, max_held=0.1
    )
    assert result.verdict == "within"
    assert result.longest_held == pytest.approx(0.05, abs=1e-6)
    assert result.flushes < 90


# Description of a fault: options of the `Responder`, limits of the check, and the headline.
FAULTS = {
    "a flush for every delta": (
        {"max_delay": 0.0},
        {"per_second": 20},
        r"10\d flushes in one second",
    ),
    "small flushes": (
        {"max_delay": 0.0},
        {"bytes_per_flush": 40},
        r"500 flushes of \d+ bytes on average",
    ),
    "large blocks": (
        {"max_delay": 9.0, "max_length": 1024},
        {},
        r"a delta was held for 2.\d s, in a block of 1",
    ),
    "no flush at the end": (
        {"flush_at_end": False, "max_delay": 0.06},
        {},
        r"\d deltas were never flushed",
    ),
}


@pytest.mark.parametrize(("options", "limits", "pattern"), FAULTS.values(), ids=FAULTS)
def test_what_is_exceeded(options, limits, pattern):
    """Every fault has its own headline; the message is short and draws a timeline of flushes."""
    with pytest.raises(ThrottlingExceeded, match=pattern) as caught:
        counter_of_five_seconds(**options).assert_coalesced(**limits)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 13
    assert all(len(line) <= 72 for line in lines)
    assert any(line.lstrip().startswith("flushes") for line in lines)


def test_a_late_flush_is_told():
    """A flush 200 ms after the end of the stream raises `ThrottlingExceeded` with the delay."""
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
    """Bytes that are written to a file and never flushed raise `ThrottlingExceeded`."""
    stream = TokenStream(list("abc"))
    counter = FlushCounter(of=stream)
    file = counter.file(io.BytesIO())
    for delta in stream:
        file.write(delta.encode())
    with pytest.raises(ThrottlingExceeded, match="3 B were written and never flushed"):
        counter.assert_coalesced()


def test_files_flush_when_they_are_told_to():
    """A wrapped file counts each `flush` or `close` that has writes before it.

    Every other attribute of the file stays available.
    """
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
    """A wrapped text file records its text as UTF-8."""
    counter = FlushCounter()
    file = counter.file(io.StringIO())
    file.write("\N{SNOWMAN}")
    file.flush()
    assert counter.record.flushes[0].data == "\N{SNOWMAN}".encode()
    assert file.getvalue() == "\N{SNOWMAN}"


def test_a_stream_writer_over_a_socket():
    """A write to a wrapped stream writer counts as a flush, and its bytes reach the client."""
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
    """A message with a body counts as a flush; a response start or an empty body does not."""
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
    """A wrapped async callable records its first argument as a flush and returns its result."""
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
    """`carried_by` finds the flush of each delta, for any grouping and both escapings of JSON."""
    stream, carried = TokenStream(texts), []
    counter = FlushCounter(of=stream)
    push = counter.call(len)
    parts, flush_sizes = [], itertools.cycle(sizes)
    flush_size, flush_number = next(flush_sizes), 0
    for delta in stream:
        parts.append(delta)
        carried.append(flush_number)
        if len(parts) == flush_size:
            push(json.dumps("".join(parts), ensure_ascii=ascii_only).encode())
            parts, flush_size, flush_number = [], next(flush_sizes), flush_number + 1
    if parts:
        push(json.dumps("".join(parts), ensure_ascii=ascii_only).encode())
    record = counter.record
    assert [record.flushes.index(flush) for flush in carried_by(record)] == carried


def test_arguments_of_tool_calls_are_found():
    """The check finds deltas of tool arguments, though the flushes escape their JSON again."""
    stream = TokenStream.turn(ToolCall("write", {"content": 'say "hello" ' * 20}), every=0.01)
    counter = FlushCounter(of=stream)

    class ArgumentsResponder(Responder):
        def feed(self, delta):
            super().feed(delta.arguments)

    with VirtualClock():
        responder = ArgumentsResponder(counter.call(len))
        for delta in stream:
            responder.feed(delta)
        responder.end()
    assert counter.assert_coalesced(max_held=0.06).verdict == "within"


def test_without_a_stream_it_is_inconclusive():
    """A counter without a stream is inconclusive, because it does not know the deltas."""
    counter = FlushCounter()
    counter.call(len)(b"x")
    with pytest.raises(ThrottlingInconclusive, match="no evidence") as caught:
        counter.assert_coalesced()
    assert "pass of=stream" in str(caught.value)


def test_nothing_written():
    """A check of a flush counter that received no write raises `NothingMeasured`."""
    with pytest.raises(NothingMeasured, match="nothing was written"):
        FlushCounter(of=TokenStream(3)).assert_coalesced()


@pytest.mark.parametrize("name", ["per_second", "bytes_per_flush", "max_held", "tolerance"])
@pytest.mark.parametrize("value", [-1, float("nan"), "2"])
def test_bad_promises(name, value):
    """A bad limit of `assert_coalesced` raises an error that names it and the allowed values."""
    with pytest.raises(ValueError, match=f"^{name} must be .*'.*, not "):
        FlushCounter().assert_coalesced(**{name: value})


def test_bad_evidence():
    """A list of deltas as `of` raises a `TypeError`, because it is not a stream."""
    with pytest.raises(TypeError, match="of must be a TokenStream"):
        FlushCounter(of=["a"])


# -- cases that a review found


def test_a_stream_that_is_read_again():
    """The second reading of a stream with a flush counter raises a `RuntimeError`."""
    stream = TokenStream(3)
    FlushCounter(of=stream)
    list(stream)
    with pytest.raises(RuntimeError, match="can be read once"):
        list(stream)


@pytest.mark.parametrize("deltas", [["a", "b", ""], ["a", "", "b"]])
def test_empty_deltas_are_carried_by_nothing(deltas):
    """An empty delta needs no flush, so it is neither held back nor missing."""
    stream = TokenStream(deltas, every=0.3)
    counter = FlushCounter(of=stream)
    push = counter.call(len)
    with VirtualClock():
        for delta in stream:
            if delta:
                push(delta)
    assert counter.assert_coalesced().verdict == "within"


def test_whatever_is_pushed_has_a_size():
    """A lone surrogate is counted as three bytes, and an object as the bytes of its JSON."""
    counter = FlushCounter()
    push = counter.call(lambda _: None)
    push("\ud800")
    push({"t": 1})
    assert [len(flush.data) for flush in counter.record.flushes] == [3, 8]


def test_less_than_one_flush_a_second():
    """A `per_second` below 1 raises a `ValueError`."""
    with pytest.raises(ValueError, match="per_second must be 1 or more"):
        FlushCounter().assert_coalesced(per_second=0.5)
