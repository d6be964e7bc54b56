"""The lessons: the good ones pass, the bad ones fail with the message that is committed."""

import os
import subprocess

import pytest

from examples import demo

LESSONS = sorted(demo.HERE.glob("[0-9][0-9]_*"))


@pytest.fixture(scope="module")
def outcomes(request, tmp_path_factory):
    """The log of all lessons, as `make demo` runs them."""
    log = tmp_path_factory.mktemp("lessons") / "outcomes.xml"
    subprocess.run(
        demo.command(log, LESSONS),
        cwd=request.config.rootpath,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
        capture_output=True,
    )
    return log


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_a_lesson_goes_as_it_says(lesson, outcomes):
    """Good tests pass, and bad ones fail with their messages."""
    assert list(demo.surprises(outcomes, [lesson])) == []


def test_every_lesson_is_complete():
    """A good one, a bad one, and the message."""
    assert LESSONS
    for lesson in LESSONS:
        stem = lesson.name.partition("_")[2]
        names = {file.name for file in lesson.iterdir() if file.is_file()}
        assert {f"test_{stem}_good.py", f"test_{stem}_bad.py", "expected.txt"} <= names


EXPECTED = ["GrowthExceeded: <0.001..0.003 s>,   limit <20..30>%"]


@pytest.mark.parametrize(
    "printed",
    [
        "E   GrowthExceeded: 2.5 ms, limit 25%",
        "def test():\nE       GrowthExceeded: 1 ms, limit 25%\n\nfile.py:3: GrowthExceeded",
    ],
)
def test_figures_float_within_their_range(printed):
    """And spaces do not count."""
    assert list(demo.differences(EXPECTED, printed)) == []


@pytest.mark.parametrize("printed", ["E   900 kB", "E   1.5 MB", "E   0.5 GB"])
def test_sizes_float_in_any_unit(printed):
    """From kilobytes on."""
    assert list(demo.differences(["<0.9..500 MB>"], printed)) == []


@pytest.mark.parametrize("printed", ["E   899 kB", "E   900 MB", "E   1.5 ms", "E   100"])
def test_other_sizes_are_a_difference(printed):
    """Too small, too large, or no size."""
    assert list(demo.differences(["<0.9..500 MB>"], printed))


@pytest.mark.parametrize(
    "printed",
    [
        "E   GrowthExceeded: 3.5 ms, limit 25%",
        "E   GrowthExceeded: 2.5 us, limit 25%",
        "E   GrowthExceeded: 2.5 kB, limit 25%",
        "E   GrowthExceeded: 2.5 ms, limit 31%",
        "E   GrowthExceeded: 2.5 ms, limit 25%\nE   more",
        "",
    ],
)
def test_anything_else_is_a_difference(printed):
    """A figure out of range, another unit, another word, a line more or less."""
    assert list(demo.differences(EXPECTED, printed))
