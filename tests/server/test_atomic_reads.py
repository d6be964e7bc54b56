"""Tests of `assert_atomic_reads`: reads beside a writer must be whole and not stale.

The check runs against a worker slot of the reference server, in shared memory, and against small
states. The tests of `fault_of`, of the reader loop and of the verdict need no writer.
"""

import threading
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf import NothingMeasured, ServerExceeded
from pytest_streamperf.server import assert_atomic_reads
from pytest_streamperf.server.atomic_reads import (
    ReadEvidence,
    ReadObservation,
    _read,
    fault_of,
    verdict_on_reads,
)
from reference_impl import regressed
from tests.failure_messages import headline_of
from tests.matrix import worker_slot


def check_worker_slot():
    """Run `assert_atomic_reads` on one slot of the reference server's worker registry."""
    with worker_slot.shared_slot() as memory:
        return assert_atomic_reads(
            partial(worker_slot.write, memory), partial(worker_slot.read, memory), writer="process"
        )


def test_a_slot_of_the_registry():
    """Reads of a worker slot are whole and not stale while another process writes the slot."""
    verdict = check_worker_slot()
    assert verdict.headline.endswith("reads met a write, all whole and not stale")
    assert not any(verdict.figures.counts.values())


@pytest.mark.parametrize(
    ("regression", "end_of_headline"),
    [("torn-read", "reads are torn, limit 0"), ("stale-read", "reads are stale, limit 0")],
)
def test_a_mistake_is_told(regression, end_of_headline):
    """A seeded regression fails the check, and the headline counts the torn or stale reads."""
    with regressed(regression), pytest.raises(ServerExceeded) as caught:
        check_worker_slot()
    assert headline_of(caught).endswith(end_of_headline)


class TwoPartState:
    """A state of two parts, which a write sets one after the other."""

    def __init__(self, lock=None):
        self._lock = lock
        self.parts = {"tasks": 0, "total": 0}

    def write_locked(self, number):
        """Set both parts while no reader holds the lock."""
        with self._lock:
            self.write(number)

    def write(self, number):
        """Set both parts without the lock."""
        for part in self.parts:
            self.parts[part] = number

    def read_locked(self):
        """Return both parts, read while no writer holds the lock."""
        with self._lock:
            return self.read()

    def read(self):
        """Return both parts, read without the lock."""
        return [self.parts[part] for part in self.parts]


def test_threads_that_take_turns():
    """Threads that read and write under one lock pass the check."""
    state = TwoPartState(threading.Lock())
    assert assert_atomic_reads(state.write_locked, state.read_locked, reads=200).verdict == "within"


def test_threads_that_do_not():
    """Threads that read and write without a lock fail the check with torn reads."""
    state = TwoPartState()
    with pytest.raises(ServerExceeded) as caught:
        assert_atomic_reads(state.write, state.read, reads=200)
    assert headline_of(caught).endswith("reads are torn, limit 0")


def test_nothing_is_read():
    """A read function that always gives up measures nothing."""
    with pytest.raises(NothingMeasured, match=r"^0 of 5 reads met a new write in 50"):
        assert_atomic_reads(lambda _: None, lambda: None, reads=5, within=0.05)


def test_what_goes_wrong_in_a_thread():
    """The check raises the error of the write function or of the read function unchanged."""
    with pytest.raises(ZeroDivisionError):
        assert_atomic_reads(lambda number: 1 / (number - 3), lambda: None)
    with pytest.raises(ZeroDivisionError):
        assert_atomic_reads(lambda _: None, lambda: 1 / 0)


def test_a_process_that_cannot_write():
    """A writer process that ends is a RuntimeError, which names the exit status."""
    with pytest.raises(
        RuntimeError, match="the writer process ended with status 1: see its output"
    ):
        assert_atomic_reads(partial(int, "one"), lambda: None, writer="process")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"writer": "fork"}, "writer must be 'thread' or 'process', not 'fork'"),
        ({"reads": 0}, "reads must be 1 or more, not 0"),
        ({"readers": 0}, "readers must be 1 or more, not 0"),
    ],
)
def test_terms_that_cannot_be(options, message):
    """An invalid option is a ValueError that names the option."""
    with pytest.raises(ValueError, match=message):
        assert_atomic_reads(print, list, **options)


