"""The policy of a project: its default arguments for checks, and which verdicts only warn.

The plugin makes one from the settings in `pyproject.toml`; `conclude` goes by it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_streamperf._results.verdict import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Settings of a project: default arguments for its checks, and the verdicts that only warn.

    `growth` holds arguments of `assert_linear`, used where a call omits them. `network` holds those
    of the guard of every test: `background_fetch`, `allow_hosts`, `block_network`, `exact_network`.
    `budgets` holds the budgets of whole tests: the default one under "", and profiles by name.
    `defaults` holds the arguments above once more, as a layer of a budget.
    `mode="warn"` turns every failure into a warning; `inconclusive="warn"` only turns inconclusive
    checks into warnings.

    >>> Policy(inconclusive="warn").accepts("inconclusive"), Policy().accepts("exceeded")
    (True, False)
    """

    growth: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)
    budgets: Mapping[str, Any] = field(default_factory=dict)
    defaults: Any = field(default=None, compare=False)
    inconclusive: Literal["fail", "warn"] = "fail"
    mode: Literal["fail", "warn"] = "fail"

    def accepts(self, outcome: Outcome) -> bool:
        """Return whether this outcome does not fail the test."""
        return (
            outcome == "within"
            or self.mode == "warn"
            or (outcome == "inconclusive" and self.inconclusive == "warn")
        )
