"""Tests of the memory readings of server checks, and of the line that they charge with growth."""

import gc
import re
import tracemalloc

import pytest

from pytest_streamperf._runtime import instrumentation
from pytest_streamperf.server.memory import PythonMemory, memory_of


@pytest.fixture
def process():
    """Yield the memory of this process while its allocations are traced."""
    with instrumentation.allocations():
        yield PythonMemory()


def test_the_line_of_a_leak_is_not_one_that_freed(process, monkeypatch):
    """The guilty line is one that allocated memory, even if another line freed much more."""
    freed = [bytearray(1_000) for _ in range(3_000)]
    process.read()
    freed.clear()
    kept = [bytearray(1_000) for _ in range(100)]
    monkeypatch.setattr("pytest_streamperf.server.memory._is_user_code", lambda _: False)
    assert re.fullmatch(r"test_memory\.py:\d+ allocated 1\d\d kB of the growth", process.where())
    assert len(kept) == 100


def test_no_line_where_nothing_grew(process, monkeypatch):
    """No line is charged if no line's allocations grew."""
    process.read()
    before = tracemalloc.take_snapshot()
    monkeypatch.setattr(tracemalloc, "take_snapshot", lambda: before)
    monkeypatch.setattr(process, "_first_snapshot", before)
    assert process.where() == ""


def test_reading_does_not_go_over_what_was_there():
    """A reading's garbage collection skips the objects that existed before, to stay fast."""
    old_object = [[]]
    with memory_of(lambda *_: None, None) as memory:
        memory.read()
        assert not any(candidate is old_object for candidate in gc.get_objects())
    assert any(candidate is old_object for candidate in gc.get_objects())
