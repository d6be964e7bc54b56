"""One walk through everything: each command of docs/walk.md is run, and prints what it says."""

import itertools
import re
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT, run
from unittest.mock import Mock

import pytest

from examples import demo, walk
from pytest_streamperf import NothingMeasured
from pytest_streamperf._results.verdict import Verdict
from reference_impl import REGRESSIONS
from tests.matrix.checks import CHECKS

ROOT = Path(demo.HERE.parent)
# From the command of a system: its section, and what is said to be printed.
SECTIONS = {
    found[2]: (found[1], found[3].splitlines())
    for found in re.finditer(
        r"^## [^\n]+\n((?:(?!^## ).)*?)^```console\npython -m examples\.walk ([\w-]+)\n```\n\n"
        r"^```text\n(.*?)^```$",
        (ROOT / "docs" / "walk.md").read_text(encoding="utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )
}


TIMED = {"accumulator", "splines", "heap"}


def goes_as_it_is_told(system):
    """In a process of its own, as the reader runs it.

    This one holds all tests: to list that takes as long as it may, and what a server keeps is
    little beside it.
    """
    ran = run(
        [sys.executable, "-m", "examples.walk", system],
        cwd=ROOT,
        stdout=PIPE,
        stderr=STDOUT,
        text=True,
        check=False,
    )
    assert list(demo.differences(SECTIONS[system][1], ran.stdout)) == []
    assert ran.returncode == 0


@pytest.mark.parametrize("system", [each for each in walk.SYSTEMS if each not in TIMED])
def test_a_system_goes_as_it_is_told(system):
    """The healthy server passes each check, and each regression is caught by its own."""
    goes_as_it_is_told(system)


@pytest.mark.alone
@pytest.mark.parametrize("system", sorted(TIMED))
def test_a_system_that_is_timed(system):
    """So it does where time tells."""
    goes_as_it_is_told(system)


def test_every_system_is_told():
    """In the order of the walk, on a page whose every command is one of its."""
    assert list(SECTIONS) == list(walk.SYSTEMS)
    commands = (ROOT / "docs" / "walk.md").read_text(encoding="utf-8").count("```console\n")
    assert commands == len(SECTIONS)


def test_every_regression_is_on_the_way():
    """Each once, and with them every check."""
    assert sorted(itertools.chain(*walk.SYSTEMS.values())) == sorted(REGRESSIONS)
    assert {check for system in walk.SYSTEMS for check, _ in walk.runs(system)} == set(CHECKS)


@pytest.mark.parametrize("system", walk.SYSTEMS)
def test_a_system_is_found(system):
    """Its section names the files and the names that are replaced, and the checks."""
    section, _ = SECTIONS[system]
    for name in walk.SYSTEMS[system]:
        module, _, attribute = REGRESSIONS[name].target.partition(":")
        assert f"`{module.replace('.', '/')}.py`" in section
        assert f"`{attribute}`" in section
        assert f"`{REGRESSIONS[name].check}`" in section


def test_a_check_that_goes_otherwise_is_told(monkeypatch, capsys):
    """A healthy server that is red, and a regression that is green: the exit status is 1."""
    monkeypatch.setattr(walk, "failure_of", lambda _, *names: "" if names else "it is not")
    assert walk.main(["accumulator"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "red    assert_linear",
        "       assert_linear: it is not",
        "green  quadratic-accumulator",
        f"       {REGRESSIONS['quadratic-accumulator'].story}",
    ]


def test_a_check_that_cannot_tell_is_unseen(monkeypatch, capsys):
    """It is neither red nor green, and what comes after it is run: the exit status is 1."""
    alone = Verdict(stem="server", verdict="inconclusive", headline="python is alone")
    monkeypatch.setattr(walk, "failure_of", Mock(side_effect=NothingMeasured(alone)))
    assert walk.main(["accumulator"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "unseen assert_linear",
        "       assert_linear: python is alone",
        "unseen quadratic-accumulator",
        f"       {REGRESSIONS['quadratic-accumulator'].story}",
        "       assert_linear: python is alone",
    ]


def test_a_system_that_there_is_not_is_refused(capsys):
    """By a message that names those that there are."""
    with pytest.raises(SystemExit):
        walk.main(["weather"])
    assert "no system weather, allowed: accumulator, " in capsys.readouterr().err
