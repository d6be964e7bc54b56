"""The plugin inside pytest: how it loads, what its fixtures do, and what a run prints.

Each test runs pytest in another process on a small test file, and reads the outcomes and the
output. `run_alone` loads this plugin only. `_run_with_all_plugins` loads every installed plugin.
"""

import contextlib
import os
import pty
import re
import subprocess
import sys
import textwrap
from xml.etree import ElementTree as ET

import pytest

# A test file with a check that passes.
LINEAR_TEST = """
def test_good(assert_linear):
    assert_linear(lambda stream: "".join([delta for delta in stream]), up_to=1_000)
"""

# A test file with a check that fails: its consumer copies the whole text for each delta.
QUADRATIC_TEST = """
class Reply:
    text = ""
    def feed(self, delta):
        self.text += delta

def consume(stream):
    reply = Reply()
    for delta in stream:
        reply.feed(delta)

def test_bad(assert_linear):
    assert_linear(consume, up_to=1_000)
"""

# A test file that creates an async check and never awaits it.
NEVER_AWAITED_TEST = """
async def consume(stream):
    async for _ in stream:
        pass

def test_forgotten(assert_linear):
    assert_linear.aio(consume)
"""


@pytest.fixture(autouse=True)
def _without_outer_options(monkeypatch):
    """Remove the options of the outer pytest run from the environment of the inner runs."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.delenv("PYTEST_PLUGINS", raising=False)


def _run_with_all_plugins(pytester, *options, **environment):
    """Run pytest with all installed plugins; pytest-asyncio only if an option names it."""
    for name, value in environment.items():
        pytester._monkeypatch.setenv(name, value)
    quiet = [] if "pytest_asyncio.plugin" in options else ["-p", "no:asyncio"]
    return pytester.runpytest_subprocess(*quiet, "-p", "no:cacheprovider", *options)


# -- loading


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        ([], {}),
        (["-p", "streamperf"], {}),
        (["-p", "streamperf"], {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}),
        (["-n", "1"], {}),
        (["-p", "xdist", "-p", "streamperf", "-n", "2"], {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}),
    ],
    ids=["autoload", "-p", "-p without autoload", "-n 1", "-n 2 without autoload"],
)
def test_every_way_of_loading(pytester, options, environment):
    """The plugin's fixtures work, and its section is printed once, however it is loaded."""
    pytester.makepyfile(LINEAR_TEST)
    result = _run_with_all_plugins(pytester, *options, **environment)
    result.assert_outcomes(passed=1)
    assert result.stdout.str().count("= streamperf =") == 1


def test_loaded_by_a_conftest(pytester):
    """A conftest may load the plugin that its entry point has loaded already."""
    pytester.makeconftest('pytest_plugins = ["streamperf"]')
    pytester.makepyfile(LINEAR_TEST)
    _run_with_all_plugins(pytester).assert_outcomes(passed=1)


def test_switched_off(pytester):
    """`-p no:streamperf` removes the fixtures, and other tests pass under strict options."""
    pytester.makeini("[pytest]\naddopts = --strict-config --strict-markers\n")
    pytester.makepyfile(f"{LINEAR_TEST}\ndef test_one(): pass")
    result = _run_with_all_plugins(pytester, "-p", "no:streamperf")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*fixture 'assert_linear' not found*"])


def test_unused_it_loads_nothing(pytester):
    """An unused plugin imports only its recorder and reporter, and raises no warning."""
    pytester.makepyfile(
        """
        import sys

        def test_trivial():
            ours = {name for name in sys.modules if name.startswith("pytest_streamperf")}
            names = {"_plugin", "_plugin.recorder", "_results", "_results.reporter"}
            assert ours == {"pytest_streamperf", *(f"pytest_streamperf.{name}" for name in names)}
            assert not {"psutil", "partial_json_parser", "httpx", "starlette"} & set(sys.modules)
        """
    )
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    result = _run_with_all_plugins(pytester, "-p", "streamperf", "-W", "error", **environment)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*= streamperf =*")


def test_unused_it_hooks_no_test(pytester, run_alone):
    """An unused plugin has no hook that pytest calls for each test."""
    pytester.makepyfile(
        """
        def test_trivial(pytestconfig):
            hooks = vars(pytestconfig.hook).values()
            ours = {
                hook.name
                for hook in hooks
                for impl in hook.get_hookimpls()
                if (impl.function.__module__ or "").startswith("pytest_streamperf")
            }
            assert "pytest_configure" in ours
            assert not {name for name in ours if name.startswith("pytest_runtest")}
        """
    )
    run_alone().assert_outcomes(passed=1)


