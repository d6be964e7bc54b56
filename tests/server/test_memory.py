"""The memory of a process that serves: the line that is told is one that took some."""

import gc
import re
import tracemalloc

import pytest

from pytest_streamperf._runtime import instrumentation
from pytest_streamperf.server.memory import Python, memory_of


@pytest.fixture
def process():
    """This process, its allocations traced."""
    with instrumentation.allocations():
        yield Python()


def test_the_line_of_a_leak_is_not_one_that_freed(process, monkeypatch):
    """However much more that was: it is another that has what is there now."""
    freed = [bytearray(1_000) for _ in range(3_000)]
    process.read()
    freed.clear()
    kept = [bytearray(1_000) for _ in range(100)]
    monkeypatch.setattr("pytest_streamperf.server.memory._is_theirs", lambda _: False)
    assert re.fullmatch(r"test_memory\.py:\d+ allocated 1\d\d kB of it", process.where())
    assert len(kept) == 100


def test_no_line_where_nothing_grew(process, monkeypatch):
    """There is none to tell."""
    process.read()
    before = tracemalloc.take_snapshot()
    monkeypatch.setattr(tracemalloc, "take_snapshot", lambda: before)
    monkeypatch.setattr(process, "_first", before)
    assert process.where() == ""


def test_reading_does_not_go_over_what_was_there():
    """As each reading collects what nobody holds, and a test session holds a lot."""
    old = [[]]
    with memory_of(lambda *_: None, None) as memory:
        memory.read()
        assert not any(each is old for each in gc.get_objects())
    assert any(each is old for each in gc.get_objects())
