"""What was measured, for machines: figures, guilty lines and rows to draw, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

MOST_DRAWN = 50

T = TypeVar("T")


class Place(NamedTuple):
    """A guilty line, and its part of what is wrong, 0 to 1, if that is known."""

    place: str
    source: str = ""
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a check measured, for machines, kept apart by what may be done with it.

    Two checks compare where they were `given` the same. `counts` are the same on every machine and
    `shares`, 0 to 1, are parts of one run: of either more is worse. `seconds` and `bytes` are of
    this machine. `limits` go by the name of what they hold; `facts` are for people.

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
        """All that was measured, by its name."""
        return {**self.given, **self.counts, **self.shares, **self.seconds, **self.bytes} | {
            **self.facts
        }


def known(figures: Mapping[str, float | None]) -> dict[str, float]:
    """Those figures that were measured.

    >>> known({"first": 0.2, "longest gap": None})
    {'first': 0.2}
    """
    return {name: figure for name, figure in figures.items() if figure is not None}


def thinned(values: Sequence[T]) -> Sequence[T]:
    """At most 50 of many values, the first and the last among them.

    >>> len(thinned(range(1_000)))
    50
    """
    if len(values) <= MOST_DRAWN:
        return values
    last, steps = len(values) - 1, MOST_DRAWN - 1
    return [values[each * last // steps] for each in range(MOST_DRAWN)]
