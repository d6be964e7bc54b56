"""The pytest plugin: fixtures, and what a run says about its checks.

The only file that imports pytest. It imports nothing else at module level but `verdict`, so that an
installed and unused plugin costs nothing; type checkers see the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_streamperf import verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Generator, Iterator, Mapping

    from pytest_streamperf.agent_server import AgentServer, AgentServerProcess
    from pytest_streamperf.cadence import UpdateCounter
    from pytest_streamperf.cadence.flushes import FlushCounter
    from pytest_streamperf.network import FetchGuard
    from pytest_streamperf.network.gate import GateProof
    from pytest_streamperf.network.run import Guards
    from pytest_streamperf.pulse import StallWatch
    from pytest_streamperf.streams import TokenStream
    from pytest_streamperf.virtual_clock import VirtualClock

__tracebackhide__ = True  # pytest shows the user's own frames


@pytest.fixture
def token_stream() -> type[TokenStream]:
    """Make streams: `token_stream(tokens=5000, every=0.005)`, `.turn(...)`, `.tool_call(...)`."""
    from pytest_streamperf.streams import TokenStream  # noqa: PLC0415

    return TokenStream


@pytest.fixture
def assert_linear() -> Callable[..., Any]:
    """Fail unless a consumer's work is linear; in an async test, `await assert_linear.aio(...)`."""
    from pytest_streamperf.growth import assert_linear  # noqa: PLC0415

    return assert_linear


@pytest.fixture
def virtual_clock() -> Iterator[VirtualClock]:
    """Let time pass while the test waits, and not otherwise: sync, asyncio and trio alike."""
    from pytest_streamperf.virtual_clock import VirtualClock  # noqa: PLC0415

    with VirtualClock() as clock:
        yield clock


@pytest.fixture
def update_counter() -> type[UpdateCounter]:
    """Count updates: `update_counter(of=stream, ...)`, then `.assert_throttled(every=0.1)`."""
    from pytest_streamperf.cadence import UpdateCounter  # noqa: PLC0415

    return UpdateCounter


@pytest.fixture
def flush_counter() -> type[FlushCounter]:
    """Count flushes: `flush_counter(of=stream).writer(...)`, then `.assert_coalesced(...)`."""
    from pytest_streamperf.cadence.flushes import FlushCounter  # noqa: PLC0415

    return FlushCounter


@pytest.fixture
def stall_watch() -> type[StallWatch]:
    """Watch gaps, stalls, pauses, memory and CPU: enter it, and `.assert_smooth(...)` after."""
    from pytest_streamperf.pulse import StallWatch  # noqa: PLC0415

    return StallWatch


@pytest.fixture
def no_background_fetch(request: pytest.FixtureRequest) -> FetchGuard:
    """Fail this test for any attempt to reach the network that it causes, whenever that is."""
    return _guards(request.config).guard_of(request.node.nodeid)


@pytest.fixture
def fetch_gate() -> Callable[..., GateProof]:
    """Prove a gate: `fetch_gate("package.module:function")` is silent under test only."""
    from pytest_streamperf.network.gate import prove_gate  # noqa: PLC0415

    return prove_gate


class _LoopFactories:
    """The loops of pytest-asyncio for tests in virtual time, unless the project has its own."""

    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_asyncio_loop_factories(self) -> dict[str, Callable[[], Any]]:
        from pytest_streamperf.virtual_clock import new_event_loop  # noqa: PLC0415

        return {"virtual": new_event_loop}


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None, object, object]:
    """Answer pytest-asyncio's question for loop factories where a test asks for virtual time."""
    if "virtual_clock" not in metafunc.fixturenames:
        return (yield)
    factories = _LoopFactories()
    metafunc.config.pluginmanager.register(factories)
    try:
        return (yield)
    finally:
        metafunc.config.pluginmanager.unregister(factories)


@pytest.fixture(scope="session")
def _agent_server_in_process() -> Iterator[tuple[str, list[AgentServer]]]:
    """Serve the engine of whichever test is running, from one server per worker."""
    from reference_impl import create_app, demo_engine, running  # noqa: PLC0415

    current: list[AgentServer] = []

    def engine(messages: Any) -> AsyncIterable[str]:
        return (current[-1].engine if current else demo_engine)(messages)

    with running(create_app(engine, debug=True)) as url:
        yield url, current


