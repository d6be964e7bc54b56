"""`streamperf baseline`: write the comparable part of a report to a file for the repository.

A report and the earlier baseline go in; the new baseline comes out. The baseline keeps one entry
for each check, without seconds, bytes and texts. A check that got neither better nor worse keeps
its earlier entry to the digit, so that a diff shows real changes only.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from pytest_streamperf._cli.compare import lines
from pytest_streamperf._report.compare import Comparison, compare
from pytest_streamperf._report.document import Document, interpreter, key_of, read, write
from pytest_streamperf._report.terminal import say
from pytest_streamperf.exceptions import ReportError

# Three digits keep noise out of diffs: shares count as the same within 0.25 (_report/compare.py).
_SHARE_DIGITS = 3
# These fields of a check are never compared, so a baseline stores them empty.
_EMPTY_FIELDS: dict[str, Any] = {
    "headline": "",
    "details": [],
    "picture": [],
    "seconds": {},
    "bytes": {},
    "where": [],
    "series": {},
    "facts": {},
}


def arguments(parser: ArgumentParser) -> None:
    """Add the report and the baseline file to the parser."""
    parser.add_argument("report", help="the report of a whole run")
    parser.add_argument(
        "--file",
        default="streamperf-baseline.json",
        help="the baseline file (default: %(default)s)",
    )


def run(options: Namespace) -> int:
    """Create or update the baseline file, print the changes, and return the exit status 0.

    An incomplete report and a report without checks raise `ReportError`.
    """
    report = read(options.report)
    if not report["complete"]:
        msg = (
            f"{options.report}: the report is incomplete; a baseline from it would drop lost checks"
        )
        raise ReportError(msg)
    if not report["checks"]:
        msg = f"{options.report}: the report has no checks; a baseline from it would detect nothing"
        raise ReportError(msg)
    exists = Path(options.file).exists()
    earlier = read(options.file) if exists else report | {"checks": []}
    new, comparison = baseline(report, earlier)
    if exists and new == earlier:
        say([f"{options.file}: unchanged, {len(new['checks']):,} checks"])
        return 0
    write(new, options.file)
    say([f"{options.file}: {'updated' if exists else 'created'}, {len(new['checks']):,} checks"])
    if exists:
        say(["", *lines(comparison)])
    return 0


def baseline(report: Document, earlier: Document) -> tuple[Document, Comparison]:
    """Return the baseline for a report, and its comparison with the earlier baseline.

    A check that is neither better nor worse keeps its earlier entry to the digit. Noise therefore
    causes no diff, and slow drift is measured from the first entry.

    >>> baseline(report, report | {"checks": []})[0]["noise"]
    {'waited': None, 'page_faults': None}
    """
    comparison = compare(earlier, report)
    changed = {check.key for check in (*comparison.worse, *comparison.better)}
    changed |= {refusal.key for refusal in comparison.refused}
    unchanged = {
        key_of(check): check for check in earlier["checks"] if key_of(check) not in changed
    }
    checks = [_comparable_part(unchanged.get(key_of(check), check)) for check in report["checks"]]
    checks.sort(key=key_of)
    if checks == earlier["checks"] and interpreter(report) == interpreter(earlier):
        return earlier, comparison
    emptied: dict[str, Any] = {
        "took": 0,
        "commit": None,
        "lost": [],
        "noise": dict.fromkeys(report["noise"]),
    }
    return report | emptied | {"checks": checks}, comparison


def _comparable_part(check: dict[str, Any]) -> dict[str, Any]:
    """Return the check with empty fields where nothing is compared, and with rounded shares."""
    shares = {name: round(share, _SHARE_DIGITS) for name, share in check["shares"].items()}
    comparable = check | _EMPTY_FIELDS | {"shares": shares}
    for figures in ("given", "counts", "shares", "limits"):
        comparable[figures] = dict(sorted(comparable[figures].items()))
    return comparable
