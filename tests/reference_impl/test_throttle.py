"""Tests of the reference throttle: it keeps every invariant, and each seeded regression breaks one.

A seeded regression is a fault put into the reference server on purpose. Its `breaks` are the
numbers of the invariants that it is meant to break.
"""

import asyncio
from pathlib import Path
from unittest.mock import Mock, patch

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from pytest_streamperf import TokenStream, ToolCallDelta, UpdateCounter, VirtualClock
from pytest_streamperf.throttling.invariants import ThrottlePolicy
from pytest_streamperf.throttling.update_counter import check_updates
from pytest_streamperf.virtual_clock import new_event_loop
from reference_impl import REGRESSIONS, regressed, throttle
from tests.matrix.throttles import EVERY, OVERLAPS, matrix, page

THROTTLES = [name for name, regression in REGRESSIONS.items() if regression.breaks]


@pytest.fixture(scope="module")
def broken_by_name():
    """Return the numbers of the invariants that each regression breaks, by its name."""
    return matrix()


def test_the_healthy_throttle_breaks_nothing(broken_by_name):
    """The throttle without a regression breaks no invariant in any scenario."""
    assert broken_by_name[""] == set()


@pytest.mark.parametrize("name", THROTTLES)
def test_a_regression_breaks_what_names_it(broken_by_name, name):
    """A regression breaks the invariants that it is meant to break.

    If it breaks more invariants than those, `OVERLAPS` gives the reason.
    """
    named_invariants = set(REGRESSIONS[name].breaks)
    assert named_invariants
    assert named_invariants <= broken_by_name[name]
    assert broken_by_name[name] == named_invariants or name in OVERLAPS


def test_the_matrix_is_the_one_that_is_committed(broken_by_name):
    """The page docs/throttle.md is what `python -m benchmarks.matrix` prints now."""
    committed = Path(__file__).parents[2] / "docs" / "throttle.md"
    assert committed.read_text(encoding="utf-8") == f"{page(broken_by_name)}\n"


class ThrottledTurns(RuleBasedStateMachine):
    """Random turns of up to three tool calls, with random arrivals and ends, in virtual time."""

    def __init__(self):
        super().__init__()
        self.clock = VirtualClock()
        self.clock.__enter__()
        self.runner = asyncio.Runner(loop_factory=new_event_loop)
        self.spy = Mock(wraps=throttle.parse)
        self.patch = patch.object(throttle, "parse", self.spy)
        self.patch.start()
        self.counter = self.run(UpdateCounter, **self.counter_options())
        self.updates = throttle.ToolCallUpdates(self.counter, every=EVERY)
        self.started = set()
        self.ending = "end"

    @initialize(ending=st.sampled_from(["end", "error", "cancel"]))
    def choose_ending(self, ending):
        """Choose how the turn will end."""
        self.ending = ending

    def counter_options(self):
        """Return the arguments that let the counter check every invariant."""
        return {
            "of": TokenStream(0),
            "key": lambda call: call.args[0],
            "value": lambda call: call.args[1],
            "latest": self.spy._mock_wraps,
            "parses": self.spy,
        }

    def run(self, function, *args, **kwargs):
        """Call a function inside a coroutine of the virtual event loop."""

        async def call():
            return function(*args, **kwargs)

        return self.runner.run(call())

    @rule(index=st.integers(0, 2), text=st.sampled_from(["word ", ""]))
    def feed(self, index, text):
        """Feed a piece, which may be empty; only the third call has an id."""
        if index not in self.started:
            self.started.add(index)
            text = '{"content": "'
        delta = ToolCallDelta(index, "call_2" if index == 2 else "", "", text)
        self.counter.arrived(delta)
        self.run(self.updates.feed, delta.index, delta.id, delta.arguments)

    @rule(index=st.integers(0, 2), pieces=st.integers(2, 12))
    def streams(self, index, pieces):
        """Feed several pieces at a shorter interval than that of updates."""
        for _ in range(pieces):
            self.feed(index, "word ")
            self.wait(1)

    @rule(ticks=st.integers(1, 40))
    def wait(self, ticks):
        """Let time pass, in steps of 1/64 s."""
        self.runner.run(asyncio.sleep(ticks / 64))

    @rule()
    def begins_again(self):
        """Start the turn again."""
        self.runner.run(self.end_turn("retry"))

    async def end_turn(self, ending):
        """End or restart the turn, on the throttle and on the counter.

        An end is the throttle's own event, so the counter hears of it after the throttle. The
        counter hears of a cancel, an error or a retry before the throttle.
        """
        end_throttle, end_counter = getattr(self.updates, ending), getattr(self.counter, ending)
        for step in [end_throttle, end_counter] if ending == "end" else [end_counter, end_throttle]:
            step()
        self.started.clear()

    def teardown(self):
        """End the turn, and assert that no invariant was broken."""
        try:
            self.runner.run(self.end_turn(self.ending))
            self.runner.run(asyncio.sleep(1))
            record = self.run(lambda: self.counter.record)
        finally:
            self.patch.stop()
            self.runner.close()
            self.clock.__exit__(None, None, None)
        if record.updates:
            breaches = check_updates(record, ThrottlePolicy(EVERY)).breaches
            assert not breaches, breaches


SETTINGS = settings(
    max_examples=60,
    stateful_step_count=20,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_whatever_happens_the_healthy_throttle_keeps_the_contract():
    """Random arrivals, keys, waits, errors, cancels and retries find no broken invariant."""
    run_state_machine_as_test(ThrottledTurns, settings=SETTINGS)


@pytest.mark.parametrize("name", THROTTLES)
def test_whatever_is_planted_is_found(name):
    """The same random turns find a broken invariant in every seeded regression."""
    # Any failing example proves the point, so Hypothesis need not shrink it.
    unshrunk = settings(SETTINGS, max_examples=400, phases=[Phase.generate])
    with regressed(name), pytest.raises(AssertionError, match="Breach"):
        run_state_machine_as_test(ThrottledTurns, settings=unshrunk)
