"""`streamperf merge`: one report of several runs, the shards of a CI job."""

from argparse import ArgumentParser, Namespace

from pytest_streamperf._report.document import merge, read, write
from pytest_streamperf._report.terminal import say


def arguments(parser: ArgumentParser) -> None:
    """Take reports, and where the one that is made of them goes."""
    parser.add_argument("reports", nargs="+", help="reports of runs of one commit, in any order")
    parser.add_argument("--out", required=True, metavar="FILE", help="where the report goes")


def run(options: Namespace) -> int:
    """Write one report of all, and say what is in it."""
    merged = merge(read(report) for report in options.reports)
    write(merged, options.out)
    checks = f"{len(merged['checks']):,} checks of {merged['tests']:,} tests"
    reports = f"{len(options.reports):,} report{'s' * (len(options.reports) > 1)}"
    incomplete = "" if merged["complete"] else "; incomplete, as not every run got to its end"
    say([f"{options.out}: {checks}, from {reports}{incomplete}"])
    return 0