def test_importing_the_plugin_brings_in_nothing_but_its_own_reporter():
    """Importing the plugin adds only its recorder and its reporter to the modules of pytest."""
    code = (
        "import sys, pytest; before = set(sys.modules); import pytest_streamperf._plugin; "
        "print(sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    names = ("_plugin", "_plugin.recorder", "_results", "_results.reporter")
    assert printed.strip() == str(["pytest_streamperf", *(f"pytest_streamperf.{n}" for n in names)])


# -- outcomes


def test_a_failure_is_raised_in_the_test(pytester, run_alone):
    """An exceeded check makes its test FAILED, not ERROR, and shows only the user's frames."""
    pytester.makepyfile(QUADRATIC_TEST)
    result = run_alone()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">*assert_linear(consume, up_to=1_000)",
            "E*GrowthExceeded: 1,000 deltas allocated * superlinear, limit 25%",
            "E*where  test_a_failure_is_raised_in_the_test.py:4 in Reply.feed:*",
            "E*self.text += delta (*% of growth)",
            "*.py:12: GrowthExceeded",
        ]
    )
    result.stdout.no_fnmatch_line("*pytest_streamperf/*")


def test_a_failure_is_80_columns_wide(pytester, run_alone):
    """A failure message fits 80 columns with pytest's prefix; its headline may take four more."""
    pytester.makepyfile(QUADRATIC_TEST)
    lines = [line for line in run_alone().outlines if line.startswith("E ")]
    assert len(lines) in range(10, 14)
    headline, *details = lines
    assert len(headline) <= 84
    assert max(map(len, details)) <= 80


def test_what_a_consumer_raises_shows_the_users_frames(pytester, run_alone):
    """The traceback of a consumer's exception hides the frames of the check."""
    pytester.makepyfile(
        """
        def consume(stream):
            for _ in stream:
                raise LookupError("lost")

        def test_it(assert_linear):
            assert_linear(consume)
        """
    )
    result = run_alone()
    result.stdout.fnmatch_lines([">*assert_linear(consume)", ">*raise LookupError*", "E*lost"])
    result.stdout.no_fnmatch_line("*pytest_streamperf/*")


def test_a_check_that_is_never_awaited_fails_the_test(pytester, run_alone):
    """An async check that the test never awaits fails the test."""
    pytester.makepyfile(NEVER_AWAITED_TEST)
    result = run_alone("-W", "error")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*NothingMeasured: 1 async check was never awaited to the end"])


def test_a_check_that_is_left_behind_fails_the_test(pytester, run_alone):
    """An async check that begins in a task and never ends fails the test."""
    pytester.makepyfile(
        """
        import asyncio

        async def consume(stream):
            async for _ in stream:
                await asyncio.sleep(0)

        def test_left(assert_linear):
            async def main():
                task = asyncio.create_task(assert_linear.aio(consume))
                await asyncio.sleep(0)
                return task

            asyncio.run(main())
        """
    )
    result = run_alone()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*NothingMeasured: 1 async check was never awaited to the end"])


def test_a_tests_own_failure_wins(pytester, run_alone):
    """A test that fails by itself gets no second error for a check that it never awaited."""
    pytester.makepyfile(NEVER_AWAITED_TEST + "    assert 1 == 2")
    result = run_alone()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*assert 1 == 2"])
    result.stdout.no_fnmatch_line("*NothingMeasured*")


def test_a_fixture_of_the_users_wins(pytester, run_alone):
    """A fixture of the project replaces the plugin's fixture of the same name."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def token_stream():
            return "mine"

        def test_mine(token_stream):
            assert token_stream == "mine"
        """
    )
    run_alone().assert_outcomes(passed=1)


def test_the_plain_form_reports_like_the_fixture(pytester, run_alone):
    """A check that is called as a function, without a fixture, has its line in the section."""
    pytester.makepyfile(
        """
        from pytest_streamperf import assert_linear

        def test_plain():
            assert_linear("".join, up_to=1_000)
        """
    )
    run_alone().stdout.fnmatch_lines(["*growth  *::test_plain: 1,000 deltas, *limit 25%"])


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_under_pytest_asyncio(pytester, run_alone, mode):
    """An async test under pytest-asyncio can await a check, and no warning is raised."""
    pytester.makepyfile(
        """
        import pytest

        async def consume(stream):
            return "".join([delta async for delta in stream])

        @pytest.mark.asyncio
        async def test_it(assert_linear, token_stream):
            assert len([_ async for _ in token_stream(tokens=3)]) == 3
            growth = await assert_linear.aio(consume, up_to=1_000)
            assert growth.verdict == "within"
        """
    )
    pytester.makeini(
        f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n"
    )
    run_alone("-p", "pytest_asyncio.plugin", "-W", "error").assert_outcomes(passed=1)


def test_under_anyios_plugin(pytester, run_alone):
    """An async test under anyio's plugin can await a check, on asyncio and on trio."""
    pytester.makepyfile(
        """
        import pytest

        async def consume(stream):
            return "".join([delta async for delta in stream])

        @pytest.mark.anyio
        async def test_it(assert_linear):
            assert (await assert_linear.aio(consume, up_to=1_000)).verdict == "within"
        """
    )
    run_alone("-p", "anyio", "-W", "error").assert_outcomes(passed=2)


