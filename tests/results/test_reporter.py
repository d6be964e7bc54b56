"""Where checks report to."""

import pytest

from pytest_streamperf._results import reporter as reporter_module
from pytest_streamperf._results.reporter import current_sink, report, reporting_to
from pytest_streamperf._results.verdict import Verdict
from tests.recording_reporter import RecordingReporter

FOUND = Verdict(stem="growth", verdict="exceeded", headline="84% superlinear, limit 25%")


def test_no_sink(monkeypatch):
    """Outside a test verdicts go nowhere."""
    with monkeypatch.context() as patch:
        patch.setattr(reporter_module, "_sinks", [])
        report(FOUND)
        assert current_sink() is None


def test_sink_gets_what_is_reported():
    """A check's verdict goes to the sink that is open."""
    reporter = RecordingReporter()
    with reporting_to(reporter):
        report(FOUND)
    assert reporter.verdicts == [FOUND]


def test_last_sink_is_the_current_one():
    """A sink that is opened inside another one takes its place."""
    outer, inner = RecordingReporter(), RecordingReporter()
    with reporting_to(outer), reporting_to(inner):
        report(FOUND)
    assert (outer.verdicts, inner.verdicts) == ([], [FOUND])


def test_outer_sink_comes_back():
    """When the inner sink is closed the outer one is current again, be they equal or not."""
    outer, inner = RecordingReporter(), RecordingReporter()
    with reporting_to(outer):
        with reporting_to(inner):
            pass
        assert current_sink() is outer


def test_sink_is_closed_after_an_error():
    """A sink does not outlive a failing test."""
    before = current_sink()
    with pytest.raises(ZeroDivisionError), reporting_to(RecordingReporter()):
        raise ZeroDivisionError
    assert current_sink() is before


def test_sinks_may_close_in_any_order():
    """Closing the outer sink first leaves the inner one current."""
    outer, inner = RecordingReporter(), RecordingReporter()
    first, second = reporting_to(outer), reporting_to(inner)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert current_sink() is inner
    second.__exit__(None, None, None)