@pytest.fixture
def agent_server(request: pytest.FixtureRequest) -> Iterator[AgentServer | AgentServerProcess]:
    """Give the reference agent server: `.url`, `.engine`, `.regress(name)`.

    In-process, unless the test is parametrized with "subprocess", indirectly.
    """
    kind = getattr(request, "param", "in-process")
    if kind not in ("in-process", "subprocess"):
        msg = f"agent_server can be 'in-process' or 'subprocess', not {kind!r}"
        raise pytest.UsageError(msg)
    from pytest_streamperf.agent_server import AgentServer, AgentServerProcess  # noqa: PLC0415

    server: AgentServer | AgentServerProcess
    current: list[AgentServer] = []
    if kind == "subprocess":
        server = AgentServerProcess()
    else:
        from reference_impl import demo_engine  # noqa: PLC0415

        url, current = request.getfixturevalue("_agent_server_in_process")
        server = AgentServer(url, demo_engine)
        current.append(server)
    try:
        yield server
    finally:
        current.clear()
        server.close()


class _Record:
    """Takes what the checks of one test report."""

    def __init__(self, item: pytest.Item) -> None:
        self.policy = item.config.stash.get(_POLICY, _NO_SETTINGS)
        self.verdicts: list[verdict.Verdict] = []
        self._properties = item.user_properties
        self._begun: list[Any] = []

    def begin(self, check: object) -> None:
        self._begun.append(check)

    def end(self, check: object) -> None:
        self._begun.remove(check)

    def report(self, concluded: verdict.Verdict) -> None:
        self.verdicts.append(concluded)
        name = f"streamperf.{concluded.stem}"
        self._properties.append((name, f"{concluded.verdict}: {concluded.headline}"))
        self._properties += [
            (f"{name}.{key}", value) for key, value in concluded.figures.flat().items()
        ]
        self._properties += [(f"{name}.where", each.place) for each in concluded.where[:1]]

    def discard(self) -> int:
        """Close the checks that were never awaited; how many they are."""
        for check in self._begun:
            check.close()
        return len(self._begun)


_POLICY = pytest.StashKey[verdict.Policy]()
_NO_SETTINGS = verdict.Policy()
_RECORD = pytest.StashKey[_Record]()
_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Read the settings before any code of the project's runs, which they may want guarded."""
    _read_settings(early_config)


def pytest_configure(config: pytest.Config) -> None:
    """Read the project's settings, if this plugin came too late to do so before."""
    config.addinivalue_line(
        "markers",
        "streamperf(background_fetch, allow_hosts, block_network): with background_fetch=False "
        "the test fails for any attempt to reach the network that it causes",
    )
    if _POLICY not in config.stash:
        _read_settings(config)


def _read_settings(config: pytest.Config) -> None:
    file = config.rootpath / "pyproject.toml"
    if not file.is_file() or b"streamperf" not in file.read_bytes():
        return
    from pytest_streamperf.budgets import read_policy  # noqa: PLC0415

    try:
        policy = config.stash[_POLICY] = read_policy(file)
    except verdict.BudgetError as error:
        raise pytest.UsageError(str(error)) from None
    if not policy.network.get("background_fetch", True):
        _guards(config).guard_all(policy.network)
    if policy.network.get("exact_network", False):
        _guards(config).guard_exactly(policy.network)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say what the project's settings change."""
    policy = config.stash.get(_POLICY, _NO_SETTINGS)
    if policy == _NO_SETTINGS:
        return None
    changed = {**policy.growth, **policy.network}
    changed |= {"mode": policy.mode, "unproven": policy.unproven}
    return f"streamperf: {', '.join(f'{key}={value}' for key, value in changed.items())}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Collect what the checks of a test report, and fail it if one was begun and never awaited."""
    record = item.stash[_RECORD] = _Record(item)
    guards = item.config.stash.get(_GUARDS, None)
    with verdict.reporting_to(record):
        failed = True
        try:
            result = yield
            failed = False
        finally:
            forgotten = record.discard()
            failed = failed or bool(forgotten or getattr(item, "_excinfo", None))  # unittest's
            if guards is not None and not failed:  # else its teardown tells
                guards.conclude(item.nodeid, failed=False, over=False)
        if forgotten:
            checks = "1 async check was" if forgotten == 1 else f"{forgotten} async checks were"
            what = f"{checks} never awaited to the end"
            raise verdict.nothing_measured("growth", what, "await assert_linear.aio(consume)")
        return result