# -- what a run prints


def test_the_section_has_a_line_for_each_check(pytester, run_alone):
    """The section has one line for each check, in the order of the run.

    The line has the mark of the verdict, the test, the measured value and the limit.
    """
    pytester.makepyfile(test_one=QUADRATIC_TEST, test_two=LINEAR_TEST)
    run_alone(PYTHONIOENCODING="utf-8").stdout.fnmatch_lines(
        [
            "*= streamperf =*",
            "\N{BALLOT X} growth  test_one.py::test_bad: 1,000 deltas allocated *limit 25%",
            "\N{CHECK MARK} growth  test_two.py::test_good: 1,000 deltas, *limit 25%",
        ],
        consecutive=True,
    )


def test_the_section_is_quiet_with_q(pytester, run_alone):
    """`-q` limits the section to the checks that are not within their limits."""
    pytester.makepyfile(test_one=QUADRATIC_TEST, test_two=LINEAR_TEST)
    result = run_alone("-q")
    result.stdout.fnmatch_lines(["*growth  test_one.py::test_bad*"])
    result.stdout.no_fnmatch_line("*growth  test_two.py::test_good*")


def test_the_section_where_the_terminal_is_ascii(pytester, run_alone):
    """The marks in the section are `+` and `x` on an ASCII terminal."""
    pytester.makepyfile(test_one=QUADRATIC_TEST, test_two=LINEAR_TEST)
    result = run_alone(PYTHONIOENCODING="ascii")
    result.stdout.fnmatch_lines(["x growth  test_one.py*", "+ growth  test_two.py*"])


def test_a_check_in_a_fixture_is_told_with_its_test(pytester, run_alone):
    """A check in a fixture follows the settings, and is reported with the test that uses it."""
    pytester.makepyprojecttoml("[tool.streamperf]\nmode = 'warn'\n")
    fixture = QUADRATIC_TEST.replace("def test_bad", "@pytest.fixture\ndef checked")
    tests = "def test_it(checked):\n    pass\n\ndef test_other():\n    pass\n"
    pytester.makepyfile(f"import pytest\n{fixture}\n{tests}")
    result = run_alone()
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(["*growth  *::test_it: * (a warning)"])
    result.stdout.no_fnmatch_line("*growth  *::test_other: *")


def test_a_check_at_import_is_no_tests(pytester, run_alone):
    """A check that runs at import is not reported with any test."""
    pytester.makepyfile(
        """
        from pytest_streamperf import assert_linear

        assert_linear("".join, up_to=1_000)

        def test_it():
            pass
        """
    )
    result = run_alone()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*= streamperf =*")


def test_a_picture_with_v(pytester, run_alone):
    """`-v` adds a table and a curve of the cost per delta to a check's line."""
    pytester.makepyfile(test_one=QUADRATIC_TEST)
    result = run_alone("-v", PYTHONIOENCODING="utf-8")
    result.stdout.fnmatch_lines(
        [
            "\N{BALLOT X} growth  test_one.py::test_bad: *",
            "  deltas *allocated per delta *",
            "   1,000 *",
            "  *\N{LOWER HALF BLOCK}*\N{FULL BLOCK} allocated per delta, from 0",
        ]
    )


def test_a_picture_where_the_terminal_is_ascii(pytester, run_alone):
    """The curve of a check consists of ASCII characters on an ASCII terminal."""
    pytester.makepyfile(test_one=QUADRATIC_TEST)
    result = run_alone("-v", PYTHONIOENCODING="ascii")
    result.stdout.fnmatch_lines(["  .*:*-*=*+*[*]*%*# allocated per delta, from 0"])


def _assert_junit_has_the_quadratic_test(junit):
    properties = {
        entry.get("name"): entry.get("value")
        for entry in ET.parse(junit).iterfind(".//*[@name='test_bad']//property")  # noqa: S314 - our file
    }
    assert properties["streamperf.growth"].startswith("exceeded: 1,000 deltas allocated")
    assert float(properties["streamperf.growth.superlinear"]) > 0.25
    assert properties["streamperf.growth.measured to"] == "1,000"
    assert properties["streamperf.growth.metric"] == "allocated_bytes"
    assert properties["streamperf.growth.where"] == "test_one.py:4 in Reply.feed"


def test_measurements_go_to_junit(pytester, run_alone):
    """The JUnit log has the measurements of a check as properties of its test."""
    pytester.makepyfile(test_one=QUADRATIC_TEST)
    run_alone("--junitxml=report.xml")
    _assert_junit_has_the_quadratic_test(pytester.path / "report.xml")


