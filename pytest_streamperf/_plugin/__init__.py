"""The pytest plugin: its fixtures, its options, and the hooks that every run has.

This folder is the only one that imports pytest. Two rules keep an installed and unused plugin free.
At import, this module loads only the recorder and the reporter; fixtures and hooks import the rest
when a test needs it. No hook runs for each test until a test uses the plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_streamperf._plugin.recorder import POLICY, record_of, settings_line
from pytest_streamperf._results.reporter import reporting_to

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from pytest_streamperf._plugin.agent_server import AgentServer, AgentServerProcess
    from pytest_streamperf.network.fetch_guard import FetchGuard
    from pytest_streamperf.network.gate import GateResult
    from pytest_streamperf.network.run_guards import Guards
    from pytest_streamperf.responsiveness.stall_watch import StallWatch
    from pytest_streamperf.streams.token_stream import TokenStream
    from pytest_streamperf.throttling.flush_counter import FlushCounter
    from pytest_streamperf.throttling.update_counter import UpdateCounter
    from pytest_streamperf.virtual_clock import VirtualClock

__tracebackhide__ = True  # pytest shows the user's own frames


@pytest.fixture
def token_stream() -> type[TokenStream]:
    """Create streams: `token_stream(tokens=5000, every=0.005)`, `.turn(...)`, `.tool_call(...)`."""
    from pytest_streamperf.streams.token_stream import TokenStream  # noqa: PLC0415

    return TokenStream


@pytest.fixture
def assert_linear() -> Callable[..., Any]:
    """Fail unless a consumer's work is linear; in an async test, `await assert_linear.aio(...)`."""
    from pytest_streamperf.growth.checks import assert_linear  # noqa: PLC0415

    return assert_linear


@pytest.fixture
def virtual_clock() -> Iterator[VirtualClock]:
    """Make time pass only while the test waits: in sync code, asyncio and trio."""
    from pytest_streamperf.virtual_clock import VirtualClock  # noqa: PLC0415

    with VirtualClock() as clock:
        yield clock


@pytest.fixture
def update_counter() -> type[UpdateCounter]:
    """Count updates: `update_counter(of=stream, ...)`, then `.assert_throttled(every=0.1)`."""
    from pytest_streamperf.throttling.update_counter import UpdateCounter  # noqa: PLC0415

    return UpdateCounter


@pytest.fixture
def flush_counter() -> type[FlushCounter]:
    """Count flushes: `flush_counter(of=stream).writer(...)`, then `.assert_coalesced(...)`."""
    from pytest_streamperf.throttling.flush_counter import FlushCounter  # noqa: PLC0415

    return FlushCounter


@pytest.fixture
def stall_watch() -> type[StallWatch]:
    """Watch gaps, stalls, pauses, memory and CPU: enter it, and `.assert_smooth(...)` after."""
    from pytest_streamperf.responsiveness.stall_watch import StallWatch  # noqa: PLC0415

    return StallWatch


@pytest.fixture
def no_background_fetch(request: pytest.FixtureRequest) -> FetchGuard:
    """Fail this test for every network access that it causes, also after its end."""
    from pytest_streamperf._plugin.network import guarded  # noqa: PLC0415

    return guarded(request.node)


@pytest.fixture
def assert_fetch_is_gated() -> Callable[..., GateResult]:
    """Fail unless `"package.module:function"` is silent under test and alive in production."""
    from pytest_streamperf.network.gate import assert_fetch_is_gated  # noqa: PLC0415

    return assert_fetch_is_gated


@pytest.fixture
def streamperf_run(request: pytest.FixtureRequest) -> str:
    """Return the current run of a test that runs twice: "watched" or "memory"."""
    return str(request.param)


class _LoopFactories:
    """Gives pytest-asyncio the loop of virtual time, unless the project has its own factories."""

    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_asyncio_loop_factories(self) -> dict[str, Callable[[], Any]]:
        from pytest_streamperf.virtual_clock import new_event_loop  # noqa: PLC0415

        return {"virtual": new_event_loop}


