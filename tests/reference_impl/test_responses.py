"""The response writers: three dialects, few flushes, nothing held back, and what goes wrong."""

import asyncio
import json
import re

import pytest

from pytest_streamperf import FlushCounter, ThrottlingExceeded, TokenStream, VirtualClock
from reference_impl import regressed, responses
from reference_impl.responses import DIALECTS

EVERY_DIALECT = pytest.mark.parametrize("name", DIALECTS)


async def push(_data):
    """Go nowhere."""


def written(name, stream, counter, fails_after=None):
    """Write a reply, by whichever writer is in place, in virtual time; the bytes of it."""

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


def sent(counter):
    """All bytes that were pushed."""
    return b"".join(flush.data for flush in counter.record.flushes)


def counted(name, fails_after=None):
    """Ten seconds of 100 deltas each."""
    stream = TokenStream(tokens=1_000, every=0.01)
    counter = FlushCounter(of=stream)
    written(name, stream, counter, fails_after)
    return counter


def texts(name, data):
    """Read the text of a reply back, as a client does."""
    if name == "ndjson":
        lines = [json.loads(line) for line in data.splitlines()]
        return "".join(line["message"]["content"] for line in lines)
    events = [json.loads(each) for each in re.findall(rb"^data: ({.*})$", data, re.MULTILINE)]
    if name == "openai":
        return "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    return "".join(
        event["delta"]["text"] for event in events if event["type"] == "content_block_delta"
    )


@EVERY_DIALECT
def test_a_reply_arrives_whole(name):
    """What a client reads is what the model said, and it is told that it is the end."""
    counter = counted(name)
    assert texts(name, sent(counter)) == TokenStream(tokens=1_000).text
    ends = {"openai": b"[DONE]", "anthropic": b"message_stop", "ndjson": b'"done":true'}
    assert ends[name] in sent(counter)[-120:]


@EVERY_DIALECT
def test_flushes_are_coalesced(name):
    """Twenty a second, and no delta waits for longer than 50 ms; the first does not wait."""
    counter = counted(name)
    found = counter.assert_coalesced(per_second=21, bytes_per_flush=200, max_held=0.05)
    assert found.verdict == "within"
    assert counter.record.flushes[0].time == counter.record.arrivals[0].time


@EVERY_DIALECT
@pytest.mark.parametrize(
    ("regression", "says"),
    [
        ("flush-per-token", "flushes in one second, limit 21"),
        ("held-back-tail", "deltas were never flushed"),
    ],
)
def test_a_regression_is_caught(name, regression, says):
    """By the rate, and at the end."""
    with regressed(regression):
        counter = counted(name)
    with pytest.raises(ThrottlingExceeded, match=says):
        counter.assert_coalesced(per_second=21)


@EVERY_DIALECT
@pytest.mark.parametrize("regression", [[], ["swallowed-error-flush"]])
def test_an_error_is_flushed(name, regression):
    """What came before it goes out, and then the error; unless it is swallowed."""
    stream = TokenStream(tokens=100, every=0.01)
    counter = FlushCounter(of=stream)
    with regressed(*regression), pytest.raises(RuntimeError, match="the model is gone"):
        written(name, stream, counter, fails_after=48)
    counter.end()
    said = b"RuntimeError: the model is gone" in sent(counter)
    assert said is not bool(regression)
    if regression:
        with pytest.raises(ThrottlingExceeded, match="deltas were never flushed"):
            counter.assert_coalesced()


def test_a_slow_client_is_waited_for():
    """One push at a time, in order."""
    running, most, order = 0, 0, []

    async def slow(data):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.3)
        order.append(data)
        running -= 1

    async def main():
        writer = responses.ResponseWriter(slow, DIALECTS["ndjson"])
        await writer.write(TokenStream(tokens=200, every=0.01))

    with VirtualClock():
        asyncio.run(main())
    assert most == 1
    assert texts("ndjson", b"".join(order)) == TokenStream(tokens=200).text


def test_a_client_that_leaves_is_noticed():
    """At the next delta: the rest is not read."""
    taken = 0

    async def gone(_data):
        raise ConnectionResetError

    async def deltas():
        nonlocal taken
        async for delta in TokenStream(tokens=300, every=0.02):
            taken += 1
            yield delta

    async def main():
        writer = responses.ResponseWriter(gone, DIALECTS["openai"])
        with pytest.raises(ConnectionResetError):
            await writer.write(deltas())

    with VirtualClock():
        asyncio.run(main())
    assert taken < 5
