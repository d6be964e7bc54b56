"""The pytest plugin: fixtures, and what a run says about its checks.

The only file that imports pytest. It imports nothing else at module level but `verdict`, so that an
installed and unused plugin costs nothing; type checkers see the rest.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from pytest_streamperf import verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Generator, Iterator

    from pytest_streamperf.cadence import UpdateCounter
    from pytest_streamperf.cadence.flushes import FlushCounter
    from pytest_streamperf.pulse import StallWatch
    from pytest_streamperf.streams import TokenStream
    from pytest_streamperf.virtual_clock import VirtualClock

    Engine = Callable[[Any], AsyncIterable[str]]

__tracebackhide__ = True  # pytest shows the user's own frames

_MARKS = {"within": "\N{CHECK MARK}", "exceeded": "\N{BALLOT X}", "unproven": "?"}
_COLORS = {"within": "green", "exceeded": "red", "unproven": "red"}
_ASCII_MARKS = {"within": "+", "exceeded": "x", "unproven": "?"}
_BARS = "".join(map(chr, range(0x2581, 0x2589)))
_ASCII_BARS = ".:-=+*%#"
# A process that serves is given this many seconds to stop when it is asked to.
_PATIENCE = 10


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


class AgentServer:
    """The reference agent server, as one test sees it.

    `engine`, a callable from messages to an async iterable of deltas, is the model it runs until
    the end of the test; a `TokenStream` that is measured can be one.
    """

    def __init__(self, url: str, engine: Engine) -> None:
        self.url = url
        self.engine = engine
        self._regressions = ExitStack()

    def regress(self, name: str) -> None:
        """Put a seeded regression in place, until the end of the test."""
        from reference_impl import regressed  # noqa: PLC0415

        self._regressions.enter_context(regressed(name))

    def close(self) -> None:
        """Take out the regressions."""
        self._regressions.close()


class AgentServerProcess:
    """The reference agent server in a process of its own, where nothing in it can be measured."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._start()

    def _start(self) -> None:
        from subprocess import PIPE, Popen  # noqa: PLC0415

        command = [sys.executable, "-m", "reference_impl"]
        if self._names:
            command += ["--regress", *self._names]
        self._process = Popen(command, stdout=PIPE, text=True)  # noqa: S603 - our own module
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            line = self._process.stdout.readline().split()
        except BaseException:
            self._process.kill()
            self._process.communicate()
            raise
        if not line:
            self.close()
            msg = f"{' '.join(command)} did not start; what it said is on standard error"
            raise RuntimeError(msg)
        self.url = line[-1]

    @property
    def engine(self) -> Engine:
        """Cannot be reached from here: raises `GrowthUnproven`, which says what to do instead."""
        raise verdict.GrowthUnproven(
            verdict.Verdict(
                stem="growth",
                verdict="unproven",
                headline="the agent server runs in another process, out of reach of a metered "
                "stream: use agent_server in-process, its default",
            )
        )

    @engine.setter
    def engine(self, _engine: Engine) -> None:
        self.engine  # noqa: B018 - raises

    def regress(self, name: str) -> None:
        """Start again with a seeded regression in place; `url` changes."""
        from reference_impl import regressed  # noqa: PLC0415

        with regressed(name):  # refuses a name that there is not
            pass
        self.close()
        self._names.append(name)
        self._start()

    def close(self) -> None:
        """Stop the process."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=_PATIENCE)
        except Exception:
            self._process.kill()
            self._process.communicate()
            raise


@pytest.fixture(scope="session")
def _agent_server_in_process() -> Iterator[tuple[str, list[AgentServer]]]:
    """Serve the engine of whichever test is running, from one server per worker."""
    from reference_impl import create_app, demo_engine, running  # noqa: PLC0415

    current: list[AgentServer] = []

    def engine(messages: Any) -> AsyncIterable[str]:
        return (current[-1].engine if current else demo_engine)(messages)

    with running(create_app(engine)) as url:
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
            (f"{name}.{key}", value)
            for key, value in concluded.figures.items()
            if value is not None
        ]

    def discard(self) -> int:
        """Close the checks that were never awaited; how many they are."""
        for check in self._begun:
            check.close()
        return len(self._begun)


_POLICY = pytest.StashKey[verdict.Policy]()
_NO_SETTINGS = verdict.Policy()
_RECORD = pytest.StashKey[_Record]()


def pytest_configure(config: pytest.Config) -> None:
    """Read the project's settings, where there are any."""
    file = config.rootpath / "pyproject.toml"
    if not file.is_file() or b"streamperf" not in file.read_bytes():
        return
    from pytest_streamperf.budgets import read_policy  # noqa: PLC0415

    try:
        config.stash[_POLICY] = read_policy(file)
    except verdict.BudgetError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say what the project's settings change."""
    policy = config.stash.get(_POLICY, _NO_SETTINGS)
    if policy == _NO_SETTINGS:
        return None
    changed = {**policy.growth, "mode": policy.mode, "unproven": policy.unproven}
    return f"streamperf: {', '.join(f'{key}={value}' for key, value in changed.items())}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Collect what the checks of a test report, and fail it if one was begun and never awaited."""
    record = item.stash[_RECORD] = _Record(item)
    with verdict.reporting_to(record):
        try:
            result = yield
        finally:
            forgotten = record.discard()
        if forgotten:
            checks = "1 async check was" if forgotten == 1 else f"{forgotten} async checks were"
            what = f"{checks} never awaited to the end"
            raise verdict.nothing_measured("growth", what, "await assert_linear.aio(consume)")
        return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the verdicts travel with the test's report, from xdist's workers too: as plain values."""
    report = yield
    if call.when == "call" and _RECORD in item.stash:
        record = item.stash[_RECORD]
        if record.verdicts:
            report.streamperf = [  # type: ignore[attr-defined] # extra attributes are kept
                {
                    "stem": each.stem,
                    "verdict": each.verdict,
                    "accepted": record.policy.accepts(each.verdict),
                    "headline": each.headline,
                    "picture": list(each.picture),
                }
                for each in record.verdicts
            ]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line per check; with -q only for those that were not within, with -v a picture too."""
    lines = list(_summary(terminalreporter))
    if lines:
        terminalreporter.section("streamperf")
        for line, markup in lines:
            terminalreporter.line(line, **markup)


def _summary(terminalreporter: pytest.TerminalReporter) -> Iterator[tuple[str, dict[str, bool]]]:
    as_is = _can_show("".join(_MARKS.values()) + _BARS)
    marks = _MARKS if as_is else _ASCII_MARKS
    bars = str.maketrans(_BARS, _BARS if as_is else _ASCII_BARS)
    reports = [
        report
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "streamperf", None)
    ]
    for report in sorted(reports, key=lambda report: report.start):
        for each in report.streamperf:
            if each["verdict"] == "within" and terminalreporter.verbosity < 0:
                continue
            warned = each["accepted"] and each["verdict"] != "within"
            color = "yellow" if warned else _COLORS[each["verdict"]]
            line = f"{marks[each['verdict']]} {each['stem']}  {report.nodeid}: {each['headline']}"
            yield f"{line}{' (a warning)' if warned else ''}", {color: True}
            if terminalreporter.verbosity > 0:
                yield from ((row.translate(bars), {}) for row in each["picture"])


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
