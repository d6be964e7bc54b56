"""Tests of the response writer: dialects, flushes, errors, and slow or disconnected clients."""

import asyncio
import json
import re

import pytest

from pytest_streamperf import FlushCounter, ThrottlingExceeded, TokenStream, VirtualClock
from reference_impl import regressed, responses
from reference_impl.responses import DIALECTS

EVERY_DIALECT = pytest.mark.parametrize("name", DIALECTS)


async def push(_data):
    """Discard the bytes."""


def write_reply(name, stream, counter, fails_after=None):
    """Write a reply with the current writer, in virtual time; `counter` records its flushes.

    With `fails_after`, the stream raises an error after that many deltas.
    """

    async def deltas():
        number = 0
        async for delta in stream:
            if number == fails_after:
                raise RuntimeError("the model is gone")
            number += 1
            yield delta

    async def main():
        writer = responses.ResponseWriter(counter.call(push), DIALECTS[name])
        await writer.write(deltas())

    with VirtualClock():
        asyncio.run(main())


def pushed_bytes(counter):
    """Return all bytes that the writer pushed."""
    return b"".join(flush.data for flush in counter.record.flushes)


def counted_reply(name, fails_after=None):
    """Write a reply of 1,000 deltas in ten seconds, and return the counter of its flushes."""
    stream = TokenStream(tokens=1_000, every=0.01)
    counter = FlushCounter(of=stream)
    write_reply(name, stream, counter, fails_after)
    return counter


def text_of_reply(name, data):
    """Return the text of a reply, as a client of this dialect reads it."""
    if name == "ndjson":
        lines = [json.loads(line) for line in data.splitlines()]
        return "".join(line["message"]["content"] for line in lines)
    events = [json.loads(event) for event in re.findall(rb"^data: ({.*})$", data, re.MULTILINE)]
    if name == "openai":
        return "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    return "".join(
        event["delta"]["text"] for event in events if event["type"] == "content_block_delta"
    )


@EVERY_DIALECT
def test_a_reply_arrives_whole(name):
    """A client reads the whole text of the model, and the last event marks the end of the reply."""
    counter = counted_reply(name)
    assert text_of_reply(name, pushed_bytes(counter)) == TokenStream(tokens=1_000).text
    ends = {"openai": b"[DONE]", "anthropic": b"message_stop", "ndjson": b'"done":true'}
    assert ends[name] in pushed_bytes(counter)[-120:]


@EVERY_DIALECT
def test_flushes_are_coalesced(name):
    """A writer flushes 20 times a second and holds a delta at most 50 ms, the first not at all."""
    counter = counted_reply(name)
    result = counter.assert_coalesced(per_second=21, bytes_per_flush=200, max_held=0.05)
    assert result.verdict == "within"
    assert counter.record.flushes[0].time == counter.record.arrivals[0].time


@EVERY_DIALECT
@pytest.mark.parametrize(
    ("regression", "message"),
    [
        ("flush-per-token", "flushes in one second, limit 21"),
        ("held-back-tail", "deltas were never flushed"),
    ],
)
def test_a_regression_is_caught(name, regression, message):
    """The check catches a flush per delta by its rate, and a missing last flush at the end."""
    with regressed(regression):
        counter = counted_reply(name)
    with pytest.raises(ThrottlingExceeded, match=message):
        counter.assert_coalesced(per_second=21)


@EVERY_DIALECT
@pytest.mark.parametrize("regression", [[], ["swallowed-error-flush"]])
def test_an_error_is_flushed(name, regression):
    """When the model fails, the writer flushes the pending deltas and then the error.

    The regression "swallowed-error-flush" sends neither, and the check reports the lost deltas.
    """
    stream = TokenStream(tokens=100, every=0.01)
    counter = FlushCounter(of=stream)
    with regressed(*regression), pytest.raises(RuntimeError, match="the model is gone"):
        write_reply(name, stream, counter, fails_after=48)
    counter.end()
    has_error = b"RuntimeError: the model is gone" in pushed_bytes(counter)
    assert has_error is not bool(regression)
    if regression:
        with pytest.raises(ThrottlingExceeded, match="deltas were never flushed"):
            counter.assert_coalesced()


def test_a_slow_client_is_waited_for():
    """A writer waits for a slow client: one push at a time, in order."""
    running, most_running, order = 0, 0, []

    async def slow(data):
        nonlocal running, most_running
        running += 1
        most_running = max(most_running, running)
        await asyncio.sleep(0.3)
        order.append(data)
        running -= 1

    async def main():
        writer = responses.ResponseWriter(slow, DIALECTS["ndjson"])
        await writer.write(TokenStream(tokens=200, every=0.01))

    with VirtualClock():
        asyncio.run(main())
    assert most_running == 1
    assert text_of_reply("ndjson", b"".join(order)) == TokenStream(tokens=200).text


def test_a_client_that_leaves_is_noticed():
    """A writer whose client has left stops reading the model's deltas."""
    deltas_read = 0

    async def gone(_data):
        raise ConnectionResetError

    async def deltas():
        nonlocal deltas_read
        async for delta in TokenStream(tokens=300, every=0.02):
            deltas_read += 1
            yield delta

    async def main():
        writer = responses.ResponseWriter(gone, DIALECTS["openai"])
        with pytest.raises(ConnectionResetError):
            await writer.write(deltas())

    with VirtualClock():
        asyncio.run(main())
    assert deltas_read < 5
