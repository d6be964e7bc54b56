"""What a project's settings make of a verdict."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_streamperf._results.verdict import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a project's settings say: the arguments of its checks, and what comes of a verdict.

    `growth` are arguments of `assert_linear`, where a call does not give them, and `network` those
    of a guard of every test: `background_fetch`, `allow_hosts`, `block_network`, `exact_network`.
    `budgets` are what a test as a whole is held to: the default, under "", and profiles by name;
    `defaults` is what the arguments above would be as one of these. With `mode="warn"` a check that
    would fail warns, with `inconclusive="warn"` only one that could not be concluded.

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
        """Whether this outcome is no failure."""
        return (
            outcome == "within"
            or self.mode == "warn"
            or (outcome == "inconclusive" and self.inconclusive == "warn")
        )
