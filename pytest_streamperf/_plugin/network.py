"""Run the fetch guards of a session: the pytest hooks around `network.run_guards.Guards`.

A fixture, a marker, a budget or the project's settings can guard a test. The first guard loads this
module. A guarded test fails for an attempt that is not allowed. Attempts after its end are reported
when the session finishes.
"""

from collections.abc import Generator, Mapping
from typing import Any

import pytest

from pytest_streamperf._plugin.budgets import budget_of, guard_settings
from pytest_streamperf._plugin.recorder import GUARDS, record_of, unplaced
from pytest_streamperf._report.collect import plain
from pytest_streamperf.exceptions import NetworkExceeded, NetworkInconclusive
from pytest_streamperf.network.fetch_guard import FetchGuard
from pytest_streamperf.network.run_guards import Guards

__tracebackhide__ = True  # pytest shows the user's own frames


def guards(config: pytest.Config) -> Guards:
    """Return the guards of this run; the first call creates them."""
    if GUARDS not in config.stash:
        config.stash[GUARDS] = Guards()
        watch(config)
    return config.stash[GUARDS]


def guarded(item: pytest.Item) -> FetchGuard:
    """Return the guard of a test, and begin to guard it if its setup has not done so."""
    run_guards = guards(item.config)
    settings = _settings(item, record_of(item.config).policy.network)
    run_guards.begin(item.nodeid, settings | {"background_fetch": False})
    return run_guards.guard_of(item.nodeid)


def watch(config: pytest.Config) -> None:
    """Register the hooks that guard tests, once."""
    if not config.pluginmanager.has_plugin(_NAME):
        config.pluginmanager.register(_Guarding(config), _NAME)


def guard_the_run(config: pytest.Config, settings: Mapping[str, Any]) -> None:
    """Guard the whole run, import and collection included, as the project's settings demand."""
    if not settings.get("background_fetch", True):
        guards(config).guard_all(settings)
    if settings.get("exact_network", False):
        guards(config).guard_exactly(settings)


_NAME = "streamperf-guarding"


class _Guarding:
    """The hooks of a run in which a test may be guarded."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._record = record_of(config)
        self._failed = False  # the running test failed by itself, which takes precedence
        self._sees_calls = False  # False if a test registers these hooks during its call

    @property
    def _guards(self) -> Guards | None:
        return self._config.stash.get(GUARDS, None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self) -> None:
        if self._guards:
            self._guards.collected()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, object, object]:
        if fixturedef.scope == "function" or not self._guards:
            return (yield)
        with self._guards.shared():
            return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Guard a test before its fixtures start, if its settings demand it."""
        settings = _settings(item, self._record.policy.network)
        if self._guards or not settings.get("background_fetch", True):
            guards(self._config).begin(item.nodeid, settings)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        self._sees_calls = True
        result = yield
        failed = getattr(item, "_excinfo", None)  # a failure of a unittest.TestCase
        # If the test failed by itself, the teardown reports its attempts.
        if not failed:
            self._conclude(item)
        return result

    def _conclude(self, item: pytest.Item) -> None:
        if self._guards and not self._record.has_forgotten():
            self._guards.conclude(item.nodeid, failed=False, over=False)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        if not self._guards:
            return (yield)
        try:
            result = yield
            self._guards.conclude(item.nodeid, failed=self._failed, over=True)
            return result
        finally:
            self._guards.end(item.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        if call.when == "call" and not self._sees_calls and call.excinfo is None:
            try:
                self._conclude(item)
            except AssertionError:
                call.excinfo = pytest.ExceptionInfo.from_current()
        report = yield
        failed = report.failed or hasattr(report, "wasxfail")
        self._failed = failed or (self._failed and call.when != "setup")
        if call.excinfo is not None and report.failed:
            error = call.excinfo.value
            in_the_test = any(entry.path == item.path for entry in call.excinfo.traceback)
            if isinstance(error, NetworkExceeded | NetworkInconclusive) and not in_the_test:
                unplaced(report, error)
        return report

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        policy = self._record.policy
        for origin, error in self._guards.left() if self._guards else ():
            accepted = policy.accepts(error.verdict.verdict)
            report = pytest.TestReport(
                nodeid=origin,
                location=(origin, None, origin),
                keywords={},
                outcome="passed" if accepted else "failed",
                longrepr=None if accepted else f"{type(error).__name__}: {error}",
                when="teardown",
            )
            report.streamperf = [plain(error.verdict, policy)]  # type: ignore[attr-defined]
            session.config.hook.pytest_runtest_logreport(report=report)
            if not accepted:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _settings(item: pytest.Item, network: Mapping[str, Any]) -> dict[str, Any]:
    """Return the guard settings of a test: the project's, then markers, budget and fixture."""
    settings = dict(network) | guard_settings(item)
    allowed = budget_of(item).value("background_fetch")
    if allowed is not None:
        settings["background_fetch"] = allowed
    if "no_background_fetch" in getattr(item, "fixturenames", ()):
        settings["background_fetch"] = False
    return settings
