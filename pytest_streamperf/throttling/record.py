"""The record of a throttled stream, as plain values: deltas, updates and marks.

`UpdateCounter.record` makes a `ThrottleRecord`, and the invariant checks read it. Its `attempts`
are its parts by key and retry. Times are in seconds of the virtual or the real clock. `order`
numbers all entries of a record, so it orders entries at the same instant.
"""

from bisect import bisect_left
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Any, Literal, NamedTuple

Kind = Literal["end", "cancel", "retry", "error", "source_end"]

EvidenceKind = Literal["of", "key", "value", "parses", "stamp"]


class Arrival(NamedTuple):
    """A delta of the stream; `length` counts the characters of its key's text so far."""

    time: float
    order: int
    key: Hashable
    length: int


class Update(NamedTuple):
    """A call of the sink, from `time` to `ended`, with the timestamp `stamp` that it carried."""

    time: float
    order: int
    ended: float
    key: Hashable = None
    value: Any = None
    stamp: float | None = None
    size: int = 0


class Mark(NamedTuple):
    """A cancel, retry, error or end; `source_end` means that the stream has no more deltas."""

    time: float
    order: int
    kind: Kind


def read_again() -> RuntimeError:
    """Return the error for reading a counted stream a second time."""
    return RuntimeError(
        "this stream was read to its end already: a counted stream can be read once"
    )


class AttemptRecord(NamedTuple):
    """The deltas, their text, the updates and the marks of one key in one attempt, in order."""

    name: str
    number: int
    text: str
    arrivals: Sequence[Arrival]
    updates: Sequence[Update]
    marks: Sequence[Mark]
    other_key_orders: Sequence[int]
    """The `order` of the first delta of every other key."""

    def arrival_before(self, order: int) -> Arrival | None:
        """Return the last delta that arrived before `order`."""
        at = bisect_left(self.arrivals, order, key=lambda arrival: arrival.order)
        return self.arrivals[at - 1] if at else None

    def update_before(self, order: int) -> Update | None:
        """Return the last update that began before `order`."""
        at = bisect_left(self.updates, order, key=lambda update: update.order)
        return self.updates[at - 1] if at else None

    def first_mark(self, *kinds: Kind) -> Mark | None:
        """Return the first mark of these kinds."""
        return next((mark for mark in self.marks if mark.kind in kinds), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleRecord:
    """The deltas, updates and marks of a check, up to the time `until`.

    `texts` maps a key and an attempt to the whole text. `parses` counts the calls of the spy.
    `left` names the tasks, timers and threads that had not ended. `latest` returns the value that
    an update should carry, from the text so far.
    """

    arrivals: Sequence[Arrival] = ()
    updates: Sequence[Update] = ()
    marks: Sequence[Mark] = ()
    texts: Mapping[tuple[Hashable, int], str] = field(default_factory=dict)
    parses: int | None = None
    left: Sequence[str] = ()
    until: float = 0.0
    evidence: frozenset[EvidenceKind] = frozenset()
    latest: Callable[[str], Any] = str

    @property
    def began(self) -> float:
        """The time of the first delta or update, or `until` if there is none."""
        arrived = [arrival.time for arrival in self.arrivals[:1]]
        return min([*arrived, *(update.time for update in self.updates[:1]), self.until])

    def names(self) -> list[Hashable]:
        """Return the keys of the deltas, or of the updates if there are none, in order."""
        return list(dict.fromkeys(entry.key for entry in self.arrivals or self.updates))

    def attempts(self) -> list[AttemptRecord]:
        """Return the attempts of every key; a retry begins another attempt."""
        retries = [mark.order for mark in self.marks if mark.kind == "retry"]
        names = self.names()
        alone = len(names) == 1 and len({update.key for update in self.updates}) <= 1
        attempts: list[AttemptRecord] = []
        for number, (start, end) in enumerate(pairwise([-1, *retries, inf])):
            arrivals = [arrival for arrival in self.arrivals if start < arrival.order <= end]
            first = {arrival.key: arrival.order for arrival in reversed(arrivals)}
            updates = [update for update in self.updates if start < update.order <= end]
            marks = [mark for mark in self.marks if start < mark.order <= end]
            attempts += [
                AttemptRecord(
                    "text" if key is None else str(key),
                    number,
                    self.texts.get((key, number), ""),
                    [arrival for arrival in arrivals if arrival.key == key],
                    [update for update in updates if alone or update.key == key],
                    marks,
                    [order for other_key, order in first.items() if other_key != key],
                )
                for key in names
            ]
        return attempts
