"""Every number that decides a growth check stands in `thresholds.py`, with a reason.

`STRUCTURAL` lists the numeric constants of the other modules of `growth`. They decide no verdict.
"""

import ast
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from pytest_streamperf.growth import thresholds
from pytest_streamperf.growth.thresholds import THRESHOLDS, Thresholds

# The folder of the package `growth`.
GROWTH = Path(thresholds.__file__).parent
# Constants that decide no verdict and tune no check: the reason by module and name.
STRUCTURAL = {
    ("metered_stream.py", "BLOCKS"): "the format of a run's record: six octaves lie on its edges",
    ("message.py", "_MAX_TABLE_ROWS"): "the layout of a message",
    ("chunking_invariance.py", "_CONTEXT_LENGTH"): "the layout of a message",
    ("chunking_invariance.py", "_MAX_SHOWN_CUTS"): "the layout of a message",
    ("chunking_invariance.py", "_CUTS"): "the inputs that are tried, not a limit",
    ("estimation.py", "NO_EXCESS"): "zero, by its meaning",
    ("scheduler.py", "_TO_THE_END"): "the whole of the maximum length, by its meaning",
    ("blame.py", "_OWN"): "an index into a name",
    ("blame.py", "_NO_GROWTH_IN_PLACE"): "a version of Python, whose behaviour it names",
}


@pytest.mark.parametrize("field", fields(Thresholds), ids=lambda field: field.name)
def test_each_threshold_has_a_reason(field):
    """Every threshold has a default value, and a text that gives the reason for this value."""
    reason = field.metadata.get("reason", "")
    assert field.default is not MISSING
    assert len(reason.split()) >= 8, field.name
    assert reason.endswith(".") or ". " in reason or "not measured" in reason, field.name


def test_no_two_thresholds_share_a_reason():
    """No two thresholds have the same reason, because a copied reason explains nothing."""
    reasons = [field.metadata["reason"] for field in fields(Thresholds)]
    assert len(set(reasons)) == len(reasons)


def test_each_threshold_is_used():
    """Every threshold is read by at least one other module of the package `growth`."""
    code = "".join(
        file.read_text(encoding="utf-8")
        for file in GROWTH.glob("*.py")
        if file.name != "thresholds.py"
    )
    aliases = code.replace("least.", "THRESHOLDS.")  # `timed_verdict` has an alias
    unused = [
        field.name for field in fields(Thresholds) if f"THRESHOLDS.{field.name}" not in aliases
    ]
    assert unused == []


def test_thresholds_cannot_be_changed():
    """An assignment to a threshold raises `AttributeError`, so that no check can change it."""
    with pytest.raises(AttributeError):
        THRESHOLDS.runs_to_fail = 1


def _names_of_numbers(tree):
    """Yield the names that a module binds to literal numbers at its top level."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        literals = (part.value for part in ast.walk(value) if isinstance(part, ast.Constant))
        if any(type(literal) in {int, float} for literal in literals):
            yield from (
                name.id
                for target in targets
                for name in ast.walk(target)
                if isinstance(name, ast.Name)
            )


def test_no_other_module_has_a_numeric_constant():
    """Every numeric constant in `growth` is a threshold, or `STRUCTURAL` has a reason for it."""
    constants = {
        (file.name, name)
        for file in GROWTH.glob("*.py")
        if file.name != "thresholds.py"
        for name in _names_of_numbers(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert constants == set(STRUCTURAL)