# -- the fault of one read, the counts of a reader, and the verdict


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ([5, 5], ""),
        ([6, 6], ""),
        ([5, 6], "torn"),
        ([7, 7], "made up"),
        ([-1, -1], "made up"),
        ([7, 8], "torn"),
        ([0, 0], "torn"),
        ([4, 4], "stale"),
    ],
)
def test_a_read_between_two_writes(parts, fault):
    """A read between two writes may return the confirmed number or the number begun, no other."""
    assert fault_of(ReadObservation(parts, confirmed=5, begun=6, last=4)) == fault


def test_who_saw_a_state():
    """A reader that returns an older state than at its read before goes back, which is a fault."""
    assert fault_of(ReadObservation([5, 5], confirmed=5, begun=6, last=6)) == "going back"


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 9), st.integers(0, 9))
def test_only_one_number_between_the_two_is_right(parts, confirmed, unconfirmed):
    """A read is correct only if all parts have one number, between confirmed and begun."""
    begun = confirmed + unconfirmed
    right = len(set(parts)) == 1 and confirmed <= parts[0] <= begun
    assert (fault_of(ReadObservation(parts, confirmed, begun)) == "") is right


def test_what_a_reader_counts():
    """A reader counts each write that it meets once, each read that gives up, and each fault."""
    evidence, stop, answers = ReadEvidence(), threading.Event(), [[5], None, [4], [5]]

    def read():
        if len(answers) == 1:
            stop.set()
        return answers.pop()

    _read(read, [9, 1, 0], evidence, stop)
    assert (evidence.reads, evidence.overlapping, evidence.unanswered) == (3, 1, 1)
    assert evidence.faults == {"torn": 0, "made up": 0, "stale": 0, "going back": 1}


def test_a_wild_number_is_one_fault():
    """A made-up number is one fault, and later reads are not compared with it."""
    evidence, stop, answers = ReadEvidence(), threading.Event(), [[5], [4], [99], [3]]

    def read():
        if len(answers) == 1:
            stop.set()
        return answers.pop()

    _read(read, [9, 1, 0], evidence, stop)
    assert evidence.faults == {"torn": 0, "made up": 1, "stale": 0, "going back": 0}


def test_those_that_gave_up():
    """The headline counts the reads that gave up, because such reads cannot be wrong."""
    outcome = verdict_on_reads(
        ReadEvidence(reads=9, overlapping=5, unanswered=33_932), 5, 2.0, "thread"
    )
    assert outcome.headline == (
        "5 of 9 reads met a write, all whole and not stale; 33,932 reads gave up"
    )


def test_a_number_that_was_never_written():
    """A read of a number that was never written counts as made up, not as torn."""
    evidence = ReadEvidence(reads=9, overlapping=5)
    evidence.faults["made up"], evidence.first["made up"] = 2, ReadObservation([1005, 1005], 5, 6)
    outcome = verdict_on_reads(evidence, 5, 2.0, "thread")
    assert outcome.headline == "2 of 9 reads are made up, limit 0"
    assert "means  a read returns a number that was never written" in outcome.message
    assert len(outcome.message.splitlines()) <= 13


def test_too_few_that_are_right():
    """Too few correct reads measure nothing, and one wrong read is enough to fail."""
    evidence = ReadEvidence(reads=9, overlapping=3)
    with pytest.raises(NothingMeasured, match=r"3 of 5 reads met a new write in 2\.0 s"):
        verdict_on_reads(evidence, 5, 2.0, "thread")
    evidence.faults["torn"], evidence.first["torn"] = 1, ReadObservation([1, 2, 3, 4], 1, 4)
    outcome = verdict_on_reads(evidence, 5, 2.0, "thread")
    assert outcome.headline == "1 of 9 reads are torn, limit 0"
    assert "1 2 ..." in outcome.message