def test_what_workers_measured_is_told_once(pytester, run_alone):
    """A check is reported once in the section and once in the JUnit log under xdist, too."""
    pytester.makepyfile(test_one=QUADRATIC_TEST, test_two=LINEAR_TEST)
    result = run_alone("-v", "-n", "2", "--junitxml=report.xml")
    result.assert_outcomes(passed=1, failed=1)
    assert result.stdout.str().count("growth  test_one.py::test_bad: ") == 1
    assert result.stdout.str().count("growth  test_two.py::test_good: ") == 1
    result.stdout.fnmatch_lines(["* allocated per delta, from 0"])
    _assert_junit_has_the_quadratic_test(pytester.path / "report.xml")


# -- settings


def test_settings_are_the_defaults_of_every_check(pytester, run_alone):
    """A growth check in any form takes its defaults from the settings, which the header shows."""
    pytester.makepyprojecttoml("[tool.streamperf]\nup_to = 640\n")
    pytester.makepyfile(
        """
        import asyncio
        from pytest_streamperf import assert_linear as plain, assert_linear_async, measure_growth

        def consume(stream):
            return "".join([delta for delta in stream])

        def test_it(assert_linear):
            assert assert_linear(consume).measured_to == 640
            assert plain(consume).measured_to == 640
            assert asyncio.run(asynchronous()).measured_to == 640
            assert assert_linear(consume, up_to=1_000).measured_to == 1_000
            assert measure_growth(consume, metrics=("cpu_time",)).measured_to == 20_000

        async def asynchronous():
            return await assert_linear_async(consume)
        """
    )
    result = run_alone()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["streamperf: up_to=640, mode=fail, inconclusive=fail"])


def test_a_project_can_start_with_warnings(pytester, run_alone):
    """`mode = "warn"` makes an exceeded check a warning with the whole failure message."""
    pytester.makepyprojecttoml("[tool.streamperf]\nmode = 'warn'\n")
    pytester.makepyfile(test_one=QUADRATIC_TEST)
    result = run_alone(PYTHONIOENCODING="utf-8")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "*StreamperfWarning: 1,000 deltas allocated*",
            "*where  test_one.py:4 in Reply.feed*",
            "\N{BALLOT X} growth  test_one.py::test_bad: *limit 25% (a warning)",
        ]
    )


def test_what_is_inconclusive_can_be_a_warning(pytester, run_alone):
    """`inconclusive = "warn"` makes an inconclusive check a warning, but not an exceeded one."""
    pytester.makepyprojecttoml("[tool.streamperf]\ninconclusive = 'warn'\n")
    pytester.makepyfile(
        QUADRATIC_TEST,
        test_early="""
        def test_early(assert_linear):
            assert_linear(lambda stream: next(iter(stream)))
        """,
    )
    run_alone().assert_outcomes(passed=1, failed=1, warnings=1)


def test_a_wrong_setting_stops_the_run(pytester, run_alone):
    """An unknown setting stops the run before any test, with a usage error that names it."""
    pytester.makepyprojecttoml("[tool.streamperf]\nupto = 640\n")
    pytester.makepyfile(LINEAR_TEST)
    result = run_alone()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: pyproject.toml:2: * no setting 'upto'; it has *"])


def test_settings_under_xdist(pytester, run_alone):
    """The workers of xdist follow the project's settings."""
    pytester.makepyprojecttoml("[tool.streamperf]\nmode = 'warn'\n")
    pytester.makepyfile(test_one=QUADRATIC_TEST)
    result = run_alone("-n", "2")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*growth  test_one.py::test_bad: * (a warning)"])


# -- the reference server


# The head of a test file: `ask` runs one turn on the server and returns the events as text.
ASK_THE_SERVER = """
import httpx

BODY = {"messages": [{"role": "user", "content": "one two three"}]}

def ask(agent_server):
    return httpx.post(f"{agent_server.url}/agents/demo/run", json=BODY).text
"""


@pytest.mark.parametrize("kind", ["in-process", "subprocess"])
def test_the_server_answers(pytester, run_alone, kind):
    """`agent_server` runs a whole turn in-process and in a subprocess, healthy and regressed."""
    pytester.makepyfile(
        ASK_THE_SERVER
        + f"""
import pytest

@pytest.mark.parametrize("agent_server", ["{kind}"], indirect=True)
def test_it(agent_server):
    assert "Word count: 3." in ask(agent_server)
    agent_server.regress("quadratic-accumulator")
    assert "Word count: 3." in ask(agent_server)
"""
    )
    run_alone("-W", "error").assert_outcomes(passed=1)


