"""What a run says of its checks, on the terminal."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from pytest_streamperf._report.presentation import MARKS, printable

_COLORS = {"within": "green", "exceeded": "red", "inconclusive": "red"}
_ASCII_MARKS = {"within": "+", "exceeded": "x", "inconclusive": "?"}
_BARS = "".join(map(chr, range(0x2581, 0x2589)))
_ASCII_BARS = ".:-=+*%#"


def summary(reports: Iterable[Any], verbosity: int) -> Iterator[tuple[str, dict[str, bool]]]:
    """One line per check, and how it is marked up.

    With a `verbosity` below 0 only for those that were not within, above 0 a picture of each, too.
    What one test says many times, as with Hypothesis, is said once; so is who disturbed checks.
    """
    notes: dict[str, None] = {}
    as_is = _can_show("".join(MARKS.values()) + _BARS)
    marks = MARKS if as_is else _ASCII_MARKS
    bars = str.maketrans(_BARS, _BARS if as_is else _ASCII_BARS)
    for report in sorted(reports, key=lambda report: report.start):
        alike: dict[tuple[str, bool, str], list[Any]] = {}
        for each in report.streamperf:
            if each["verdict"] != "within" or verbosity >= 0:
                said = (
                    f"{marks[each['verdict']]} {each['stem']}  {report.nodeid}: {each['headline']}"
                )
                alike.setdefault((each["verdict"], each["accepted"], said), []).append(each)
        for (verdict, accepted, said), checks in alike.items():
            warned = accepted and verdict != "within"
            often = f" ({len(checks)} times)" if len(checks) > 1 else ""
            color = "yellow" if warned else _COLORS[verdict]
            yield f"{said}{often}{' (a warning)' if warned else ''}", {color: True}
            if verbosity > 0:
                yield from ((row.translate(bars), {}) for row in checks[-1]["picture"])
            notes |= dict.fromkeys(
                filter(None, (each["facts"].get("interference") for each in checks))
            )
    yield from ((f"note: {said}", {}) for said in notes)


def say(lines: Iterable[str], file: TextIO | None = None) -> None:
    """Print lines to standard output, or to `file`: each is one line, whatever it holds."""
    file = file or sys.stdout
    for line in lines:
        shown = printable(line).encode(file.encoding or "ascii", "backslashreplace")
        print(shown.decode(file.encoding or "ascii"), file=file)


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
