"""Record the verdicts of checks, and attach them to the report of the test that is running.

In: the settings of the project, and the events of checks, through `pytest_streamperf._results`.
Out: `report.streamperf`, a list of plain values that pytest-xdist can transfer, and properties of
the test item. An async check that was never awaited to its end fails its test.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_streamperf._results.policy import Policy
    from pytest_streamperf._results.verdict import Verdict
    from pytest_streamperf.budgets.enforcement import Held
    from pytest_streamperf.network.run_guards import Guards


class Record:
    """The record of one run: it receives events of checks and adds verdicts to test reports.

    It registers its hooks at the first check, so that a run without checks pays nothing. `held` is
    the enforcement of the budget of the running test, if it has one.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._verdicts: list[Verdict] = []
        self._unfinished: list[Any] = []
        self.held: Held | None = None

    @property
    def policy(self) -> Policy:
        from pytest_streamperf._results.policy import Policy  # noqa: PLC0415

        policy = self._config.stash.get(POLICY, None) or Policy()
        return policy if self.held is None else self.held.tightened(policy)

    def begin(self, check: object) -> None:
        self._unfinished.append(check)
        self._register_hooks()

    def end(self, check: object) -> None:
        self._unfinished.remove(check)

    def concerns(self, subject: object) -> None:
        if self.held is not None:
            self.held.concerns(subject)

    def progress(self, text: str) -> None:
        terminal: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is None or not terminal.isatty:
            return
        capture: Any = self._config.pluginmanager.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            terminal.ensure_newline()
            terminal.rewrite(text, erase=True)
            terminal.write("" if text else "\r")

    def report(self, concluded: Verdict) -> None:
        self._verdicts.append(concluded)
        if self.held is not None:
            self.held.stems.add(concluded.stem)
        self._register_hooks()

    def _register_hooks(self) -> None:
        if not self._config.pluginmanager.is_registered(self):
            self._config.pluginmanager.register(self)

    def has_forgotten(self) -> bool:
        """Return whether an async check has begun and was not awaited to its end."""
        return bool(self._unfinished)

    def _close_unfinished(self, call: pytest.CallInfo[None]) -> None:
        """Close checks that were not awaited to their end, and fail the test if there are any."""
        forgotten = len(self._unfinished)
        while self._unfinished:
            self._unfinished.pop().close()
        if not forgotten or call.excinfo is not None:
            return
        from pytest_streamperf._results.conclusion import nothing_measured  # noqa: PLC0415

        checks = "1 async check was" if forgotten == 1 else f"{forgotten} async checks were"
        problem = f"{checks} never awaited to the end"
        try:
            raise nothing_measured("growth", problem, "await assert_linear.aio(consume)")
        except AssertionError:
            call.excinfo = pytest.ExceptionInfo.from_current()

    def pytest_collection_finish(self) -> None:
        self._verdicts.clear()  # checks at import belong to no test

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add the verdicts of a test to its report, as plain values that xdist can transfer."""
        from pytest_streamperf._report.collect import plain, properties  # noqa: PLC0415

        if call.when != "setup":
            self._close_unfinished(call)
        else:  # pytest-rerunfailures may have run the test before: the last run counts
            item.user_properties[:] = [
                (name, value)
                for name, value in item.user_properties
                if not name.startswith("streamperf.")
            ]
        verdicts, self._verdicts = self._verdicts, []
        item.user_properties += [entry for verdict in verdicts for entry in properties(verdict)]
        report = yield
        if verdicts:
            checks = [plain(verdict, self.policy) for verdict in verdicts]
            report.streamperf = checks  # type: ignore[attr-defined] # extra attributes are kept
        return report


POLICY: pytest.StashKey[Policy] = pytest.StashKey()
RECORD = pytest.StashKey[Record]()
GUARDS: pytest.StashKey[Guards] = pytest.StashKey()


def record_of(config: pytest.Config) -> Record:
    """Return the record of this run."""
    return config.stash.setdefault(RECORD, Record(config))


def settings_line(config: pytest.Config) -> str | None:
    """Return the header line with the project's settings, or None if they change nothing."""
    policy = config.stash.get(POLICY, None)
    if policy is None or policy == type(policy)():
        return None
    changed = {**policy.growth, **policy.network}
    changed |= {"mode": policy.mode, "inconclusive": policy.inconclusive}
    if policy.budgets:
        changed["budgets"] = " and ".join(name or "default" for name in policy.budgets)
    return f"streamperf: {', '.join(f'{key}={value}' for key, value in changed.items())}"


def unplaced(report: pytest.TestReport, error: BaseException) -> None:
    """Make a report show an error by its message alone, for an error without a line in the test."""
    lines = (f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ()))
    report.longrepr = "\n".join(lines)