@pytest.mark.parametrize("kind", ["in-process", "subprocess"])
def test_an_unknown_regression_is_refused(pytester, run_alone, kind):
    """`regress` refuses an unknown name with the list of known ones, and the server goes on."""
    pytester.makepyfile(
        ASK_THE_SERVER
        + f"""
import pytest

@pytest.mark.parametrize("agent_server", ["{kind}"], indirect=True)
def test_it(agent_server):
    with pytest.raises(ValueError, match="quadratic-accumulator"):
        agent_server.regress("nope")
    assert "Word count: 3." in ask(agent_server)
"""
    )
    run_alone().assert_outcomes(passed=1)


def test_an_engine_and_a_regression_last_for_one_test(pytester, run_alone):
    """A test's engine and seeded regression are gone in the next test, on the same server."""
    pytester.makepyfile(
        ASK_THE_SERVER
        + """
from reference_impl import agent

urls = []

def test_first(agent_server, token_stream):
    urls.append(agent_server.url)
    agent_server.engine = lambda messages: token_stream(tokens=3)
    agent_server.regress("quadratic-accumulator")
    assert agent.Reply.__name__ == "QuadraticReply"
    assert token_stream(tokens=3).text in ask(agent_server)

def test_second(agent_server):
    assert urls == [agent_server.url]
    assert agent.Reply.__name__ == "Reply"
    assert "Word count: 3." in ask(agent_server)
"""
    )
    run_alone().assert_outcomes(passed=2)


def test_growth_in_another_process_is_inconclusive(pytester, run_alone):
    """A growth check of a server in another process is inconclusive, and its message says why.

    The metered stream cannot be the engine of another process.
    """
    pytester.makepyfile(
        ASK_THE_SERVER
        + """
import pytest

@pytest.mark.parametrize("agent_server", ["subprocess"], indirect=True)
def test_it(agent_server, assert_linear):
    def consume(stream):
        agent_server.engine = lambda messages: stream
        ask(agent_server)

    assert_linear(consume)
"""
    )
    result = run_alone()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*GrowthInconclusive*", "E*why*runs in another process*"])


def test_the_servers_process_is_stopped(pytester, run_alone):
    """The process of the server is stopped, also at the end of a test that fails."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("agent_server", ["subprocess"], indirect=True)
        def test_it(agent_server):
            open("pid", "w").write(str(agent_server._process.pid))
            raise LookupError
        """
    )
    run_alone().assert_outcomes(failed=1)
    with pytest.raises(ProcessLookupError):
        os.kill(int((pytester.path / "pid").read_text()), 0)


def test_an_unknown_kind_of_server_is_refused(pytester, run_alone):
    """`agent_server` refuses an unknown kind of server with the two allowed kinds."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("agent_server", ["thread"], indirect=True)
        def test_it(agent_server):
            pass
        """
    )
    result = run_alone()
    result.stdout.fnmatch_lines(["*'in-process' or 'subprocess', not 'thread'*"])


@pytest.mark.parametrize(("missing", "extra"), [("starlette", "reference"), ("uvicorn", "serve")])
def test_a_missing_extra_is_named_with_its_command(pytester, run_alone, missing, extra):
    """An error of `agent_server` has the command that installs the server's missing libraries."""
    pytester.makeconftest(f"import sys; sys.modules[{missing!r}] = None")
    pytester.makepyfile("def test_it(agent_server): pass")
    result = run_alone()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*pip install 'pytest-streamperf?{extra}?'*"])


# -- beside other tools


# How coverage.py can trace lines; `sysmon` needs Python 3.12.
COVERAGE_CORES = ["ctrace", "pytrace", *(["sysmon"] if sys.version_info >= (3, 12) else [])]


@pytest.mark.parametrize("core", COVERAGE_CORES)
def test_coverage_sees_what_it_saw(core, pytester, run_alone):
    """coverage.py misses no line while a check traces code, nor after it, also in threads."""
    pytester.makepyfile(
        agent="""
        import threading

        class Reply:
            text = ""
            def feed(self, delta):
                self.text += delta

        def consume(stream):
            reply = Reply()
            thread = threading.Thread(target=lambda: [reply.feed(delta) for delta in stream])
            thread.start()
            thread.join()

        def pieces(stream):
            reply = Reply()
            for delta in (delta.upper() for delta in stream):
                reply.feed(delta)

        def later(stream):
            for delta in stream:
                yield delta
        """,
        test_agent="""
        import pytest

        import agent
        from pytest_streamperf import GrowthExceeded, TokenStream

        @pytest.mark.parametrize("consume", [agent.consume, agent.pieces])
        def test_check(assert_linear, consume):
            with pytest.raises(GrowthExceeded, match="agent.py:6 in Reply.feed"):
                assert_linear(consume, up_to=4_000, seconds=8.0)  # tracing in Python is slow

        def test_later():
            assert len(list(agent.later(TokenStream(100)))) == 100
        """,
    )
    options = ["-p", "pytest_cov", "--cov=agent", "--cov-report=term"]
    result = run_alone(*options, COVERAGE_CORE=core)
    result.assert_outcomes(passed=3)
    result.stdout.re_match_lines([r"agent\.py +17 +0 +100%"])


