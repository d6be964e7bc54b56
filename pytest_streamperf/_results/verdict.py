"""The verdict of one check, as a plain value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pytest_streamperf._results.metrics import Figures, Place
from pytest_streamperf._results.text import MAX_LINES, labelled_lines

Outcome = Literal["within", "exceeded", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one check concluded.

    `stem` names the kind of check ("growth"), `headline` says in one line what was measured and the
    limit, `details` are the lines that follow it when the check fails. `figures` are for machines,
    with who disturbed the check among their facts, `where` the guilty lines, `series` rows to draw,
    and `picture` the lines that a verbose report shows. A check that is not `measured` had nothing
    to measure: no policy accepts that.

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
        """All that a failure says, and who disturbed the check, if there is room for that."""
        lines = [self.headline, *self.details]
        note = labelled_lines({"note": self.figures.facts.get("interference", "")})
        return "\n".join(lines + note * (len(lines) + len(note) <= MAX_LINES))
