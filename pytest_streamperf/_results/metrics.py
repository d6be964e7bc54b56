"""Measured values of a check, for machines: figures, guilty lines and rows of a chart.

All are plain values. `Verdict` carries them to reports, comparisons and charts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

# A chart of a report draws at most this many points. Not measured: no reason is on record.
MOST_DRAWN = 50

T = TypeVar("T")


class Place(NamedTuple):
    """A guilty line and the share of the blame that it bears, 0 to 1; None if unknown."""

    place: str
    source: str = ""
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of one check, for machines, grouped by how they may be compared.

    Two checks are comparable if their `given` values are equal. `counts` are the same on every
    machine, and `shares`, 0 to 1, are parts of one run: a greater value is worse in both groups.
    `seconds` and `bytes` depend on the machine. A limit has the name of the figure that it bounds.
    `facts` are text for people.

    >>> Figures(given={"deltas": 500}, counts={"updates": 51}).flat()
    {'deltas': 500, 'updates': 51}
    """

    given: Mapping[str, float | str] = field(default_factory=dict)
    counts: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    bytes: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    def flat(self) -> dict[str, float | str]:
        """Return every figure and fact by its name, without the limits."""
        return {**self.given, **self.counts, **self.shares, **self.seconds, **self.bytes} | {
            **self.facts
        }


def known(figures: Mapping[str, float | None]) -> dict[str, float]:
    """Return the figures that were measured, without those that are None.

    >>> known({"first": 0.2, "longest gap": None})
    {'first': 0.2}
    """
    return {name: figure for name, figure in figures.items() if figure is not None}


def thinned(values: Sequence[T]) -> Sequence[T]:
    """Return at most 50 of the values, evenly spread, with the first and the last.

    >>> len(thinned(range(1_000)))
    50
    """
    if len(values) <= MOST_DRAWN:
        return values
    last, steps = len(values) - 1, MOST_DRAWN - 1
    return [values[step * last // steps] for step in range(MOST_DRAWN)]