# -- virtual time

# Tests of an hour each, and a test in real time; `{mark}` is the marker of an async plugin.
HOUR_LONG_TESTS = """
    import asyncio
    import time

    import anyio
    import pytest

    from pytest_streamperf import TokenStream

    async def an_hour():
        with anyio.move_on_after(1800):
            await anyio.Event().wait()
        async for _ in TokenStream(19, every=100):
            pass
        return True

    def test_sync(virtual_clock):
        time.sleep(3600)
        assert virtual_clock.now == 3600

    def test_no_plugin(virtual_clock):
        assert asyncio.run(an_hour())
        assert virtual_clock.now == 3600

    {mark}
    async def test_async(virtual_clock):
        await an_hour()
        assert virtual_clock.now == 3600

    {mark}
    async def test_real():
        before = time.monotonic()
        await anyio.sleep(0.01)
        assert 0.01 <= time.monotonic() - before < 60
"""


@pytest.mark.parametrize(
    ("mark", "options", "passed"),
    [
        ("@pytest.mark.asyncio", ["-p", "pytest_asyncio.plugin"], 4),
        ("", ["-p", "pytest_asyncio.plugin", "--asyncio-mode=auto"], 4),
        ("@pytest.mark.anyio", ["-p", "anyio"], 6),
    ],
    ids=["pytest-asyncio, strict", "pytest-asyncio, auto", "anyio's, asyncio and trio"],
)
def test_virtual_time_with_async_plugins(mark, options, passed, pytester, run_alone):
    """An hour of virtual time passes at once under each async plugin; other tests see real time."""
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makepyfile(textwrap.dedent(HOUR_LONG_TESTS).format(mark=mark))
    run_alone(*options).assert_outcomes(passed=passed)


def test_virtual_time_with_no_async_plugin(pytester, run_alone):
    """Sync tests can use virtual time without any async plugin."""
    pytester.makepyfile(textwrap.dedent(HOUR_LONG_TESTS).format(mark="@pytest.mark.skip"))
    result = run_alone("-p", "no:anyio", "-p", "no:asyncio")
    result.assert_outcomes(passed=2, skipped=2)


def test_a_loop_factory_of_the_projects_wins(pytester, run_alone):
    """A project's own loop factory stays, and `virtual_clock` raises an error on its loop.

    Without the error the test would wait in real time unnoticed.
    """
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makeconftest(
        """
        import asyncio

        class Loop(asyncio.SelectorEventLoop):
            pass

        def pytest_asyncio_loop_factories(config, item):
            return {"ours": Loop}
        """
    )
    pytester.makepyfile(
        """
        import asyncio
        import time

        import pytest

        @pytest.mark.asyncio
        async def test_virtual(virtual_clock):
            time.monotonic()

        @pytest.mark.asyncio
        async def test_real():
            assert type(asyncio.get_running_loop()).__name__ == "Loop"
        """
    )
    result = run_alone("-p", "pytest_asyncio.plugin")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*VirtualTimeError: virtual time cannot move a conftest.Loop*"])


# -- guards against background fetches; RFC 5737 reserves 192.0.2.1: no server has this address

# The head of a test file: `fetch` connects at once, and `late` as soon as `release` is set.
FETCH_HELPERS = """
import contextlib, socket, threading, time, unittest
import pytest

guarded = pytest.mark.streamperf(background_fetch=False, block_network=True)

def fetch(port=443):
    with contextlib.suppress(OSError):
        socket.create_connection(("192.0.2.1", port), timeout=1)

release = threading.Event()

def late(port):
    release.wait()
    fetch(port)
"""
# Settings that guard the whole run.
GUARD_THE_RUN = "[tool.streamperf]\nbackground_fetch = false\nblock_network = true\n"


@pytest.fixture
def guard(pytester, run_alone):
    """Return a function that runs test code after `FETCH_HELPERS`, with warnings as errors."""

    def run(tests, *options, settings=""):
        pytester.makepyfile(FETCH_HELPERS + textwrap.dedent(tests))
        if settings:
            pytester.makefile(".toml", pyproject=settings)
        return run_alone("-W", "error", *options)

    return run


def test_a_fetch_fails_the_test_that_started_it(guard):
    """A network access fails the guarded test that started it, also from a thread.

    A marker or the fixture `no_background_fetch` guards a test. A test without a network access
    passes.
    """
    result = guard(
        """
        @guarded
        def test_marker(): fetch()

        @guarded
        def test_thread():
            thread = threading.Thread(target=fetch)
            thread.start()
            thread.join()

        @guarded
        def test_fixture(no_background_fetch):
            fetch()
            assert len(no_background_fetch.attempts) == 1

        @guarded
        def test_silent(): pass

        @pytest.mark.streamperf(background_fetch=False, allow_hosts=["192.0.2.0/24", "::1"])
        def test_allowed():
            with socket.socket(type=socket.SOCK_DGRAM) as one:
                one.close()

        def test_unguarded(): pass
        """,
    )
    result.assert_outcomes(passed=3, failed=3)
    result.stdout.fnmatch_lines(
        [
            "NetworkExceeded: 1 attempt to connect to 192.0.2.1:443, limit 0",
            "  where  test_a_fetch*.py:8 in fetch:",
            "*network  *::test_silent: no attempt to reach the network, limit 0",
            "FAILED *::test_marker - Network*",
        ]
    )
    result.stdout.no_fnmatch_line("*traceback entries are hidden*")


