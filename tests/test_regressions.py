"""The matrix of checks and regressions: whole, and nothing in it unexplained.

That each regression is caught by its own check, and the healthy server by none, is in test_walk.py.
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
    """The matrix that is committed: what is in each cell, by regression and check."""
    lines = COMMITTED.read_text(encoding="utf-8").splitlines()
    head, _, *rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("|")
    ]
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def test_the_committed_matrix_is_whole():
    """`python -m benchmarks.checks > docs/regressions.md` writes it: a cell for each pair."""
    assert list(matrix()) == ["none", *REGRESSIONS]
    assert all(list(row) == list(CHECKS) for row in matrix().values())


def test_the_committed_matrix_has_nothing_unexplained():
    """Each regression is caught by its own check; what else is tripped is justified."""
    for name, row in matrix().items():
        tripped = {check: cell for check, cell in row.items() if cell}
        own = {REGRESSIONS[name].check: "**x**"} if name in REGRESSIONS else {}
        others = {check: "o" for regression, check in OVERLAPS if regression == name}
        assert tripped == own | others


def test_what_is_inconclusive_is_not_caught(monkeypatch):
    """An inconclusive check is neither a failure nor a pass: `failure_of` raises its exception."""
    busy = Verdict(stem="growth", verdict="inconclusive", headline="busy")
    monkeypatch.setattr(
        checks, "CHECKS", {"assert_linear": Mock(side_effect=GrowthInconclusive(busy))}
    )
    with pytest.raises(GrowthInconclusive, match="busy"):
        checks.failure_of("assert_linear", "quadratic-accumulator")