# -- guards against background fetches

_MARKER = ("allow_hosts", "background_fetch", "block_network")
_GUARDS = pytest.StashKey["Guards"]()


def _guards(config: pytest.Config) -> Guards:
    """The guards of this run, which are there from the first that is asked for on."""
    if _GUARDS not in config.stash:
        from pytest_streamperf.network.run import Guards  # noqa: PLC0415

        config.stash[_GUARDS] = guards = Guards()
        config.pluginmanager.register(_Guarding(guards))
    return config.stash[_GUARDS]


def _guarded(item: pytest.Item) -> Mapping[str, Any] | None:
    """How a test is guarded: by settings, then its markers, then its fixture; None if it is not."""
    settings = dict(item.config.stash.get(_POLICY, _NO_SETTINGS).network)
    marked = "streamperf" in item.keywords  # which is quicker
    for marker in reversed([*item.iter_markers("streamperf")] if marked else []):
        for unknown in (*map(repr, marker.args), *sorted(set(marker.kwargs) - {*_MARKER})):
            msg = f"{item.nodeid}: the streamperf marker has no {unknown}; it has "
            raise pytest.UsageError(msg + ", ".join(_MARKER))
        settings |= marker.kwargs
    if "no_background_fetch" in getattr(item, "fixturenames", ()):
        settings["background_fetch"] = False
    return None if settings.get("background_fetch", True) else settings


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Guard a test that asks for it, from its fixtures on."""
    settings = _guarded(item)
    if settings is not None:
        _guards(item.config).begin(item.nodeid, settings)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Let xdist's workers write to the controller's journal, which is read when they are gone."""
    _guards(config).share()


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
        record = item.stash[_RECORD] = _Record(item)
        try:
            result = yield
            with verdict.reporting_to(record):
                failed = item.stash.get(_FAILED, False)  # by itself, which wins
                self._guards.conclude(item.nodeid, failed=failed, over=True)
            return result
        finally:
            self._guards.end(item.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        from pytest_streamperf.report.terminal import plain  # noqa: PLC0415

        policy = session.config.stash.get(_POLICY, _NO_SETTINGS)
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the verdicts travel with the test's report, from xdist's workers too: as plain values."""
    report = yield
    if call.when == "setup":
        item.stash[_FAILED] = False
    if report.failed or hasattr(report, "wasxfail"):
        item.stash[_FAILED] = True
    if call.excinfo is not None and report.failed:
        error = call.excinfo.value
        in_the_test = any(entry.path == item.path for entry in call.excinfo.traceback)
        if isinstance(error, verdict.NetworkExceeded | verdict.NetworkUnproven) and not in_the_test:
            report.longrepr = f"{type(error).__name__}: {error}"  # there is no line of it to show
    if call.when != "setup" and _RECORD in item.stash:
        record = item.stash[_RECORD]
        if record.verdicts:
            from pytest_streamperf.report.terminal import plain  # noqa: PLC0415

            found = [plain(each, record.policy) for each in record.verdicts]
            report.streamperf = found  # type: ignore[attr-defined] # extra attributes are kept
            record.verdicts.clear()
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line per check; with -q only for those that were not within, with -v a picture too."""
    reports = [
        report
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "streamperf", None)
    ]
    if not reports:
        return
    from pytest_streamperf.report.terminal import summary  # noqa: PLC0415

    lines = list(summary(reports, terminalreporter.verbosity))
    if lines:
        terminalreporter.section("streamperf")
        for line, markup in lines:
            terminalreporter.line(line, **markup)
