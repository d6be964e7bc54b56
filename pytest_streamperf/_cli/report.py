"""`streamperf report`: convert a report into an HTML page or a Markdown comment.

A report goes in. Each format goes to the file that its option names; without an option, Markdown
goes to standard output.
"""

import argparse
from pathlib import Path

from pytest_streamperf._report.document import read
from pytest_streamperf._report.html import html
from pytest_streamperf._report.markdown import markdown
from pytest_streamperf._report.terminal import say

_FORMATS = {"html": html, "markdown": markdown}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the report and one output file for each format to the parser."""
    parser.add_argument("report", type=Path, metavar="REPORT", help="written by --streamperf-json")
    for name in _FORMATS:
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"write {name} to FILE")


def run(options: argparse.Namespace) -> int:
    """Write the report in the requested formats, and return the exit status 0."""
    document = read(options.report)
    requested = {name: file for name in _FORMATS if (file := getattr(options, name))}
    for name, file in requested.items():
        file.write_text(_FORMATS[name](document), encoding="utf-8")
    if not requested:
        say(markdown(document).splitlines())
    return 0
