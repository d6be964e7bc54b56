"""The lessons and small tests, run where other people's plugins are installed and active.

`make test-neighbours` runs this file in an environment that has all of them: see
docs/neighbours.md.
"""

import json
import os
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from examples import demo

LESSONS = sorted(demo.HERE.glob("[0-9][0-9]_*"))
# Options of plugins that must not change any outcome.
NEIGHBOUR_OPTIONS = {
    "blocked and timed out": (
        *("--disable-socket", "--allow-hosts=127.0.0.1", "--timeout=60", "-p", "no:randomly"),
    ),
    "shuffled over workers": ("--randomly-seed=7", "-n", "2"),
}
# Options of plugins that slow code down.
SLOWING_OPTIONS = {
    "memray": ("--memray", "-p", "no:randomly"),
    "coverage": ("--cov=reference_impl", "--cov=examples", "--cov-report=", "-p", "no:randomly"),
}
# The head of each file of small tests: a quadratic consumer and a linear one.
CONSUMERS = """
import pytest
from pytest_streamperf import assert_linear

class Reply:
    text = ""

    def feed(self, delta):
        self.text += delta

def copies(stream):
    reply = Reply()
    for delta in stream:
        reply.feed(delta)

def joins(stream):
    return "".join(list(stream))
"""


@pytest.fixture(autouse=True)
def _without_outer_options(monkeypatch):
    """Remove the options of the outer pytest run, so that the inner runs load every plugin."""
    for name in ("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        monkeypatch.delenv(name, raising=False)


def outcomes(folder, options):
    """Run all lessons with these options, and return the path of the JUnit log."""
    log = folder / "outcomes.xml"
    pytest_run = subprocess.run(
        [*demo.command(log, LESSONS), *options],
        cwd=demo.HERE.parent,
        env={**os.environ, "COLUMNS": "200", "COVERAGE_FILE": str(folder / "coverage")},
        check=False,
        capture_output=True,
        text=True,
    )
    # The bad tests fail, so the exit status is 1; a crash of pytest has a negative status.
    ended_in_order = pytest_run.returncode == pytest.ExitCode.TESTS_FAILED
    assert ended_in_order, f"{pytest_run.returncode}\n{pytest_run.stdout}\n{pytest_run.stderr}"
    return log


@pytest.mark.parametrize("options", NEIGHBOUR_OPTIONS.values(), ids=NEIGHBOUR_OPTIONS)
def test_the_lessons_go_as_they_say(options, tmp_path):
    """Good tests of the lessons pass beside other plugins, and bad ones fail as expected."""
    assert list(demo.surprises(outcomes(tmp_path, options), LESSONS)) == []


def stem(message):
    """Return the stem of the exception in a message: "Growth" of "GrowthExceeded: ..."."""
    return re.sub("(Exceeded|Inconclusive)$", "", message.partition(":")[0])


@pytest.mark.parametrize("options", SLOWING_OPTIONS.values(), ids=SLOWING_OPTIONS)
def test_what_slows_code_down_turns_nothing_round(options, tmp_path):
    """The same tests of the lessons fail by the same checks where a plugin slows code down.

    A check may be inconclusive instead of exceeded, and its stream may be shorter.
    """
    failed = {
        f"{case.get('classname')}.{case.get('name')}": stem(part.get("message"))
        for case in ET.parse(outcomes(tmp_path, options)).iter("testcase")  # noqa: S314 - ours
        for part in case
        if part.tag in {"failure", "error"}
    }
    expected = {
        test: stem(lines[0]) for lesson in LESSONS for test, lines in demo._expectations(lesson)
    }
    assert failed == expected


def run(pytester, tests, *options):
    """Run small tests in the order of their file, with all plugins, and return the result."""
    pytester.makepyfile(CONSUMERS + tests)
    quiet = ("-p", "no:cacheprovider", "-p", "no:randomly", "-o", "asyncio_mode=strict")
    return pytester.runpytest_subprocess(*quiet, *options)


def document(pytester):
    """Return the report that a run wrote to `out.json`."""
    return json.loads(Path(pytester.path, "out.json").read_text(encoding="utf-8"))


# A test that fails at first: run 1 checks `first`, later runs `then`; the teardown of run number
# `fails` fails.
RERUN_TEST = """
runs = []

@pytest.fixture
def torn_down():
    yield
    assert len(runs) != {fails}

def test_again(torn_down):
    runs.append(1)
    assert_linear({first} if len(runs) == 1 else {then}, up_to=1_000)
"""


@pytest.mark.parametrize(
    ("first", "then", "fails", "verdict"),
    [
        ("copies", "joins", 0, "within"),
        ("copies", "copies", 0, "exceeded"),
        ("joins", "joins", 1, "within"),
    ],
    ids=["then green", "red again", "red after it"],
)
def test_of_a_test_that_is_run_again_the_last_run_is_told(first, then, fails, verdict, pytester):
    """The last run of a test that runs again is reported, and no run before it.

    The terminal and the report have one verdict. The JUnit log has each run by itself.
    """
    logs = ("--reruns", "1", "--junitxml=out.xml", "--streamperf-json=out.json")
    result = run(pytester, RERUN_TEST.format(first=first, then=then, fails=fails), *logs)
    result.stdout.fnmatch_lines(["*1 rerun*"])
    assert [check["verdict"] for check in document(pytester)["checks"]] == [verdict]
    assert len(re.findall("growth  .*::test_again", result.stdout.str())) == 1
    log = ET.parse(pytester.path / "out.xml")  # noqa: S314 - ours
    properties = [*log.iter("testcase")][-1].findall(".//property[@name='streamperf.growth']")
    assert [entry.get("value").partition(":")[0] for entry in properties] == [verdict]


# A test with the marker of a benchmark and a failing check, and a benchmark with a passing one.
BENCHMARK_TESTS = """
@pytest.mark.benchmark
def test_marked():
    assert_linear(copies, up_to=1_000)

def test_timed(benchmark):
    benchmark(sum, range(10))
    assert_linear(joins, up_to=1_000)
"""


@pytest.mark.parametrize("option", ["--benchmark-disable", "--benchmark-only", "--codspeed"])
def test_benchmarks_may_check_too(option, pytester):
    """A test with a benchmark can have a check too, and neither plugin disturbs the other."""
    result = run(pytester, BENCHMARK_TESTS, option)
    marked = 0 if option == "--benchmark-only" else 1
    result.assert_outcomes(passed=1, failed=marked, skipped=1 - marked)
    result.stdout.fnmatch_lines(["*growth  *::test_timed: *"])


def test_codspeed_leaves_out_what_is_no_benchmark(pytester):
    """CodSpeed deselects a test without a benchmark, so its check prints no section."""
    result = run(pytester, "def test_plain():\n    assert_linear(copies)\n", "--codspeed")
    result.assert_outcomes(deselected=1)
    result.stdout.no_fnmatch_line("*= streamperf =*")


def test_memray_knows_whose_memory_it_is_after_a_check(pytester):
    """Memray still finds the function that allocates memory after a check in the same test.

    The check counts calls with the hook that memray uses, and gives the hook back.
    """
    tests = """
def allocates():
    return bytearray(30_000_000)

def test_memory():
    assert_linear(joins, up_to=1_000)
    assert allocates()
"""
    result = run(pytester, tests, "--memray")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*- allocates:*"])


def test_memray_may_start_and_stop_while_threads_end(pytester):
    """Memray can start and stop beside a guard while threads end.

    The audit hooks of a guard run no Python code at `sys.setprofile`, where memray walks threads.
    """
    tests = """
import threading

@pytest.fixture(scope="module", autouse=True)
def short_lived_threads():
    over = threading.Event()

    def start_threads():
        while not over.is_set():
            thread = threading.Thread(target=sum, args=([1, 2],))
            thread.start()
            thread.join()

    starters = [threading.Thread(target=start_threads) for _ in range(3)]
    for thread in starters:
        thread.start()
    yield
    over.set()
    for thread in starters:
        thread.join()

def test_guarded(no_background_fetch):
    pass

@pytest.mark.parametrize("number", range(150))
def test_traced(number):
    pass
"""
    result = run(pytester, tests, "--memray")
    result.assert_outcomes(passed=151)


@pytest.mark.parametrize(
    ("options", "note"),
    [
        (["--memray"], "memray tracks memory: code is slower"),
        (["--cov=.", "--cov-report="], "coverage * code is slower"),
    ],
    ids=SLOWING_OPTIONS,
)
def test_who_slows_a_check_down_is_named(options, note, pytester):
    """A plugin that slows checks down is named once for the run, and in each check's report."""
    tests = "def test_it():\n    assert_linear(joins, up_to=1_000)\n"
    result = run(pytester, tests, *options, "--streamperf-json=out.json")
    result.stdout.fnmatch_lines([f"note: {note}"])
    (check,) = document(pytester)["checks"]
    assert fnmatch(check["facts"]["interference"], note)


def test_a_profiler_that_counts_calls_is_named(pytester):
    """A profiler that counts calls already is named, and the check leaves the calls to it."""
    tests = """
import cProfile

def test_it():
    with cProfile.Profile():
        assert_linear(joins, up_to=1_000, metrics=("allocated_bytes", "calls"))
"""
    result = run(pytester, tests)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["note: cProfile *: *code is slower"])