def test_a_test_is_taken_out_by_its_marker(guard):
    """A marker with `background_fetch=True` frees its test from the guard of the project.

    No other test is charged with its access.
    """
    result = guard(
        """
        @pytest.mark.streamperf(background_fetch=True)
        def test_may(): fetch()

        def test_may_not(): fetch()
        """,
        settings="[tool.streamperf]\nbackground_fetch = false\n",
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED *::test_may_not *"])


def test_a_test_may_ask_for_its_guard_in_its_body(guard):
    """A test that requests `no_background_fetch` in its body is guarded from then on.

    It may be the first test that requests the guard.
    """
    result = guard(
        """
        import asyncio

        def test_fixture(request):
            guard = request.getfixturevalue("no_background_fetch")
            fetch()
            assert len(guard.attempts) == 1

        def test_later(request):
            request.getfixturevalue("no_background_fetch")
            fetch()

        def test_on_a_loop(request):
            async def main():
                request.getfixturevalue("no_background_fetch")
                await asyncio.to_thread(fetch)

            asyncio.run(main())

        def test_silent(request): request.getfixturevalue("no_background_fetch")

        def test_unguarded(): pass
        """,
        settings="[tool.streamperf]\nblock_network = true\n",
    )
    result.assert_outcomes(passed=2, failed=3)
    assert result.stdout.str().count("\nNetworkExceeded: 1 attempt") == 3
    result.stdout.fnmatch_lines(["*network  *::test_silent: no attempt *"])


def test_a_failure_of_its_own_wins(guard):
    """A guarded test that fails by itself keeps its failure; the summary has its attempts.

    An expected failure (xfail) counts as a failure. A skip does not, so an attempt of a skipped
    test is an error at its teardown.
    """
    result = guard(
        """
        @guarded
        def test_fails():
            fetch()
            assert False, "of its own"

        @guarded
        def test_skips():
            fetch()
            pytest.skip("no")

        @guarded
        class TestOld(unittest.TestCase):
            def test_skips(self):
                fetch()
                self.skipTest("no")

            def test_fails(self):
                fetch()
                self.fail("of its own")

        @guarded
        @pytest.mark.xfail(strict=True)
        def test_expected():
            fetch()
            assert False
        """,
        "-rN",
    )
    result.assert_outcomes(failed=2, skipped=2, xfailed=1, errors=2)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_skips*", "E*of its own*"])
    assert result.stdout.str().count("\nNetworkExceeded") == 2
    assert result.stdout.str().count(": 1 attempt to connect to 192.0.2.1:443") == 7


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_what_comes_late_is_an_error_of_the_test_that_started_it(guard, workers):
    """An attempt after the end of a test is an error of the test that started it, also on xdist.

    Here attempts come in a teardown, and from threads that wait until the end of the session.
    """
    result = guard(
        """
        @pytest.fixture
        def torn_down():
            yield
            fetch(1)

        @guarded
        def test_teardown(torn_down): pass

        @guarded
        def test_starts():
            threading.Thread(target=late, args=(2,), daemon=True).start()
            threading.Thread(target=late, args=(3,), daemon=True).start()

        @pytest.fixture(scope="session", autouse=True)
        def wide():
            yield
            release.set()
            for thread in threading.enumerate():
                if "late" in thread.name:
                    thread.join()
        """,
        *workers,
    )
    result.assert_outcomes(passed=2, errors=2)
    assert result.ret == 1
    printed = result.stdout.str()
    assert "_ ERROR at teardown of test_teardown _" in printed
    assert "test_starts _" in printed
    assert "NetworkExceeded: 2 attempts to connect to 192.0.2.1:" in printed


def test_at_exit(guard):
    """An attempt after the session, in an exit handler, is printed, and the exit status is 1."""
    result = guard(
        """
        import atexit

        @guarded
        def test_starts():
            atexit.register(fetch)
            atexit.register(fetch, 1)
            atexit.unregister(fetch)
            atexit.register(fetch, 2)
        """,
    )
    result.assert_outcomes(passed=1)
    assert result.ret == 1
    result.stderr.fnmatch_lines(
        ["test_at_exit.py::test_starts: 1 attempt to connect to 192.0.2.1:2, limit 0"]
    )


def test_a_project_is_guarded_by_a_line_of_settings(guard):
    """The setting `background_fetch = false` guards imports, shared fixtures and tests.

    An attempt that no test started is an error of `<startup>` or `<session>`.
    """
    result = guard(
        """
        fetch(1)

        @pytest.fixture(scope="module")
        def shared():
            fetch(2)

        def test_one(shared): fetch(3)
        def test_two(shared): pass
        """,
        settings=GUARD_THE_RUN,
    )
    result.assert_outcomes(passed=1, failed=1, errors=2)
    result.stdout.fnmatch_lines(
        [
            "streamperf: background_fetch=False, block_network=True, *",
            "*ERROR at teardown of <startup>*",
            "NetworkExceeded: 1 attempt to connect to 192.0.2.1:1, limit 0",
            "*ERROR at teardown of <session>*",
            "NetworkExceeded: 1 attempt to connect to 192.0.2.1:2, limit 0",
        ]
    )


def test_a_project_that_warns(guard):
    """`mode = "warn"` reports every network access, and nothing fails."""
    result = guard(
        """
        fetch(1)
        def test_one(): fetch(3)
        """,
        "-W",
        "default",
        settings=GUARD_THE_RUN + 'mode = "warn"\n',
    )
    result.assert_outcomes(passed=1, warnings=1)
    assert result.ret == 0
    assert result.stdout.str().count("(a warning)") == 2


def test_an_unknown_marker_keyword(guard):
    """An unknown keyword of the marker is an error that names it and lists the allowed ones."""
    result = guard(
        """
        @pytest.mark.streamperf(backgroundfetch=False)
        def test_it(): pass
        """,
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["marker, *.py:*: there is no budget 'backgroundfetch'; there are max_superlinear, *"]
    )


def test_a_workers_native_code_is_inconclusive_too(pytester, guard):
    """Native networking code in a worker of xdist makes the guard of the run inconclusive.

    The controller reports it, but only the worker has loaded the code.
    """
    pytester.makeconftest(
        """
        import os, socket
        from pytest_streamperf.network import native_libraries

        if "PYTEST_XDIST_WORKER" in os.environ:
            native_libraries._HARMLESS = ()
        """
    )
    result = guard("def test_it(): pass", "-n", "1", settings=GUARD_THE_RUN)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["NetworkInconclusive: native code that may reach the network is loaded"]
    )


