"""Guards against background fetches; loaded by the first test that is guarded."""

from collections.abc import Generator, Mapping
from typing import Any

import pytest

from pytest_streamperf import verdict
from pytest_streamperf.network.run import Guards
from pytest_streamperf.plugin.budgeting import budget_of, guard_settings
from pytest_streamperf.plugin.record import FAILED, GUARDS, NO_SETTINGS, POLICY, RECORD, Record
from pytest_streamperf.report.terminal import plain

__tracebackhide__ = True  # pytest shows the user's own frames


def guards(config: pytest.Config) -> Guards:
    """The guards of this run, which are there from the first that is asked for on."""
    if GUARDS not in config.stash:
        config.stash[GUARDS] = found = Guards()
        config.pluginmanager.register(_Guarding(found))
    return config.stash[GUARDS]


def guard_the_run(config: pytest.Config, settings: Mapping[str, Any]) -> None:
    """Guard all tests, and what is of none, if the project's settings say so."""
    if not settings.get("background_fetch", True):
        guards(config).guard_all(settings)
    if settings.get("exact_network", False):
        guards(config).guard_exactly(settings)


def guard(item: pytest.Item) -> None:
    """Guard a test that asks for it: by settings, then its budget, then its fixture."""
    settings = dict(item.config.stash.get(POLICY, NO_SETTINGS).network) | guard_settings(item)
    allowed = budget_of(item).value("background_fetch")
    if allowed is not None:
        settings["background_fetch"] = allowed
    if "no_background_fetch" in getattr(item, "fixturenames", ()):
        settings["background_fetch"] = False
    if not settings.get("background_fetch", True):
        guards(item.config).begin(item.nodeid, settings)


class _Guarding:
    """The hooks of a run in which something is guarded."""

    def __init__(self, guards: Guards) -> None:
        self._guards = guards

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self) -> None:
        self._guards.collected()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, object, object]:
        if fixturedef.scope == "function":
            return (yield)
        with self._guards.shared():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        record = item.stash[RECORD] = Record(item)
        try:
            result = yield
            with verdict.reporting_to(record):
                failed = item.stash.get(FAILED, False)  # by itself, which wins
                self._guards.conclude(item.nodeid, failed=failed, over=True)
            return result
        finally:
            self._guards.end(item.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        policy = session.config.stash.get(POLICY, NO_SETTINGS)
        for origin, error in self._guards.left():
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
