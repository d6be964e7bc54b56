"""The matrix of checks and seeded regressions in docs/regressions.md is complete and explained.

A seeded regression is a fault that is put into the reference server on purpose. test_walk.py tests
that its own check catches it, and that all checks pass the healthy server.
"""

from pathlib import Path
from unittest.mock import Mock

import pytest

from pytest_streamperf import GrowthInconclusive
from pytest_streamperf._results.verdict import Verdict
from reference_impl import REGRESSIONS
from tests.matrix import checks
from tests.matrix.checks import CHECKS, OVERLAPS

COMMITTED = Path(__file__).parents[1] / "docs" / "regressions.md"


def matrix():
    """Return the cells of the committed matrix, by regression and check."""
    lines = COMMITTED.read_text(encoding="utf-8").splitlines()
    head, _, *rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("|")
    ]
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def test_the_committed_matrix_is_whole():
    """The committed matrix has a cell for each pair of a regression and a check.

    `python -m benchmarks.checks > docs/regressions.md` writes the matrix.
    """
    assert list(matrix()) == ["none", *REGRESSIONS]
    assert all(list(row) == list(CHECKS) for row in matrix().values())


def test_the_committed_matrix_has_nothing_unexplained():
    """The matrix has for each regression its own check, and others only as in `OVERLAPS`."""
    for name, row in matrix().items():
        tripped = {check: cell for check, cell in row.items() if cell}
        own = {REGRESSIONS[name].check: "**x**"} if name in REGRESSIONS else {}
        overlaps = {check: "o" for regression, check in OVERLAPS if regression == name}
        assert tripped == own | overlaps


def test_what_is_inconclusive_is_not_caught(monkeypatch):
    """An inconclusive check neither fails nor passes: `failure_of` raises its exception."""
    busy = Verdict(stem="growth", verdict="inconclusive", headline="busy")
    monkeypatch.setattr(
        checks, "CHECKS", {"assert_linear": Mock(side_effect=GrowthInconclusive(busy))}
    )
    with pytest.raises(GrowthInconclusive, match="busy"):
        checks.failure_of("assert_linear", "quadratic-accumulator")