def test_nothing_is_hooked_where_nothing_is_guarded(pytester, run_alone):
    """A run without a guard installs no audit hook, because such a hook cannot be removed."""
    pytester.makepyfile(
        """
        import sys, threading

        def test_it():
            assert "pytest_streamperf.network" not in sys.modules
            assert threading.Thread.start.__module__ == "threading"
        """
    )
    run_alone("-p", "streamperf").assert_outcomes(passed=1)


def test_a_gate_by_its_fixture(pytester, run_alone):
    """The fixture `assert_fetch_is_gated` checks a gate as the function of the same name does."""
    pytester.makepyfile(
        """
        def test_it(assert_fetch_is_gated):
            assert_fetch_is_gated("import os, urllib.request as r\\n"
                "if 'PYTEST_VERSION' not in os.environ: r.urlopen('http://192.0.2.1')")
        """
    )
    run_alone().assert_outcomes(passed=1)


# -- checks that take long

# A check that shows its progress at once, as only a check of some seconds does otherwise.
PROGRESS_TEST = f"""
from pytest_streamperf.growth import consumers, thresholds
consumers.THRESHOLDS = thresholds.Thresholds(quiet_seconds=0.0, progress_interval_seconds=0.0)
{LINEAR_TEST}
"""


def test_a_long_check_says_where_it_is(pytester, monkeypatch):
    """A long check shows on a terminal how many deltas it has fed so far."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(PROGRESS_TEST)
    reading_end, writing_end = pty.openpty()
    command = [sys.executable, "-m", "pytest", "-p", "streamperf"]
    with os.fdopen(reading_end, "rb", buffering=0) as terminal:
        run = subprocess.Popen(command, stdout=writing_end, stderr=writing_end, cwd=pytester.path)
        os.close(writing_end)
        shown = b""
        with run, contextlib.suppress(OSError):  # Linux ends a terminal's output with it
            while chunk := terminal.read(4096):
                shown += chunk
    lines = re.split("[\r\n]+", shown.decode())
    assert any(line.startswith("growth: ") and "deltas" in line for line in lines)
    assert any("1 passed" in line for line in lines)
    assert run.returncode == 0


def test_where_there_is_no_terminal_nothing_is_said_meanwhile(pytester, run_alone):
    """A long check shows no progress where there is no terminal, as in CI."""
    pytester.makepyfile(PROGRESS_TEST)
    run_alone().stdout.no_fnmatch_line("*now * deltas*")
