"""The reference throttle keeps its contract, and each of its regressions breaks what names it."""

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

THROTTLES = [name for name, each in REGRESSIONS.items() if each.breaks]


@pytest.fixture(scope="module")
def found():
    """What each regression breaks."""
    return matrix()


def test_the_healthy_throttle_breaks_nothing(found):
    """In no scenario."""
    assert found[""] == set()


@pytest.mark.parametrize("name", THROTTLES)
def test_a_regression_breaks_what_names_it(found, name):
    """And what else it breaks is justified."""
    named = set(REGRESSIONS[name].breaks)
    assert named
    assert named <= found[name]
    assert found[name] == named or name in OVERLAPS


def test_the_matrix_is_the_one_that_is_committed(found):
    """`python -m benchmarks.matrix > docs/throttle.md` writes it."""
    committed = Path(__file__).parents[2] / "docs" / "throttle.md"
    assert committed.read_text(encoding="utf-8") == f"{page(found)}\n"


class Turns(RuleBasedStateMachine):
    """A turn of up to three tool calls, fed and ended in whatever way, in virtual time."""

    def __init__(self):
        super().__init__()
        self.clock = VirtualClock()
        self.clock.__enter__()
        self.runner = asyncio.Runner(loop_factory=new_event_loop)
        self.spy = Mock(wraps=throttle.parse)
        self.patch = patch.object(throttle, "parse", self.spy)
        self.patch.start()
        self.counter = self.run(UpdateCounter, **self.evidence())
        self.updates = throttle.ToolCallUpdates(self.counter, every=EVERY)
        self.begun = set()
        self.ending = "end"

    @initialize(ending=st.sampled_from(["end", "error", "cancel"]))
    def ends(self, ending):
        """How it will be over."""
        self.ending = ending

    def evidence(self):
        """All that there is."""
        return {
            "of": TokenStream(0),
            "key": lambda call: call.args[0],
            "value": lambda call: call.args[1],
            "latest": self.spy._mock_wraps,
            "parses": self.spy,
        }

    def run(self, function, *args, **kwargs):
        """Call a function on the event loop."""

        async def call():
            return function(*args, **kwargs)

        return self.runner.run(call())

    @rule(index=st.integers(0, 2), text=st.sampled_from(["word ", ""]))
    def feed(self, index, text):
        """A piece arrives, now and then an empty one; the third call alone has an id."""
        if index not in self.begun:
            self.begun.add(index)
            text = '{"content": "'
        delta = ToolCallDelta(index, "call_2" if index == 2 else "", "", text)
        self.counter.arrived(delta)
        self.run(self.updates.feed, delta.index, delta.id, delta.arguments)

    @rule(index=st.integers(0, 2), pieces=st.integers(2, 12))
    def streams(self, index, pieces):
        """Pieces arrive one after the other, sooner than updates may."""
        for _ in range(pieces):
            self.feed(index, "word ")
            self.wait(1)

    @rule(ticks=st.integers(1, 40))
    def wait(self, ticks):
        """Time passes."""
        self.runner.run(asyncio.sleep(ticks / 64))

    @rule()
    def begins_again(self):
        """It is retried."""
        self.runner.run(self.say("retry"))

    async def say(self, how):
        """Note it, and tell the throttle: what it says of its own, an end, comes after that."""
        told, tell = getattr(self.updates, how), getattr(self.counter, how)
        for step in [told, tell] if how == "end" else [tell, told]:
            step()
        self.begun.clear()

    def teardown(self):
        """Hold what happened against the contract."""
        try:
            self.runner.run(self.say(self.ending))
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
    """Random arrivals, keys, waits, errors, cancels and retries find nothing."""
    run_state_machine_as_test(Turns, settings=SETTINGS)


@pytest.mark.parametrize("name", THROTTLES)
def test_whatever_is_planted_is_found(name):
    """The same finds every regression."""
    # Found is enough: the smallest example is for people.
    unshrunk = settings(SETTINGS, max_examples=400, phases=[Phase.generate])
    with regressed(name), pytest.raises(AssertionError, match="Breach"):
        run_state_machine_as_test(Turns, settings=unshrunk)
