"""What is on record of a run: its settings, and what its checks report."""

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
    """Takes what checks report, and puts it on record with the test that is running.

    Its hooks are those of a run in which something was checked. `held` is the budget of the test.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._verdicts: list[Verdict] = []
        self._begun: list[Any] = []
        self.held: Held | None = None

    @property
    def policy(self) -> Policy:
        from pytest_streamperf._results.policy import Policy  # noqa: PLC0415

        policy = self._config.stash.get(POLICY, None) or Policy()
        return policy if self.held is None else self.held.tightened(policy)

    def begin(self, check: object) -> None:
        self._begun.append(check)
        self._listen()

    def end(self, check: object) -> None:
        self._begun.remove(check)

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
        self._listen()

    def _listen(self) -> None:
        if not self._config.pluginmanager.is_registered(self):
            self._config.pluginmanager.register(self)

    def has_forgotten(self) -> bool:
        """Whether there are checks that were never awaited to the end."""
        return bool(self._begun)

    def _discard(self, call: pytest.CallInfo[None]) -> None:
        """Close the checks that were never awaited: a test that leaves any behind fails."""
        forgotten = len(self._begun)
        while self._begun:
            self._begun.pop().close()
        if not forgotten or call.excinfo is not None:
            return
        from pytest_streamperf._results.conclusion import nothing_measured  # noqa: PLC0415

        checks = "1 async check was" if forgotten == 1 else f"{forgotten} async checks were"
        what = f"{checks} never awaited to the end"
        try:
            raise nothing_measured("growth", what, "await assert_linear.aio(consume)")
        except AssertionError:
            call.excinfo = pytest.ExceptionInfo.from_current()

    def pytest_collection_finish(self) -> None:
        self._verdicts.clear()  # of checks at import, which are no test's

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Let the verdicts travel with the report, from xdist's workers too: as plain values."""
        from pytest_streamperf._report.collect import plain, properties  # noqa: PLC0415

        if call.when != "setup":
            self._discard(call)
        else:  # of another run of it, perhaps, by pytest-rerunfailures: the last one counts
            kept = [each for each in item.user_properties if not each[0].startswith("streamperf.")]
            item.user_properties[:] = kept
        found, self._verdicts = self._verdicts, []
        item.user_properties += [each for one in found for each in properties(one)]
        report = yield
        if found:
            plainly = [plain(each, self.policy) for each in found]
            report.streamperf = plainly  # type: ignore[attr-defined] # extra attributes are kept
        return report


POLICY: pytest.StashKey[Policy] = pytest.StashKey()
RECORD = pytest.StashKey[Record]()
GUARDS: pytest.StashKey[Guards] = pytest.StashKey()


def record_of(config: pytest.Config) -> Record:
    """The record of this run."""
    return config.stash.setdefault(RECORD, Record(config))


def settings_line(config: pytest.Config) -> str | None:
    """Say what the project's settings change; None where there are none."""
    policy = config.stash.get(POLICY, None)
    if policy is None or policy == type(policy)():
        return None
    changed = {**policy.growth, **policy.network}
    changed |= {"mode": policy.mode, "inconclusive": policy.inconclusive}
    if policy.budgets:
        changed["budgets"] = " and ".join(name or "default" for name in policy.budgets)
    return f"streamperf: {', '.join(f'{key}={value}' for key, value in changed.items())}"


def unplaced(report: pytest.TestReport, error: BaseException) -> None:
    """Have a report show an error by its message: it was raised at no line of the test."""
    said = (f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ()))
    report.longrepr = "\n".join(said)