class _VirtualTime:
    """Registers the loop factory while pytest-asyncio collects a test that uses `virtual_clock`."""

    @pytest.hookimpl(wrapper=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> Generator[None, object, object]:
        if "virtual_clock" not in metafunc.fixturenames:
            return (yield)
        factories = _LoopFactories()
        metafunc.config.pluginmanager.register(factories)
        try:
            return (yield)
        finally:
            metafunc.config.pluginmanager.unregister(factories)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Split a test into two runs if its budget needs that."""
    policy = metafunc.config.stash.get(POLICY, None)
    if "streamperf" in metafunc.definition.keywords or (policy is not None and policy.budgets):
        from pytest_streamperf._plugin.budgets import run_twice  # noqa: PLC0415

        run_twice(metafunc)


@pytest.fixture(scope="session")
def _agent_server_in_process() -> Iterator[tuple[str, list[AgentServer]]]:
    """Serve the engine of the running test, from one server for each worker."""
    from pytest_streamperf._plugin.agent_server import served_in_process  # noqa: PLC0415

    with served_in_process() as served:
        yield served


@pytest.fixture
def agent_server(request: pytest.FixtureRequest) -> Iterator[AgentServer | AgentServerProcess]:
    """Give the reference agent server: `.url`, `.engine`, `.regress(name)`.

    It runs in-process, unless the test is parametrized with "subprocess", indirectly.
    """
    kind = getattr(request, "param", "in-process")
    if kind not in ("in-process", "subprocess"):
        msg = f"agent_server can be 'in-process' or 'subprocess', not {kind!r}"
        raise pytest.UsageError(msg)
    from pytest_streamperf._plugin.agent_server import AgentServer, AgentServerProcess  # noqa: PLC0415

    server: AgentServer | AgentServerProcess
    current: list[AgentServer] = []
    if kind == "subprocess":
        server = AgentServerProcess()
    else:
        url, current = request.getfixturevalue("_agent_server_in_process")
        server = AgentServer(url)
        current.append(server)
    try:
        yield server
    finally:
        current.clear()
        server.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options of the plugin."""
    group = parser.getgroup("streamperf")
    group.addoption(
        "--streamperf-budgets",
        action="store_true",
        help="show what applies to which test, and where it comes from, and run none",
    )
    group.addoption(
        "--streamperf-json",
        metavar="FILE",
        help="write all that was measured to this file, as JSON",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Read the settings before any code of the project runs: they may guard its imports."""
    _read_settings(early_config)


def pytest_configure(config: pytest.Config) -> None:
    """Receive verdicts of checks, and register the hooks that the options need.

    This hook also reads the settings if pytest loaded the plugin after the initial conftest files.
    """
    config.addinivalue_line(
        "markers",
        "streamperf(max_stall='50ms', ...): the test is held to these budgets; profile='name' "
        "takes those of pyproject.toml, and allow_hosts=[...] and block_network=True are for "
        "background_fetch=False",
    )
    if POLICY not in config.stash:
        _read_settings(config)
    reporting = reporting_to(record_of(config))
    reporting.__enter__()
    config.add_cleanup(reporting.__exit__)
    if hasattr(config.hook, "pytest_asyncio_loop_factories"):
        config.pluginmanager.register(_VirtualTime())
    if config.option.streamperf_budgets:
        from pytest_streamperf._plugin.budgets import Listing  # noqa: PLC0415

        config.option.dist = "no"  # with xdist, only its workers collect
        config.pluginmanager.register(Listing())
    if getattr(config.option, "loadgroup", False):  # one of xdist's workers
        from pytest_streamperf._plugin.xdist import Grouping  # noqa: PLC0415

        config.pluginmanager.register(Grouping())
    writes = config.option.streamperf_json and not config.option.collectonly
    if writes and not hasattr(config, "workerinput"):  # only workers of xdist have it
        from pytest_streamperf._plugin.report_file import Writing  # noqa: PLC0415

        config.pluginmanager.register(Writing(config))


def _read_settings(config: pytest.Config) -> None:
    file = config.rootpath / "pyproject.toml"
    if not file.is_file() or b"streamperf" not in file.read_bytes():
        return
    from pytest_streamperf.budgets.declaration import read_policy  # noqa: PLC0415
    from pytest_streamperf.exceptions import BudgetError  # noqa: PLC0415

    try:
        policy = config.stash[POLICY] = read_policy(file)
    except BudgetError as error:
        raise pytest.UsageError(str(error)) from None
    if policy.network:
        from pytest_streamperf._plugin.network import guard_the_run  # noqa: PLC0415

        guard_the_run(config, policy.network)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Show what the project's settings change."""
    return settings_line(config)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Register the hooks for budgets and guards, if a test needs them."""
    policy, config = session.config.stash.get(POLICY, None), session.config
    marked = any("streamperf" in item.keywords for item in session.items)
    if marked or (policy is not None and policy.budgets):
        from pytest_streamperf._plugin.budgets import Budgeting, check  # noqa: PLC0415

        check(session.items)
        config.pluginmanager.register(Budgeting(record_of(config)))
    elif not any(
        "no_background_fetch" in getattr(item, "fixturenames", ()) for item in session.items
    ):
        return
    from pytest_streamperf._plugin.network import watch  # noqa: PLC0415

    watch(config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Share the controller's journal with xdist's workers; it is read after they have ended."""
    from pytest_streamperf._plugin.network import guards  # noqa: PLC0415

    guards(config).share()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line for each check.

    With -q only checks whose verdict is not "within" get a line; with -v each has a picture too.
    """
    rerun = terminalreporter.stats.get("rerun", ())  # by pytest-rerunfailures: the last run counts
    last_rerun = {report.nodeid: getattr(report, "rerun", 0) for report in rerun}
    reports = [
        report
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "streamperf", None)
        and getattr(report, "rerun", 0) > last_rerun.get(report.nodeid, -1)
    ]
    if not reports:
        return
    from pytest_streamperf._report.terminal import summary  # noqa: PLC0415

    lines = list(summary(reports, terminalreporter.verbosity))
    if lines:
        terminalreporter.section("streamperf")
        for line, markup in lines:
            terminalreporter.line(line, **markup)
