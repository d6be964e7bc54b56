"""`streamperf baseline`: what compares of a report, for the repository to keep."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from pytest_streamperf._cli.compare import lines
from pytest_streamperf._report.compare import Comparison, compare
from pytest_streamperf._report.document import Document, interpreter, key_of, read, write
from pytest_streamperf._report.terminal import say
from pytest_streamperf.exceptions import ReportError

_DIGITS = 3
_EMPTY: dict[str, Any] = {
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
    """Take the report, and the file that is kept."""
    parser.add_argument("report", help="the report of a whole run")
    parser.add_argument("--file", default="streamperf-baseline.json", help="%(default)s")


def run(options: Namespace) -> int:
    """Write the baseline, or what is new in it, and say what that is."""
    report = read(options.report)
    if not report["complete"]:
        msg = f"{options.report}: it is incomplete; the checks it lost would be checked no more"
        raise ReportError(msg)
    if not report["checks"]:
        msg = f"{options.report}: it has no check; nothing could get worse than that"
        raise ReportError(msg)
    there = Path(options.file).exists()
    earlier = read(options.file) if there else report | {"checks": []}
    kept, comparison = baseline(report, earlier)
    if there and kept == earlier:
        say([f"{options.file}: as it was, {len(kept['checks']):,} checks"])
        return 0
    write(kept, options.file)
    say([f"{options.file}: {'updated' if there else 'made'}, {len(kept['checks']):,} checks"])
    if there:
        say(["", *lines(comparison)])
    return 0


def baseline(report: Document, earlier: Document) -> tuple[Document, Comparison]:
    """What compares of a report, and how that compares with an earlier baseline.

    A check that is neither better nor worse stays as it is kept, to the digit: what wavers makes no
    difference to review, and does not drift, either.

    >>> baseline(report, report | {"checks": []})[0]["noise"]
    {'waited': None, 'page_faults': None}
    """
    comparison = compare(earlier, report)
    changed = {each.key for each in (*comparison.worse, *comparison.better)}
    changed |= {each.key for each in comparison.refused}
    kept = {key_of(check): check for check in earlier["checks"] if key_of(check) not in changed}
    checks = [_lean(kept.get(key_of(check), check)) for check in report["checks"]]
    checks.sort(key=key_of)
    if checks == earlier["checks"] and interpreter(report) == interpreter(earlier):
        return earlier, comparison
    dropped: dict[str, Any] = {
        "took": 0,
        "commit": None,
        "lost": [],
        "noise": dict.fromkeys(report["noise"]),
    }
    return report | dropped | {"checks": checks}, comparison


def _lean(check: dict[str, Any]) -> dict[str, Any]:
    """Keep what compares; a share to three digits."""
    shares = {name: round(share, _DIGITS) for name, share in check["shares"].items()}
    found = check | _EMPTY | {"shares": shares}
    for figures in ("given", "counts", "shares", "limits"):
        found[figures] = dict(sorted(found[figures].items()))
    return found
