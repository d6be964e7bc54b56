"""The document that `--streamperf-json` writes: every verdict of a run, exactly once.

The document has the same checks with and without xdist. A run that crashes, stops early or is
cancelled writes the verdicts that it has, and is not complete.
"""

import signal
import subprocess
import sys

import pytest

from pytest_streamperf._plugin.xdist import without_group
from pytest_streamperf._report.document import read

TESTS = """
import os
import pytest
from pytest_streamperf import FetchGuard, StallWatch, TokenStream, UpdateCounter

def consume(stream):
    return "".join([delta for delta in stream])

@pytest.mark.parametrize("n", range(4))
def test_growth(assert_linear, n):
    assert_linear(consume, up_to=640, metrics=("calls",))

def test_two(assert_linear):
    assert_linear(consume, up_to=640, metrics=("calls",))
    assert_linear(consume, up_to=1_280, metrics=("calls",))

def test_responsiveness(virtual_clock):
    stream = TokenStream(tokens=3, every=0.3)
    with StallWatch(of=stream) as watch:
        "".join(stream)
    watch.assert_smooth(max_gap=0.2)

@pytest.fixture
def guarded():
    yield
    with FetchGuard():
        pass

def test_network(guarded): pass

def test_nothing(): pass
"""


@pytest.fixture
def written(pytester, run_alone):
    """Return a function that runs tests with `--streamperf-json` and returns the document."""

    def run(*options, tests=TESTS):
        pytester.makepyfile(test_it=tests)
        run_alone("--streamperf-json", "out/run.json", *options)
        return read(pytester.path / "out" / "run.json")

    return run


def _machine_independent(document):
    """Return the fields of each check that are the same on every machine, and with xdist."""
    keys = ("test", "stem", "number", "verdict", "accepted", "headline", "given", "counts")
    return [{key: check[key] for key in keys} for check in document["checks"]]


def test_all_that_was_measured_is_written(written):
    """The document has each check, numbered within its test, and counts tests without checks."""
    document = written()
    assert document["complete"]
    assert document["tests"] == 8
    assert [(c["test"], c["stem"], c["number"], c["verdict"]) for c in document["checks"]] == [
        *((f"test_it.py::test_growth[{n}]", "growth", 1, "within") for n in range(4)),
        ("test_it.py::test_network", "network", 1, "within"),
        ("test_it.py::test_responsiveness", "responsiveness", 1, "exceeded"),
        ("test_it.py::test_two", "growth", 1, "within"),
        ("test_it.py::test_two", "growth", 2, "within"),
    ]


def test_figures_and_rows_are_those_of_the_check(written):
    """The document has the figures, the limits, the series and the message of a check.

    In virtual time the figures are the same in every run.
    """
    (result,) = (check for check in written()["checks"] if check["stem"] == "responsiveness")
    assert result["given"] == {"messages": 3}
    assert result["seconds"]["longest gap"] == pytest.approx(0.3)
    assert result["limits"] == {"longest gap": 0.2}
    assert [row[1] for row in result["series"]["gaps"]] == pytest.approx([0.3, 0.3])
    assert result["headline"] == "300 ms passed between two messages, limit 200 ms"
    assert result["details"][1] == "  means  the text stops, and then a block appears at once"


@pytest.mark.parametrize("dist", ["load", "loadgroup"])
def test_workers_are_merged(written, dist):
    """A run on workers writes the same checks, with the same test names, as a run without."""
    assert _machine_independent(written("-n", "2", "--dist", dist)) == _machine_independent(
        written()
    )


def test_a_worker_that_crashes_takes_one_test_along(written):
    """The document names the test of a worker that crashed, and has all other checks."""
    document = written("-n", "2", tests=f"{TESTS}\ndef test_crash(): os._exit(1)\n")
    assert document["lost"] == ["test_it.py::test_crash"]
    assert not document["complete"]
    assert len(document["checks"]) == 8


@pytest.mark.parametrize(
    ("option", "complete"), [("-k=growth", True), ("-x", False), ("--maxfail=1", False)]
)
def test_a_run_that_stopped_early_is_not_complete(written, option, complete):
    """A run that stopped at a failure is not complete; a run of selected tests is."""
    assert written(option)["complete"] is complete


@pytest.fixture
def interrupted(pytester, monkeypatch):
    """Return a function that interrupts a run, and returns the document that the run wrote.

    Each keyword is a word that the tests print, and its value the signal that is sent at that word.
    """
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(tests, **signals):
        pytester.makepyfile(test_it=tests)
        options = ["-p", "streamperf", "-s", "--streamperf-json=run.json"]
        command = [sys.executable, "-m", "pytest", *options]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            cwd=pytester.path,
            # A job in the background of a shell ignores SIGINT, and its children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
        )
        with process:
            for word, signal_number in signals.items():
                while word not in process.stdout.readline():
                    assert process.poll() is None
                process.send_signal(signal_number)
            process.stdout.read()
        return read(pytester.path / "run.json")

    return run


# A test that prints "here" and waits for a signal.
WAITING_TEST = (
    "\ndef test_waits():\n    print('here', flush=True)\n    __import__('time').sleep(60)\n"
)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_writes_what_it_had(interrupted, signal_number):
    """A run that SIGINT or SIGTERM interrupts during a test writes the checks that it has."""
    document = interrupted(TESTS + WAITING_TEST, here=signal_number)
    assert not document["complete"]
    assert len(document["checks"]) == 8


