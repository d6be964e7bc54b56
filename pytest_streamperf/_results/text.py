"""How a message is laid out: tables, labelled lines, lines of time, and the guilty line."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

# pytest puts 8 columns before a message raised in a function; 80 are promised.
_WIDTH = 72
MAX_LINES = 13
_INDENT = 9
_TIMELINE_COLUMNS = 56
_TIMELINE_LABEL = 6, 8  # columns of a row's label: at least, at most
_LOWEST_BAR = ord("\N{LOWER ONE EIGHTH BLOCK}")


def table_lines(head: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> list[str]:
    """Lay out a small right-aligned table; `note` stands behind its last row."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    laid = [
        "  " + "   ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in (head, *rows)
    ]
    return [*laid[:-1], fit_line(f"{laid[-1]}   <- {note}")] if note else laid


def sparkline(values: Sequence[float]) -> str:
    """Draw values as bars of 1 to 8 eighths, 0 at the bottom, the greatest at the top.

    >>> sparkline([0, 1, 2, 4]).encode("ascii", "namereplace").count(b"BLOCK")
    4
    """
    top = max(values, default=0.0) or 1.0
    return "".join(chr(_LOWEST_BAR + min(7, int(8 * max(0.0, value) / top))) for value in values)


def labelled_lines(entries: Mapping[str, str]) -> list[str]:
    """Lay out `where`, `means`, `costs`, `try`, `allow`; an empty one is left out."""
    from textwrap import wrap  # noqa: PLC0415 - not loaded by a run without failures

    return [
        line
        for key, text in entries.items()
        if text
        for line in wrap(f"  {key:5}  {_ascii(text)}", _WIDTH, subsequent_indent=" " * _INDENT)
    ]


def fit_line(line: str) -> str:
    """Cut a line to the width of a message, and to ASCII."""
    line = _ascii(line)
    return line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "..."


def _ascii(text: str) -> str:
    return (
        "".join(each if each.isprintable() else " " for each in text)
        .encode("ascii", "backslashreplace")
        .decode()
    )


def location_lines(places: Sequence[str], source: str, part: str) -> list[str]:
    """Lay out the guilty line: in one line if it fits, else in two.

    `places` say the same, each shorter than the one before it: the first that fits is taken. What
    is cut for want of room is the end of the source, or the start of the last place.
    """
    shown, source = [_ascii(place) for place in places], _ascii(source)
    place = shown[0]
    line = " ".join(filter(None, (f"  where  {place}{':' if source else ''}", source, part)))
    if len(line) <= _WIDTH:
        return [line]
    room = _WIDTH - _INDENT - 1
    place = next((each for each in shown if len(each) <= room), f"...{shown[-1][3 - room :]}")
    room -= len(part)
    if len(source) > room:
        source = f"{source[: room - 3]}..."
    return [f"  where  {place}:", f"{'':{_INDENT}}{source} {part}"]


class Event(NamedTuple):
    """What happened when; one character stands for it."""

    time: float
    symbol: str


class Row(NamedTuple):
    """Events in one line; later ones are drawn over earlier ones."""

    label: str
    events: Iterable[Event]


def timeline_lines(
    rows: Sequence[Row], *, start: float, end: float, when: float, began: float
) -> list[str]:
    """Draw what came from `start` to `end`, and point at `when`, told in seconds since `began`.

    >>> timeline_lines([Row("a", [Event(0, "|")])], start=0, end=1, when=1, began=0)[0][:16]
    '  a       |.....'
    """
    least, most = _TIMELINE_LABEL
    width = max(least, *(len(row.label[:most]) for row in rows))

    def column(time: float) -> int:
        return int((time - start) / (end - start) * (_TIMELINE_COLUMNS - 1) + 0.5)

    lines = []
    for label, events in rows:
        symbols = {column(each.time): each.symbol for each in events if start <= each.time <= end}
        line = "".join(symbols.get(at, ".") for at in range(_TIMELINE_COLUMNS))
        lines.append(f"  {label[:most]:{width}}  {line}")
    at, said = column(min(max(when, start), end)), f"{when - began:.3f} s"
    pointer = f"{said} ^".rjust(at + 1) if at > len(said) else f"{'':{at}}^ {said}"
    return [*lines, f"  {'':{width}}  {pointer}"]
