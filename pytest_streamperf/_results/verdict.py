"""The verdict of one check as a plain value: for messages, reports and machines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pytest_streamperf._results.metrics import Figures, Place
from pytest_streamperf._results.text import MAX_LINES, labelled_lines

Outcome = Literal["within", "exceeded", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict of one check, with its message and its figures.

    `stem` names the kind of check, such as "growth". `headline` is one line with the measured value
    and the limit; `details` are the lines after it when the check fails. `figures` are for
    machines; their fact "interference" names the debugger, coverage tool or profiler at work.
    `where` holds the guilty lines, `series` the rows of charts, and `picture` the lines that a
    verbose report adds.
    A check that is not `measured` had nothing to measure, and fails under every policy.

    >>> Verdict(stem="growth", verdict="within", headline="2% superlinear, limit 25%").verdict
    'within'
    """

    stem: str
    verdict: Outcome
    headline: str
    details: Sequence[str] = ()
    figures: Figures = field(default_factory=Figures)
    where: Sequence[Place] = ()
    series: Mapping[str, Sequence[Sequence[float | str]]] = field(default_factory=dict)
    picture: Sequence[str] = ()
    measured: bool = True

    @property
    def message(self) -> str:
        """The text of a failure, with a note on interference where the line limit allows it."""
        lines = [self.headline, *self.details]
        note = labelled_lines({"note": self.figures.facts.get("interference", "")})
        return "\n".join(lines + note * (len(lines) + len(note) <= MAX_LINES))
