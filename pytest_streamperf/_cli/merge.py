"""`streamperf merge`: merge the reports of several runs, such as the shards of a CI job.

The reports go in, in any order; one report comes out. It is incomplete where one of them is.
"""

from argparse import ArgumentParser, Namespace

from pytest_streamperf._report.document import merge, read, write
from pytest_streamperf._report.terminal import say


def arguments(parser: ArgumentParser) -> None:
    """Add the reports and the output file to the parser."""
    parser.add_argument("reports", nargs="+", help="reports of runs of one commit, in any order")
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="write the merged report to FILE"
    )


def run(options: Namespace) -> int:
    """Write the merged report, print its size, and return the exit status 0."""
    merged = merge(read(report) for report in options.reports)
    write(merged, options.out)
    checks = f"{len(merged['checks']):,} checks of {merged['tests']:,} tests"
    reports = f"{len(options.reports):,} report{'s' * (len(options.reports) > 1)}"
    incomplete = "" if merged["complete"] else "; incomplete, because a run did not finish"
    say([f"{options.out}: {checks}, from {reports}{incomplete}"])
    return 0
