"""Lay out messages: tables, labelled lines, timelines, sparklines and the guilty line.

Each function takes plain values and returns lines, or a part of one. Lines are ASCII, except for
sparklines, and long ones are cut or wrapped to 72 columns.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

# The documentation promises 80 columns, and pytest indents the message of a function by up to 8.
_WIDTH = 72
# A note is added to a message only up to this many lines. Not measured: no reason is on record.
MAX_LINES = 13
_INDENT = 9  # the columns before the text of a labelled line
# Behind a path that fills the line, so much of a function's name makes the line longer.
_MIN_FUNCTION = 20
_TIMELINE_COLUMNS = 56  # beside a label of up to 8 columns, within 72
_MIN_LABEL_COLUMNS, _MAX_LABEL_COLUMNS = 6, 8  # of a row in a timeline
_LOWEST_BAR = ord("\N{LOWER ONE EIGHTH BLOCK}")


def table_lines(head: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> list[str]:
    """Lay out a small right-aligned table, with `note` after its last row."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  " + "   ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in (head, *rows)
    ]
    return [*lines[:-1], fit_line(f"{lines[-1]}   <- {note}")] if note else lines


def sparkline(values: Sequence[float]) -> str:
    """Draw values as bars of 1 to 8 eighths: 0 has the lowest bar, the greatest value the highest.

    >>> sparkline([0, 1, 2, 4]).encode("ascii", "namereplace").count(b"BLOCK")
    4
    """
    top = max(values, default=0.0) or 1.0
    return "".join(chr(_LOWEST_BAR + min(7, int(8 * max(0.0, value) / top))) for value in values)


def labelled_lines(entries: Mapping[str, str]) -> list[str]:
    """Lay out a text for each label, such as `where`, `means` or `try`; leave out empty texts."""
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
        "".join(character if character.isprintable() else " " for character in text)
        .encode("ascii", "backslashreplace")
        .decode()
    )


def location_lines(places: Sequence[str], source: str, part: str) -> list[str]:
    """Lay out the guilty line: in one line if it fits, otherwise in two.

    `places` are spellings of one place, "file.py:12 in function", from the longest to the shortest.
    The first that fits is used. If none fits, the function of the last is cut, never its path: a
    terminal opens a whole path on a click. A source that is too long loses its end.
    """
    spellings, source = [_ascii(place) for place in places], _ascii(source)
    place = spellings[0]
    line = " ".join(filter(None, (f"  where  {place}{':' if source else ''}", source, part)))
    if len(line) <= _WIDTH:
        return [line]
    room = _WIDTH - _INDENT - 1
    place = next(
        (text for text in spellings if len(text) <= room), _cut_function(spellings[-1], room)
    )
    room -= len(part)
    if len(source) > room:
        source = f"{source[: room - 3]}..."
    return [f"  where  {place}:", f"{'':{_INDENT}}{source} {part}"]


def _cut_function(place: str, room: int) -> str:
    path, _, function = place.partition(" in ")
    function_room = max(_MIN_FUNCTION, room - len(f"{path} in "))
    if len(function) <= function_room:
        return place
    return f"{path} in {function[: function_room - 3]}..."


class TimelineEvent(NamedTuple):
    """The time of an event, and the character that stands for it in a timeline."""

    time: float
    symbol: str


class TimelineRow(NamedTuple):
    """A row of a timeline; its later events are drawn over earlier ones."""

    label: str
    events: Iterable[TimelineEvent]


def timeline_lines(
    rows: Sequence[TimelineRow], *, start: float, end: float, when: float, began: float
) -> list[str]:
    """Draw the events from `start` to `end`; mark the time `when`, in seconds since `began`.

    >>> rows = [TimelineRow("a", [TimelineEvent(0, "|")])]
    >>> timeline_lines(rows, start=0, end=1, when=1, began=0)[0][:16]
    '  a       |.....'
    """
    width = max(_MIN_LABEL_COLUMNS, *(len(row.label[:_MAX_LABEL_COLUMNS]) for row in rows))

    def column(time: float) -> int:
        return int((time - start) / (end - start) * (_TIMELINE_COLUMNS - 1) + 0.5)

    lines = []
    for label, events in rows:
        symbols = {
            column(event.time): event.symbol for event in events if start <= event.time <= end
        }
        line = "".join(symbols.get(at, ".") for at in range(_TIMELINE_COLUMNS))
        lines.append(f"  {label[:_MAX_LABEL_COLUMNS]:{width}}  {line}")
    at, label = column(min(max(when, start), end)), f"{when - began:.3f} s"
    pointer = f"{label} ^".rjust(at + 1) if at > len(label) else f"{'':{at}}^ {label}"
    return [*lines, f"  {'':{width}}  {pointer}"]
