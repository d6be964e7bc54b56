"""Print the checks of a run on a terminal, and other lines of the command line tools.

`summary` takes pytest's test reports, which carry checks, and yields one line for each check.
`say` prints lines. Both work on terminals of any encoding: marks and bars have ASCII forms, and
other characters that the encoding lacks are escaped.
"""

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from pytest_streamperf._report.presentation import MARKS, printable

_COLORS = {"within": "green", "exceeded": "red", "inconclusive": "red"}
_ASCII_MARKS = {"within": "+", "exceeded": "x", "inconclusive": "?"}
_BARS = "".join(map(chr, range(0x2581, 0x2589)))
_ASCII_BARS = ".:-=+*%#"


def summary(reports: Iterable[Any], verbosity: int) -> Iterator[tuple[str, dict[str, bool]]]:
    """Yield one line for each check of the test reports, with its color as a pytest markup.

    A `verbosity` below 0 omits checks that are within; above 0 it adds the picture of each check.
    Equal lines of one test, as Hypothesis causes them, become one line with a count. Notes on
    interference, such as a debugger at work, come last, each once.
    """
    notes: dict[str, None] = {}
    is_unicode = _can_show("".join(MARKS.values()) + _BARS)
    marks = MARKS if is_unicode else _ASCII_MARKS
    bars = str.maketrans(_BARS, _BARS if is_unicode else _ASCII_BARS)
    for report in sorted(reports, key=lambda report: report.start):
        equal_checks: dict[tuple[str, bool, str], list[Any]] = {}
        for check in report.streamperf:
            if check["verdict"] != "within" or verbosity >= 0:
                line = (
                    f"{marks[check['verdict']]} {check['stem']}  "
                    f"{report.nodeid}: {check['headline']}"
                )
                equal_checks.setdefault((check["verdict"], check["accepted"], line), []).append(
                    check
                )
        for (verdict, accepted, line), checks in equal_checks.items():
            is_warning = accepted and verdict != "within"
            repetitions = f" ({len(checks)} times)" if len(checks) > 1 else ""
            color = "yellow" if is_warning else _COLORS[verdict]
            yield f"{line}{repetitions}{' (a warning)' if is_warning else ''}", {color: True}
            if verbosity > 0:
                yield from ((row.translate(bars), {}) for row in checks[-1]["picture"])
            notes |= dict.fromkeys(
                filter(None, (check["facts"].get("interference") for check in checks))
            )
    yield from ((f"note: {note}", {}) for note in notes)


def say(lines: Iterable[str], file: TextIO | None = None) -> None:
    """Print each line to standard output or to `file`, with escapes for unprintable characters."""
    file = file or sys.stdout
    for line in lines:
        encoded = printable(line).encode(file.encoding or "ascii", "backslashreplace")
        print(encoded.decode(file.encoding or "ascii"), file=file)


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
