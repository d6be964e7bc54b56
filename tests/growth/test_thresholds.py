"""Every number that decides a growth check has one place and a reason."""

import ast
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from pytest_streamperf.growth import thresholds
from pytest_streamperf.growth.thresholds import THRESHOLDS, Thresholds

GROWTH = Path(thresholds.__file__).parent
# Numbers that decide no verdict and tune no check, by module and name, each with the reason.
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
    """A threshold has a default, and a sentence that says why it has this value."""
    reason = field.metadata.get("reason", "")
    assert field.default is not MISSING
    assert len(reason.split()) >= 8, field.name
    assert reason.endswith(".") or ". " in reason or "not measured" in reason, field.name


def test_no_two_thresholds_share_a_reason():
    """A reason belongs to one threshold: a copied one explains nothing."""
    reasons = [field.metadata["reason"] for field in fields(Thresholds)]
    assert len(set(reasons)) == len(reasons)


def test_each_threshold_is_used():
    """A threshold that no module of growth reads is removed."""
    code = "".join(
        file.read_text(encoding="utf-8")
        for file in GROWTH.glob("*.py")
        if file.name != "thresholds.py"
    )
    aliases = code.replace("least.", "THRESHOLDS.")  # `timed_verdict` has a short name for it
    unused = [
        field.name for field in fields(Thresholds) if f"THRESHOLDS.{field.name}" not in aliases
    ]
    assert unused == []


def test_thresholds_cannot_be_changed():
    """A check that changed a threshold would change it for all others."""
    with pytest.raises(AttributeError):
        THRESHOLDS.runs_to_fail = 1


def _numbers(tree):
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
    """All numeric constants of growth are thresholds, or are structural with a reason."""
    constants = {
        (file.name, name)
        for file in GROWTH.glob("*.py")
        if file.name != "thresholds.py"
        for name in _numbers(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert constants == set(STRUCTURAL)
