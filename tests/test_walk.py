"""The walk through all systems: each command in docs/walk.md prints the text that the page shows.

A system is one part of the reference server, with its checks and seeded regressions. The command
`python -m examples.walk SYSTEM` runs them.
"""

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
# For each system: the text of its section above the command, and the lines below it.
SECTIONS = {
    match[2]: (match[1], match[3].splitlines())
    for match in re.finditer(
        r"^## [^\n]+\n((?:(?!^## ).)*?)^```console\npython -m examples\.walk ([\w-]+)\n```\n\n"
        r"^```text\n(.*?)^```$",
        (ROOT / "docs" / "walk.md").read_text(encoding="utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )
}


# Systems whose checks measure time: other tests at the same time would disturb them.
TIMED = {"accumulator", "splines", "heap"}


def assert_prints_the_shown_text(system):
    """Run the command of a system, and assert that it prints the text in docs/walk.md.

    The command needs a process of its own. This process holds the whole suite: a heap snapshot
    would take too long, and the memory that a server keeps would be lost in it.
    """
    result = run(
        [sys.executable, "-m", "examples.walk", system],
        cwd=ROOT,
        stdout=PIPE,
        stderr=STDOUT,
        text=True,
        check=False,
    )
    assert list(demo.differences(SECTIONS[system][1], result.stdout)) == []
    assert result.returncode == 0


@pytest.mark.parametrize("system", [system for system in walk.SYSTEMS if system not in TIMED])
def test_a_system_goes_as_it_is_told(system):
    """A system's checks pass on the healthy server, and each catches its own regression."""
    assert_prints_the_shown_text(system)


@pytest.mark.alone
@pytest.mark.parametrize("system", sorted(TIMED))
def test_a_system_that_is_timed(system):
    """The walk prints the shown text for a system whose checks measure time, if it runs alone."""
    assert_prints_the_shown_text(system)


def test_every_system_is_told():
    """docs/walk.md has one section and command for each system, in the order of the walk."""
    assert list(SECTIONS) == list(walk.SYSTEMS)
    commands = (ROOT / "docs" / "walk.md").read_text(encoding="utf-8").count("```console\n")
    assert commands == len(SECTIONS)


def test_every_regression_is_on_the_way():
    """The walk includes every seeded regression exactly once, and every check."""
    assert sorted(itertools.chain(*walk.SYSTEMS.values())) == sorted(REGRESSIONS)
    assert {check for system in walk.SYSTEMS for check, _ in walk.runs(system)} == set(CHECKS)


@pytest.mark.parametrize("system", walk.SYSTEMS)
def test_a_system_is_found(system):
    """The section of a system names the files, replaced names and checks of its regressions."""
    section, _ = SECTIONS[system]
    for name in walk.SYSTEMS[system]:
        module, _, attribute = REGRESSIONS[name].target.partition(":")
        assert f"`{module.replace('.', '/')}.py`" in section
        assert f"`{attribute}`" in section
        assert f"`{REGRESSIONS[name].check}`" in section


def test_a_check_that_goes_otherwise_is_told(monkeypatch, capsys):
    """The exit status is 1 if a check fails on the healthy server, or passes a regression."""
    monkeypatch.setattr(walk, "failure_of", lambda _, *names: "" if names else "it is not")
    assert walk.main(["accumulator"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "red    assert_linear",
        "       assert_linear: it is not",
        "green  quadratic-accumulator",
        f"       {REGRESSIONS['quadratic-accumulator'].story}",
    ]


def test_a_check_that_cannot_tell_is_unseen(monkeypatch, capsys):
    """A check without a verdict is "unseen", the walk goes on, and the exit status is 1."""
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
    """An unknown system is refused with a message that lists the known systems."""
    with pytest.raises(SystemExit):
        walk.main(["weather"])
    assert "no system weather, allowed: accumulator, " in capsys.readouterr().err
