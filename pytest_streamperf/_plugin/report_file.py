"""One document of all that a run measured: written by the controller, when the run is over."""

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

_ENDED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


class Writing:
    """Collects what the reports of tests carry, and writes it, of an interrupted run, too."""

    def __init__(self, config: pytest.Config) -> None:
        self._file = config.invocation_params.dir / config.option.streamperf_json
        self._root: Path = config.rootpath
        self._started, self._began = collect.now(), clock.wall()
        self._noise = clock.noise()
        grouped = getattr(config.option, "dist", "no") == "loadgroup"
        self._named = without_group if grouped else str
        self._tests: set[str] = set()
        self._lost: set[str] = set()
        self._said = ""
        self._interrupted = False
        self._listening = ExitStack()
        self._reported: list[tuple[str, Mapping[str, Any]]] = []

    def pytest_sessionstart(self) -> None:
        """Let a CI job that is cancelled end as Ctrl-C does: nothing hears of SIGTERM else."""
        self._listening.enter_context(_interrupted_by_sigterm())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a test reports: here under xdist, too, in the order of arrival."""
        test = self._named(report.nodeid)
        if report.when not in ("setup", "call", "teardown"):  # xdist's, for a worker that crashed
            self._lost.add(test)
        elif report.when == "call" or report.outcome == "failed":
            self._tests.add(test)
        if str(report.outcome) == "rerun":  # by pytest-rerunfailures: the last run is what counts
            self._reported = [each for each in self._reported if each[0] != test]
            return
        self._reported += [(test, check) for check in getattr(report, "streamperf", ())]

    def pytest_keyboard_interrupt(self) -> None:
        """Of `pytest.exit`, too, which may give a status that says nothing of it."""
        self._interrupted = True

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int
    ) -> Generator[None, object, object]:
        """Write it when all others are done: what comes late is in it."""
        try:
            return (yield)
        finally:
            stopped = self._interrupted or bool(session.shouldstop or session.shouldfail)
            whole = exitstatus in _ENDED and not stopped and not self._lost
            try:
                write(self._document(complete=whole), self._file)
                self._said = f"{len(self._reported)} checks in {self._file}"
            except (OSError, ReportError) as error:
                self._said = f"there is no report: {error}"
                session.exitstatus = pytest.ExitCode.USAGE_ERROR
            finally:
                self._listening.close()

    def _document(self, *, complete: bool) -> dict[str, Any]:
        took, noise = clock.wall() - self._began, clock.noise().since(self._noise)
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
            "checks": collect.numbered(sorted(self._reported, key=lambda each: each[0])),
        }

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where it is."""
        terminalreporter.line(f"streamperf: {self._said}")


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C, unless somebody takes it already; not in children that are forked.

    What Python handles is lost on a child that has only just been forked.
    """
    if not clock.in_main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    own, over = signal.default_int_handler, False

    def swap(old: object, new: Any) -> None:
        if not over and clock.in_main_thread() and signal.getsignal(signal.SIGTERM) is old:
            signal.signal(signal.SIGTERM, new)

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=partial(swap, own, signal.SIG_DFL),
            after_in_parent=partial(swap, signal.SIG_DFL, own),
        )
    swap(signal.SIG_DFL, own)
    try:
        yield
    finally:
        swap(own, signal.SIG_DFL)
        over = True