def test_a_guard_is_quiet_beside_memray(pytester):
    """A guard passes beside memray, although memray's plugin loads a libcurl in every run."""
    result = run(pytester, "def test_it(no_background_fetch):\n    pass\n")
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("attempt", "options", "target"),
    [
        (
            'socket.create_connection(("192.0.2.1", 80), timeout=1)',
            ("--disable-socket", "--allow-hosts=127.0.0.1"),
            "connect to 192.0.2.1:80",
        ),
        ('socket.getaddrinfo("a.example", 80)', ("--disable-socket",), "look up a.example"),
        ('socket.gethostbyname("a.example")', ("--disable-socket",), "look up a.example"),
        ("socket.socket()", ("--disable-socket",), "connect to an unknown host, by socket.socket"),
    ],
    ids=["a host", "a name", "an old name", "a socket"],
)
def test_a_guard_sees_what_pytest_socket_refuses(attempt, options, target, pytester):
    """A guard reports an attempt that pytest-socket refuses, even if the test hides the error."""
    tests = """
from contextlib import suppress
import socket

def test_swallowed(no_background_fetch):
    with suppress(Exception):
        {}

def test_silent(no_background_fetch):
    pass
"""
    result = run(pytester, tests.format(attempt), *options)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines([f"NetworkExceeded: 1 attempt to {target}, limit 0"])


def test_a_time_limit_stops_a_check(pytester):
    """pytest-timeout stops a check whose consumer waits for ever, and reports the timeout."""
    tests = """
import threading

def test_waits():
    assert_linear(lambda stream: threading.Event().wait(), timeout=60)
"""
    result = run(pytester, tests, "--timeout=1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Timeout*1.0s*"])
