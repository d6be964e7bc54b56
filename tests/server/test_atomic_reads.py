"""State that is written while it is read: what is torn, stale or neither, and how it is told."""

import threading
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf import NothingMeasured, ServerExceeded
from pytest_streamperf.server import assert_atomic_reads
from pytest_streamperf.server.atomic_reads import Evidence, Seen, _read, fault_of, judged
from reference_impl import regressed
from tests.failure_messages import headline_of
from tests.matrix import worker_slot


def checked():
    """Check a slot of the reference server's worker_slot."""
    with worker_slot.shared_slot() as memory:
        return assert_atomic_reads(
            partial(worker_slot.write, memory), partial(worker_slot.read, memory), writer="process"
        )


def test_a_slot_of_the_registry():
    """Is whole whenever it is read, while another process writes it."""
    found = checked()
    assert found.headline.endswith("reads met a write, whole and not stale")
    assert not any(found.figures.counts.values())


@pytest.mark.parametrize(
    ("regression", "says"),
    [("torn-read", "reads are torn, limit 0"), ("stale-read", "reads are stale, limit 0")],
)
def test_a_mistake_is_told(regression, says):
    """In the first line, and what helps."""
    with regressed(regression), pytest.raises(ServerExceeded) as caught:
        checked()
    assert headline_of(caught).endswith(says)


class Held:
    """A state in two parts, set one after the other."""

    def __init__(self, lock=None):
        self._lock = lock
        self.parts = {"tasks": 0, "total": 0}

    def write(self, number):
        """Write it, in turn with those who read."""
        with self._lock:
            self.put(number)

    def put(self, number):
        """Write it, whoever reads."""
        for part in self.parts:
            self.parts[part] = number

    def read(self):
        """Read it, in turn with whoever writes."""
        with self._lock:
            return self.look()

    def look(self):
        """Read it, whoever writes."""
        return [self.parts[part] for part in self.parts]


def test_threads_that_take_turns():
    """See whole states."""
    held = Held(threading.Lock())
    assert assert_atomic_reads(held.write, held.read, reads=200).verdict == "within"


def test_threads_that_do_not():
    """See half of one state and half of the next."""
    held = Held()
    with pytest.raises(ServerExceeded) as caught:
        assert_atomic_reads(held.put, held.look, reads=200)
    assert headline_of(caught).endswith("reads are torn, limit 0")


def test_nothing_is_read():
    """Where readers give up each time."""
    with pytest.raises(NothingMeasured, match=r"^0 of 5 reads met a write of their own in 50"):
        assert_atomic_reads(lambda _: None, lambda: None, reads=5, within=0.05)


def test_what_goes_wrong_in_a_thread():
    """Is raised as it is, whoever it is that fails."""
    with pytest.raises(ZeroDivisionError):
        assert_atomic_reads(lambda number: 1 / (number - 3), lambda: None)
    with pytest.raises(ZeroDivisionError):
        assert_atomic_reads(lambda _: None, lambda: 1 / 0)


def test_a_process_that_cannot_write():
    """Prints why, and ends; that is told."""
    with pytest.raises(RuntimeError, match="the process that writes ended with 1: see what it"):
        assert_atomic_reads(partial(int, "one"), lambda: None, writer="process")


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"writer": "fork"}, "writer must be 'thread' or 'process', not 'fork'"),
        ({"reads": 0}, "reads must be 1 or more, not 0"),
        ({"readers": 0}, "readers must be 1 or more, not 0"),
    ],
)
def test_terms_that_cannot_be(terms, says):
    """Are refused by name."""
    with pytest.raises(ValueError, match=says):
        assert_atomic_reads(print, list, **terms)


# -- what is made of what they saw


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
    """May see the one that was confirmed, or the one that was begun."""
    assert fault_of(Seen(parts, confirmed=5, begun=6, last=4)) == fault


def test_who_saw_a_state():
    """Does not see the one before it again, though that alone was confirmed."""
    assert fault_of(Seen([5, 5], confirmed=5, begun=6, last=6)) == "going back"


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 9), st.integers(0, 9))
def test_only_one_number_between_the_two_is_right(parts, confirmed, writing):
    """Whatever the parts are."""
    begun = confirmed + writing
    right = len(set(parts)) == 1 and confirmed <= parts[0] <= begun
    assert (fault_of(Seen(parts, confirmed, begun)) == "") is right


def test_what_a_reader_counts():
    """A write is met once, however often it is seen; what it saw before is known to it."""
    found, over, answers = Evidence(), threading.Event(), [[5], None, [4], [5]]

    def read():
        if len(answers) == 1:
            over.set()
        return answers.pop()

    _read(read, [9, 1, 0], found, over)
    assert (found.reads, found.overlapping, found.unanswered) == (3, 1, 1)
    assert found.faults == {"torn": 0, "made up": 0, "stale": 0, "going back": 1}


def test_a_wild_number_is_one_fault():
    """What comes after it is not older than it: nobody wrote it."""
    found, over, answers = Evidence(), threading.Event(), [[5], [4], [99], [3]]

    def read():
        if len(answers) == 1:
            over.set()
        return answers.pop()

    _read(read, [9, 1, 0], found, over)
    assert found.faults == {"torn": 0, "made up": 1, "stale": 0, "going back": 0}


def test_those_that_gave_up():
    """Are told: a reader that always does is never wrong."""
    outcome = judged(Evidence(reads=9, overlapping=5, unanswered=33_932), 5, 2.0, "thread")
    assert outcome.headline == "5 of 9 reads met a write, whole and not stale; 33,932 gave up"


def test_a_number_that_was_never_written():
    """Is no half of two states; what it may be is told."""
    found = Evidence(reads=9, overlapping=5)
    found.faults["made up"], found.first["made up"] = 2, Seen([1005, 1005], 5, 6)
    outcome = judged(found, 5, 2.0, "thread")
    assert outcome.headline == "2 of 9 reads are made up, limit 0"
    assert "means  who reads gets a number that was never written" in outcome.message
    assert len(outcome.message.splitlines()) <= 13


def test_too_few_that_are_right():
    """Are nothing to go by; too few of which one is wrong are enough."""
    few = Evidence(reads=9, overlapping=3)
    with pytest.raises(NothingMeasured, match=r"3 of 5 reads met a write of their own in 2\.0 s"):
        judged(few, 5, 2.0, "thread")
    few.faults["torn"], few.first["torn"] = 1, Seen([1, 2, 3, 4], 1, 4)
    outcome = judged(few, 5, 2.0, "thread")
    assert outcome.headline == "1 of 9 reads are torn, limit 0"
    assert "1 2 ..." in outcome.message
