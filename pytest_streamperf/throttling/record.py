"""What happened, as plain values: deltas that arrived, updates that went out, how it ended.

Seconds are the clock's, virtual or real. Events at the same instant are told apart by `order`,
which counts everything that is recorded.
"""

from bisect import bisect_left
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Any, Literal, NamedTuple

Kind = Literal["end", "cancel", "retry", "error", "source_end"]

Evidence = Literal["of", "key", "value", "parses", "stamp"]


class Arrival(NamedTuple):
    """A delta that was handed out; `length` is that of its key's text so far, in characters."""

    time: float
    order: int
    key: Hashable
    length: int


class Update(NamedTuple):
    """A call of the sink: `ended` is when it returned, `stamp` the time that it carried, if any."""

    time: float
    order: int
    ended: float
    key: Hashable = None
    value: Any = None
    stamp: float | None = None
    size: int = 0


class Mark(NamedTuple):
    """Something that was noted; `source_end` is noted when the stream has no more deltas."""

    time: float
    order: int
    kind: Kind


def read_again() -> RuntimeError:
    """Make the error for a stream that is counted, and read once more."""
    return RuntimeError(
        "this stream was read to its end already: one that is counted can be read once"
    )


class Attempt(NamedTuple):
    """One attempt at one key: its deltas, the text they make, and its updates, in order."""

    name: str
    number: int
    text: str
    arrivals: Sequence[Arrival]
    updates: Sequence[Update]
    marks: Sequence[Mark]
    others: Sequence[int]
    """When, by order, the first delta of each other key arrived."""

    def arrival_before(self, order: int) -> Arrival | None:
        """The last delta that had arrived by then."""
        at = bisect_left(self.arrivals, order, key=lambda arrival: arrival.order)
        return self.arrivals[at - 1] if at else None

    def update_before(self, order: int) -> Update | None:
        """The last update that had begun by then."""
        at = bisect_left(self.updates, order, key=lambda update: update.order)
        return self.updates[at - 1] if at else None

    def first_mark(self, *kinds: Kind) -> Mark | None:
        """The first mark of these kinds."""
        return next((mark for mark in self.marks if mark.kind in kinds), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """All that was seen, up to the time `until`.

    `texts` holds the whole text of each key, by attempt; `parses` is how often the spy was called;
    `left` says which tasks, timers and threads had not ended. `latest` makes the value that an
    update should carry of the text so far.
    """

    arrivals: Sequence[Arrival] = ()
    updates: Sequence[Update] = ()
    marks: Sequence[Mark] = ()
    texts: Mapping[tuple[Hashable, int], str] = field(default_factory=dict)
    parses: int | None = None
    left: Sequence[str] = ()
    until: float = 0.0
    evidence: frozenset[Evidence] = frozenset()
    latest: Callable[[str], Any] = str

    @property
    def began(self) -> float:
        """When the first thing happened."""
        arrived = [arrival.time for arrival in self.arrivals[:1]]
        return min([*arrived, *(update.time for update in self.updates[:1]), self.until])

    def names(self) -> list[Hashable]:
        """The keys that deltas came for, or else those of the updates, in order of appearance."""
        return list(dict.fromkeys(each.key for each in self.arrivals or self.updates))

    def attempts(self) -> list[Attempt]:
        """Every attempt at every key: a retry begins another."""
        retries = [mark.order for mark in self.marks if mark.kind == "retry"]
        names = self.names()
        alone = len(names) == 1 and len({update.key for update in self.updates}) <= 1
        found = []
        for number, (start, end) in enumerate(pairwise([-1, *retries, inf])):
            arrivals = [each for each in self.arrivals if start < each.order <= end]
            first = {each.key: each.order for each in reversed(arrivals)}
            updates = [each for each in self.updates if start < each.order <= end]
            marks = [each for each in self.marks if start < each.order <= end]
            found += [
                Attempt(
                    "text" if key is None else str(key),
                    number,
                    self.texts.get((key, number), ""),
                    [each for each in arrivals if each.key == key],
                    [each for each in updates if alone or each.key == key],
                    marks,
                    [order for other, order in first.items() if other != key],
                )
                for key in names
            ]
        return found
