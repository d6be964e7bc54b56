"""Would your test notice? Tests of throttles, tested."""

import asyncio
import itertools
import time

import pytest

from pytest_streamperf import (
    THROTTLE_MUTANTS,
    ThrottlingExceeded,
    ThrottlingInconclusive,
    TokenStream,
    ToolCallDelta,
    UpdateCounter,
    VirtualClock,
    assert_test_detects,
)


def enqueue_tick_process(make_throttle):
    """The way of the merged tests of VS Code's throttle: time moves before anything is consumed."""
    sent = []
    with VirtualClock() as clock:
        queued = ["a", "ab", "abc"]
        clock.advance(0.2)
        throttle = make_throttle(lambda _key, value: sent.append(value), 0.1)
        for value in queued:
            throttle.feed(value)
        throttle.end()
    assert sent[0] == "a"
    assert sent[-1] == "abc"
    assert len(sent) < len(queued)


async def drive(updates, counter, calls, ending):
    """Two tool calls in turns, a pause, and an end of one kind or another."""
    texts = {}
    for number in range(60):
        index = number % calls
        delta = ToolCallDelta(index, f"call_{index}", "", "word ")
        counter.arrived(delta)
        texts[index] = texts.get(index, "") + delta.arguments
        updates.feed(texts[index], delta.id)
        if number == 30:
            await asyncio.sleep(0.5)
        await asyncio.sleep(0.03)
    if ending == "end":
        updates.end()
        counter.end()
    else:
        getattr(counter, ending)()
        getattr(updates, ending)()
    await asyncio.sleep(1)
    counter.assert_throttled(every=0.1)


async def with_a_counter(make_throttle):
    """The way of this project: all that happened, against the contract."""
    for ending in ("end", "cancel", "error", "retry"):
        with VirtualClock():
            counter = UpdateCounter(
                of=TokenStream(0),
                key=lambda call: call.args[0],
                value=lambda call: call.args[1],
            )
            await drive(make_throttle(counter, 0.1), counter, 2, ending)


def test_the_contract_notices_every_bad_throttle():
    """And lets the good one pass."""
    proof = assert_test_detects(with_a_counter)
    assert proof.verdict == "within"
    assert list(proof.noticed) == list(THROTTLE_MUTANTS)


def test_enqueue_tick_process_is_exposed():
    """It looks at what a throttle does with values that all come at once."""
    with pytest.raises(
        ThrottlingExceeded, match=r"enqueue_tick_process detects \d of 13"
    ) as caught:
        assert_test_detects(enqueue_tick_process)
    unnoticed = caught.value.verdict.unnoticed
    assert "sends once, and then only at the end" in unnoticed
    assert "waits until no more values come" not in unnoticed
    assert "let time pass between values" in str(caught.value)


def test_a_test_that_always_fails_proves_nothing():
    """It fails for the good throttle, too."""

    def impossible(make_throttle):
        make_throttle(print, 0.1)
        raise AssertionError("no")

    with pytest.raises(
        ThrottlingInconclusive, match="does not pass for a correct throttle"
    ) as caught:
        assert_test_detects(impossible)
    assert "AssertionError: no" in str(caught.value)


def test_subjects_of_ones_own():
    """Bad throttles can be one's own, and a test can be sync."""

    def swallows(_send, _every):
        class Swallows:
            def feed(self, value, key=None):
                pass

            def end(self):
                pass

        return Swallows()

    def anything_is_sent(make_throttle):
        sent = []
        throttle = make_throttle(lambda _key, value: sent.append(value), 0.1)
        throttle.feed("a")
        throttle.end()
        assert sent == ["a"]

    assert assert_test_detects(anything_is_sent, {"sends nothing": swallows}).verdict == "within"


def test_an_async_test_inside_a_loop():
    """It would need a loop of its own."""

    async def main():
        assert_test_detects(with_a_counter)

    with pytest.raises(TypeError, match="in a sync test"):
        asyncio.run(main())


def test_the_good_throttle_needs_no_loop():
    """Without one it has no timer: what waits goes out with the next value, or at the end."""

    def sync(make_throttle):
        sent = []
        with VirtualClock():
            throttle = make_throttle(lambda _key, value: sent.append(value), 0.1)
            for value in range(11):
                throttle.feed(value)
                time.sleep(0.05)
            throttle.end()
        assert sent == [0, 2, 4, 6, 8, 10]

    assert assert_test_detects(sync, {}).verdict == "within"


def test_a_test_that_fails_from_then_on_proves_nothing():
    """The good throttle is tried again at the end."""
    used = []

    def once(make_throttle):
        make_throttle(print, 0.1)
        used.append(True)
        assert len(used) == 1, "used already"

    with pytest.raises(
        ThrottlingInconclusive, match="does not pass for a correct throttle"
    ) as caught:
        assert_test_detects(once)
    assert "used already" in str(caught.value)


def test_pytests_own_failures_are_noticed():
    """`pytest.fail` and `pytest.raises` do not end the proof; a skip does."""

    def fails(make_throttle):
        sent = []
        throttle = make_throttle(lambda _key, value: sent.append(value), 0.1)
        throttle.feed("a")
        throttle.end()
        if sent != ["a"]:
            pytest.fail("nothing came")

    class Swallows:
        def feed(self, value, key=None):
            pass

        def end(self):
            pass

    proof = assert_test_detects(fails, {"sends nothing": lambda _send, _every: Swallows()})
    assert proof.noticed == ["sends nothing"]
    with pytest.raises(pytest.skip.Exception):
        assert_test_detects(lambda _make: pytest.skip("not today"))


def test_the_good_throttle_keeps_its_rate():
    """A value that came in time stops the timer of the one before it."""

    def bursts(make_throttle):
        sent = []

        async def main():
            throttle = make_throttle(lambda _key, _value: sent.append(time.monotonic()), 0.1)
            throttle.feed("a")
            throttle.feed("b")
            time.sleep(0.2)  # noqa: ASYNC251 - a stall
            throttle.feed("c")
            throttle.feed("d")
            await asyncio.sleep(1)
            throttle.end()

        with VirtualClock():
            asyncio.run(main())
        assert all(after - before > 0.099 for before, after in itertools.pairwise(sent))

    assert assert_test_detects(bursts, {}).verdict == "within"
