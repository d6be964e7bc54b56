"""Write all verdicts of a run to one JSON document, at the end of the run (`--streamperf-json`).

In: `report.streamperf` of each test report, from pytest-xdist workers too. Out: a file, written by
the controller. The document of an interrupted run is written as well, with `complete` false.
"""

import os
import signal
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pytest_streamperf._plugin.xdist import without_group
from pytest_streamperf._report import collect
from pytest_streamperf._report.document import write
from pytest_streamperf._runtime import clock
from pytest_streamperf.exceptions import ReportError

__tracebackhide__ = True  # pytest shows the user's own frames

# A run that ends with another status has not run all of its tests.
_COMPLETE_STATUSES = (
    pytest.ExitCode.OK,
    pytest.ExitCode.TESTS_FAILED,
    pytest.ExitCode.NO_TESTS_COLLECTED,
)


class Writing:
    """Collects the verdicts in test reports, and writes the document at the end of the run."""

    def __init__(self, config: pytest.Config) -> None:
        self._file = config.invocation_params.dir / config.option.streamperf_json
        self._root: Path = config.rootpath
        self._started, self._began_s = collect.now(), clock.wall()
        self._noise = clock.noise()
        grouped = getattr(config.option, "dist", "no") == "loadgroup"
        self._test_name = without_group if grouped else str
        self._tests: set[str] = set()
        self._lost: set[str] = set()
        self._summary = ""
        self._interrupted = False
        self._listening = ExitStack()
        self._reported: list[tuple[str, Mapping[str, Any]]] = []

    def pytest_sessionstart(self) -> None:
        """Handle SIGTERM, which cancels a CI job, as Ctrl-C: pytest itself does not handle it."""
        self._listening.enter_context(_interrupted_by_sigterm())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the verdicts of one report, in the order of arrival; under xdist too."""
        test = self._test_name(report.nodeid)
        if report.when not in ("setup", "call", "teardown"):  # a worker of xdist crashed
            self._lost.add(test)
        elif report.when == "call" or report.outcome == "failed":
            self._tests.add(test)
        if str(report.outcome) == "rerun":  # by pytest-rerunfailures: the last run counts
            self._reported = [(name, check) for name, check in self._reported if name != test]
            return
        self._reported += [(test, check) for check in getattr(report, "streamperf", ())]

    def pytest_keyboard_interrupt(self) -> None:
        """Note an interruption; `pytest.exit` calls this too, and may set any exit status."""
        self._interrupted = True

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int
    ) -> Generator[None, object, object]:
        """Write the document after all other plugins, so that it has their late verdicts."""
        try:
            return (yield)
        finally:
            was_stopped = self._interrupted or bool(session.shouldstop or session.shouldfail)
            all_ran = exitstatus in _COMPLETE_STATUSES and not was_stopped and not self._lost
            try:
                write(self._document(complete=all_ran), self._file)
                self._summary = f"{len(self._reported)} checks in {self._file}"
            except (OSError, ReportError) as error:
                self._summary = f"there is no report: {error}"
                session.exitstatus = pytest.ExitCode.USAGE_ERROR
            finally:
                self._listening.close()

    def _document(self, *, complete: bool) -> dict[str, Any]:
        took, noise = clock.wall() - self._began_s, clock.noise().since(self._noise)
        return {
            "format": collect.FORMAT,
            "version": collect.VERSION,
            "complete": complete,
            "started": self._started,
            "took": took,
            "commit": collect.commit(self._root),
            "environment": collect.environment(),
            "noise": {
                "waited": None if noise.waited is None else noise.waited / took,
                "page_faults": noise.page_faults,
            },
            "tests": len(self._tests),
            "lost": sorted(self._lost),
            "checks": collect.numbered(sorted(self._reported, key=lambda entry: entry[0])),
        }

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print where the document is, or why there is none."""
        terminalreporter.line(f"streamperf: {self._summary}")


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Handle SIGTERM as Ctrl-C while this context is open, unless it has a handler already.

    Forked children get the default handler: a Python handler could lose a signal right after fork.
    """
    if not clock.in_main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    handler, is_closed = signal.default_int_handler, False

    def swap(old: object, new: Any) -> None:
        if not is_closed and clock.in_main_thread() and signal.getsignal(signal.SIGTERM) is old:
            signal.signal(signal.SIGTERM, new)

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=partial(swap, handler, signal.SIG_DFL),
            after_in_parent=partial(swap, signal.SIG_DFL, handler),
        )
    swap(signal.SIG_DFL, handler)
    try:
        yield
    finally:
        swap(handler, signal.SIG_DFL)
        is_closed = True
