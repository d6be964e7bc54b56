"""The lessons in examples/: good tests pass, and bad tests fail with the committed message.

`expected.txt` of a lesson has the message. There `<20..30>%` stands for any figure in that range.
"""

import os
import subprocess

import pytest

from examples import demo

LESSONS = sorted(demo.HERE.glob("[0-9][0-9]_*"))


@pytest.fixture(scope="module")
def outcomes(request, tmp_path_factory):
    """Run all lessons as `make demo` does, and return the path of the JUnit log."""
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
    """The good tests of a lesson pass, and its bad tests fail with the expected messages."""
    assert list(demo.surprises(outcomes, [lesson])) == []


def test_every_lesson_is_complete():
    """Every lesson has a good test file, a bad test file and an `expected.txt`."""
    assert LESSONS
    for lesson in LESSONS:
        stem = lesson.name.partition("_")[2]
        names = {file.name for file in lesson.iterdir() if file.is_file()}
        assert {f"test_{stem}_good.py", f"test_{stem}_bad.py", "expected.txt"} <= names


# A line of an `expected.txt` with two ranges.
EXPECTED = ["GrowthExceeded: <0.001..0.003 s>,   limit <20..30>%"]


@pytest.mark.parametrize(
    "printed",
    [
        "E   GrowthExceeded: 2.5 ms, limit 25%",
        "def test():\nE       GrowthExceeded: 1 ms, limit 25%\n\nfile.py:3: GrowthExceeded",
    ],
)
def test_figures_float_within_their_range(printed):
    """A figure within the expected range is no difference, and the number of spaces is none."""
    assert list(demo.differences(EXPECTED, printed)) == []


@pytest.mark.parametrize("printed", ["E   900 kB", "E   1.5 MB", "E   0.5 GB"])
def test_sizes_float_in_any_unit(printed):
    """A size within a range in MB is no difference, whether it is printed in kB, MB or GB."""
    assert list(demo.differences(["<0.9..500 MB>"], printed)) == []


@pytest.mark.parametrize("printed", ["E   899 kB", "E   900 MB", "E   1.5 ms", "E   100"])
def test_other_sizes_are_a_difference(printed):
    """A size outside the expected range, or a figure that is no size, is a difference."""
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
    """A figure outside its range, another unit or limit, and an extra or missing line differ."""
    assert list(demo.differences(EXPECTED, printed))
