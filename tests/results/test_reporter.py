"""Where checks report to."""

import pytest

from pytest_streamperf._results import reporter
from pytest_streamperf._results.policy import Policy
from pytest_streamperf._results.reporter import current_sink, report, reporting_to
from pytest_streamperf._results.verdict import Verdict

FOUND = Verdict(stem="growth", verdict="exceeded", headline="84% superlinear, limit 25%")


class Notes:
    """A sink that takes notes."""

    def __init__(self) -> None:
        self.notes = []
        self.policy = Policy()

    def begin(self, check):
        """Note it."""
        self.notes.append(("begin", check))

    def end(self, check):
        """Note it."""
        self.notes.append(("end", check))

    def report(self, verdict):
        """Note it."""
        self.notes.append(verdict)

    def __eq__(self, other):
        """Two that noted the same are equal, as many a record is."""
        return isinstance(other, Notes) and self.notes == other.notes

    __hash__ = None


def test_no_sink(monkeypatch):
    """Outside a test verdicts go nowhere."""
    with monkeypatch.context() as patch:
        patch.setattr(reporter, "_sinks", [])
        report(FOUND)
        assert current_sink() is None


def test_sink_gets_what_is_reported():
    """A check's verdict goes to the sink that is open."""
    notes = Notes()
    with reporting_to(notes):
        report(FOUND)
    assert notes.notes == [FOUND]


def test_last_sink_is_the_current_one():
    """A sink that is opened inside another one takes its place."""
    outer, inner = Notes(), Notes()
    with reporting_to(outer), reporting_to(inner):
        report(FOUND)
    assert (outer.notes, inner.notes) == ([], [FOUND])


def test_outer_sink_comes_back():
    """When the inner sink is closed the outer one is current again, be they equal or not."""
    outer, inner = Notes(), Notes()
    with reporting_to(outer):
        with reporting_to(inner):
            pass
        assert current_sink() is outer


def test_sink_is_closed_after_an_error():
    """A sink does not outlive a failing test."""
    before = current_sink()
    with pytest.raises(ZeroDivisionError), reporting_to(Notes()):
        raise ZeroDivisionError
    assert current_sink() is before


def test_sinks_may_close_in_any_order():
    """Closing the outer sink first leaves the inner one current."""
    outer, inner = Notes(), Notes()
    first, second = reporting_to(outer), reporting_to(inner)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert current_sink() is inner
    second.__exit__(None, None, None)
