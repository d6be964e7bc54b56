"""Tests of `assert_test_detects`: it checks that a test of a throttle detects faulty throttles.

The function runs a test with a correct throttle and with each faulty one of `THROTTLE_MUTANTS`. The
verdict is within if the test passes for the correct throttle and fails for every faulty one.
"""

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
    """Test a throttle as the merged tests of VS Code's throttle do: the clock moves first.

    Then the test feeds all values at one instant.
    """
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


async def feed_and_check(throttle, counter, tool_calls, ending):
    """Feed deltas of several tool calls in turn to a throttle, and check its updates.

    The feed pauses once for 0.5 s. `ending` names the method that ends it: end, cancel, error or
    retry.
    """
    texts = {}
    for number in range(60):
        index = number % tool_calls
        delta = ToolCallDelta(index, f"call_{index}", "", "word ")
        counter.arrived(delta)
        texts[index] = texts.get(index, "") + delta.arguments
        throttle.feed(texts[index], delta.id)
        if number == 30:
            await asyncio.sleep(0.5)
        await asyncio.sleep(0.03)
    if ending == "end":
        throttle.end()
        counter.end()
    else:
        getattr(counter, ending)()
        getattr(throttle, ending)()
    await asyncio.sleep(1)
    counter.assert_throttled(every=0.1)


async def check_with_counter(make_throttle):
    """Test a throttle as this project does: check the updates of every ending with a counter."""
    for ending in ("end", "cancel", "error", "retry"):
        with VirtualClock():
            counter = UpdateCounter(
                of=TokenStream(0),
                key=lambda call: call.args[0],
                value=lambda call: call.args[1],
            )
            await feed_and_check(make_throttle(counter, 0.1), counter, 2, ending)


def test_the_contract_notices_every_bad_throttle():
    """A test with `UpdateCounter` passes for the correct throttle and detects every faulty one."""
    result = assert_test_detects(check_with_counter)
    assert result.verdict == "within"
    assert list(result.noticed) == list(THROTTLE_MUTANTS)


def test_enqueue_tick_process_is_exposed():
    """A test that feeds all values at one instant does not detect every faulty throttle.

    The message names the faulty throttles and advises to let time pass.
    """
    with pytest.raises(
        ThrottlingExceeded, match=r"enqueue_tick_process detects \d of 13"
    ) as caught:
        assert_test_detects(enqueue_tick_process)
    unnoticed = caught.value.verdict.unnoticed
    assert "sends once, and then only at the end" in unnoticed
    assert "waits until no more values come" not in unnoticed
    assert "let time pass between values" in str(caught.value)


def test_a_test_that_always_fails_proves_nothing():
    """A test that fails for the correct throttle makes the check inconclusive."""

    def always_fails(make_throttle):
        make_throttle(print, 0.1)
        raise AssertionError("no")

    with pytest.raises(
        ThrottlingInconclusive, match="does not pass for a correct throttle"
    ) as caught:
        assert_test_detects(always_fails)
    assert "AssertionError: no" in str(caught.value)


def test_subjects_of_ones_own():
    """`subjects` takes faulty throttles of the user, and the test may be sync."""

    def make_silent(_send, _every):
        class SilentThrottle:
            def feed(self, value, key=None):
                pass

            def end(self):
                pass

        return SilentThrottle()

    def check_first_value(make_throttle):
        sent = []
        throttle = make_throttle(lambda _key, value: sent.append(value), 0.1)
        throttle.feed("a")
        throttle.end()
        assert sent == ["a"]

    assert (
        assert_test_detects(check_first_value, {"sends nothing": make_silent}).verdict == "within"
    )


def test_an_async_test_inside_a_loop():
    """An async test inside a running event loop raises a `TypeError`."""

    async def main():
        assert_test_detects(check_with_counter)

    with pytest.raises(TypeError, match="in a sync test"):
        asyncio.run(main())


def test_the_good_throttle_needs_no_loop():
    """Without an event loop, the correct throttle has no timer.

    It sends a pending value with the next value, or at the end.
    """

    def check_without_loop(make_throttle):
        sent = []
        with VirtualClock():
            throttle = make_throttle(lambda _key, value: sent.append(value), 0.1)
            for value in range(11):
                throttle.feed(value)
                time.sleep(0.05)
            throttle.end()
        assert sent == [0, 2, 4, 6, 8, 10]

    assert assert_test_detects(check_without_loop, {}).verdict == "within"


def test_a_test_that_fails_from_then_on_proves_nothing():
    """A test that passes only once makes the check inconclusive.

    The check runs the correct throttle a second time at the end.
    """
    used = []

    def passes_once(make_throttle):
        make_throttle(print, 0.1)
        used.append(True)
        assert len(used) == 1, "used already"

    with pytest.raises(
        ThrottlingInconclusive, match="does not pass for a correct throttle"
    ) as caught:
        assert_test_detects(passes_once)
    assert "used already" in str(caught.value)


def test_pytests_own_failures_are_noticed():
    """A test that calls `pytest.fail` detects the fault, and a test that skips ends the check."""

    def fails_by_pytest(make_throttle):
        sent = []
        throttle = make_throttle(lambda _key, value: sent.append(value), 0.1)
        throttle.feed("a")
        throttle.end()
        if sent != ["a"]:
            pytest.fail("nothing came")

    class SilentThrottle:
        def feed(self, value, key=None):
            pass

        def end(self):
            pass

    result = assert_test_detects(
        fails_by_pytest, {"sends nothing": lambda _send, _every: SilentThrottle()}
    )
    assert result.noticed == ["sends nothing"]
    with pytest.raises(pytest.skip.Exception):
        assert_test_detects(lambda _make: pytest.skip("not today"))


def test_the_good_throttle_keeps_its_rate():
    """The correct throttle keeps its interval, though a stall of the loop delays its timer."""

    def check_interval(make_throttle):
        sent = []

        async def main():
            throttle = make_throttle(lambda _key, _value: sent.append(time.monotonic()), 0.1)
            throttle.feed("a")
            throttle.feed("b")
            time.sleep(0.2)  # noqa: ASYNC251 - a stall of the loop delays the timer
            throttle.feed("c")
            throttle.feed("d")
            await asyncio.sleep(1)
            throttle.end()

        with VirtualClock():
            asyncio.run(main())
        assert all(after - before > 0.099 for before, after in itertools.pairwise(sent))

    assert assert_test_detects(check_interval, {}).verdict == "within"
