"""A line of time as text: events in rows, around the moment when it went wrong."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

_COLUMNS = 56
_LABEL = 6, 8


class Event(NamedTuple):
    """What happened when; one character stands for it."""

    time: float
    symbol: str


class Row(NamedTuple):
    """Events in one line; later ones are drawn over earlier ones."""

    label: str
    events: Iterable[Event]


def drawn(rows: Sequence[Row], *, start: float, end: float, when: float, began: float) -> list[str]:
    """Draw what came from `start` to `end`, and point at `when`, told in seconds since `began`.

    >>> drawn([Row("a", [Event(0, "|")])], start=0, end=1, when=1, began=0)[0][:16]
    '  a       |.....'
    """
    least, most = _LABEL
    width = max(least, *(len(row.label[:most]) for row in rows))

    def column(time: float) -> int:
        return int((time - start) / (end - start) * (_COLUMNS - 1) + 0.5)

    lines = []
    for label, events in rows:
        symbols = {column(each.time): each.symbol for each in events if start <= each.time <= end}
        line = "".join(symbols.get(at, ".") for at in range(_COLUMNS))
        lines.append(f"  {label[:most]:{width}}  {line}")
    at, said = column(min(max(when, start), end)), f"{when - began:.3f} s"
    pointer = f"{said} ^".rjust(at + 1) if at > len(said) else f"{'':{at}}^ {said}"
    return [*lines, f"  {'':{width}}  {pointer}"]