def test_a_run_that_is_told_to_end_twice_writes_what_it_had(interrupted):
    """A run that gets SIGTERM while it ends after SIGINT writes the checks that it has.

    A cancelled CI job gets both signals, one soon after the other.
    """
    slow = """
import time
import pytest

@pytest.fixture(scope="session", autouse=True)
def slow():
    yield
    print("leaving", flush=True)
    time.sleep(60)

def test_it(assert_linear):
    assert_linear("".join, up_to=640, metrics=("calls",))
"""
    document = interrupted(slow + WAITING_TEST, here=signal.SIGINT, leaving=signal.SIGTERM)
    assert len(document["checks"]) == 1


def test_a_child_that_is_forked_ends_as_it_would_without(pytester, run_alone):
    """A forked child dies of SIGTERM: it does not inherit the signal handler of the run."""
    forks = """
import multiprocessing, time

def test_child():
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join()
    assert child.exitcode == -15
"""
    pytester.makepyfile(test_it=forks)
    run_alone("--streamperf-json", "run.json").assert_outcomes(passed=1)


def test_an_exit_is_no_end_whatever_status_it_gives(written):
    """A run that `pytest.exit` ends is not complete, even with exit status 0."""
    leaving = "def test_leaves():\n    pytest.exit('enough', returncode=0)\n"
    assert not written(tests=f"import pytest\n{leaving}")["complete"]


def test_a_test_that_runs_again_has_the_properties_of_its_last_run(pytester, run_alone):
    """A test that runs again has the JUnit properties of its last run only.

    The conftest runs a test again in the way of pytest-rerunfailures.
    """
    pytester.makeconftest(
        """
        from _pytest.runner import runtestprotocol
        def pytest_runtest_protocol(item, nextitem):
            runtestprotocol(item, nextitem=None, log=False)
        """
    )
    pytester.makepyfile(test_it=TESTS)
    run_alone("--junitxml=junit.xml", "-k", "responsiveness")
    assert (pytester.path / "junit.xml").read_text().count('"streamperf.responsiveness"') == 1


def test_what_cannot_be_written_is_said(pytester, run_alone):
    """A document that cannot be written is reported, and the run ends with a usage error."""
    pytester.makepyfile("def test_it(): pass")
    pytester.makefile("", file="")
    result = run_alone("--streamperf-json", "file/run.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["streamperf: there is no report: *"])


def test_it_is_told_where_it_is(pytester, run_alone):
    """The run prints the number of checks and the path of the document in one line."""
    pytester.makepyfile("def test_it(): pass")
    result = run_alone("--streamperf-json=run.json")
    result.stdout.fnmatch_lines([f"streamperf: 0 checks in {pytester.path / 'run.json'}"])


def test_a_run_that_only_collects_writes_nothing(pytester, run_alone):
    """A run with `--collect-only` keeps the document of an earlier run."""
    pytester.makefile(".json", run="kept")
    run_alone("--streamperf-json", "run.json", "--collect-only")
    assert (pytester.path / "run.json").read_text() == "kept"


def test_nothing_measured_is_not_accepted(pytester, written):
    """A check that measured nothing is not accepted, even with `mode = "warn"`."""
    pytester.makefile(".toml", pyproject="[tool.streamperf]\nmode = 'warn'")
    (check,) = written(tests="def test_it(assert_linear): assert_linear(lambda stream: None)")[
        "checks"
    ]
    assert (check["verdict"], check["accepted"]) == ("inconclusive", False)


def test_the_commit_is_written(pytester, written):
    """The document has the commit and whether files differ from it; None outside a repository."""
    assert written()["commit"] is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "test_it.py"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], cwd=pytester.path, check=True)
    clean = written()["commit"]
    assert (len(clean["id"]), clean["dirty"]) == (40, False)
    assert written(tests=f"{TESTS}\n# changed")["commit"] == {"id": clean["id"], "dirty": True}


def test_timed_tests_are_put_into_a_group(pytester, run_alone):
    """Tests that measure time share one group under `--dist loadgroup`, or keep their own.

    Other tests have no group. pytest-xdist decides what a group does: xdist 3.8 ignores groups with
    pytest 9.2.
    """
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def group(request):
            mark = request.node.get_closest_marker("xdist_group")
            return mark and mark.args[0]

        def test_fixture(group, assert_linear): assert group == "streamperf"

        @pytest.mark.streamperf(max_gc_pause="10s")
        def test_budget(group): assert group == "streamperf"

        @pytest.mark.xdist_group("mine")
        def test_own(group, assert_linear): assert group == "mine"

        @pytest.mark.streamperf(background_fetch=True)
        def test_untimed(group): assert group is None
        """
    )
    run_alone("-n", "2", "--dist", "loadgroup").assert_outcomes(passed=4)


def test_a_group_is_no_part_of_a_name():
    """`without_group` removes the group from the name of a test, and keeps any other at sign."""
    assert without_group("test_it.py::test_one@streamperf") == "test_it.py::test_one"
    assert without_group("test_it.py::test_one[a@b]") == "test_it.py::test_one[a@b]"
    assert without_group("@one/test_it.py::test_one") == "@one/test_it.py::test_one"
