"""Tests of the sink that checks report their verdicts to."""

import pytest

from pytest_streamperf._results import reporter as reporter_module
from pytest_streamperf._results.reporter import current_sink, report, reporting_to
from pytest_streamperf._results.verdict import Verdict
from tests.recording_reporter import RecordingReporter

VERDICT = Verdict(stem="growth", verdict="exceeded", headline="84% superlinear, limit 25%")


def test_no_sink(monkeypatch):
    """A verdict that is reported while no sink is open is dropped."""
    with monkeypatch.context() as patch:
        patch.setattr(reporter_module, "_sinks", [])
        report(VERDICT)
        assert current_sink() is None


def test_sink_gets_what_is_reported():
    """A reported verdict goes to the open sink."""
    reporter = RecordingReporter()
    with reporting_to(reporter):
        report(VERDICT)
    assert reporter.verdicts == [VERDICT]


def test_last_sink_is_the_current_one():
    """If two sinks are open, only the one that was opened last gets a verdict."""
    outer, inner = RecordingReporter(), RecordingReporter()
    with reporting_to(outer), reporting_to(inner):
        report(VERDICT)
    assert (outer.verdicts, inner.verdicts) == ([], [VERDICT])


def test_outer_sink_comes_back():
    """After the inner sink closes, the outer one is current again, even if the two are equal."""
    outer, inner = RecordingReporter(), RecordingReporter()
    with reporting_to(outer):
        with reporting_to(inner):
            pass
        assert current_sink() is outer


def test_sink_is_closed_after_an_error():
    """A sink is closed if the code inside its block raises."""
    before = current_sink()
    with pytest.raises(ZeroDivisionError), reporting_to(RecordingReporter()):
        raise ZeroDivisionError
    assert current_sink() is before


def test_sinks_may_close_in_any_order():
    """If the outer sink closes first, the inner one stays current."""
    outer, inner = RecordingReporter(), RecordingReporter()
    first, second = reporting_to(outer), reporting_to(inner)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert current_sink() is inner
    second.__exit__(None, None, None)
