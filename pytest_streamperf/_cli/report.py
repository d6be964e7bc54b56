"""Turn the report of a run into a page for people, or into a comment of a pull request."""

import argparse
from pathlib import Path

from pytest_streamperf._report.document import read
from pytest_streamperf._report.html import html
from pytest_streamperf._report.markdown import markdown
from pytest_streamperf._report.terminal import say

_FACES = {"html": html, "markdown": markdown}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `streamperf report` takes."""
    parser.add_argument("report", type=Path, metavar="REPORT", help="written by --streamperf-json")
    for face in _FACES:
        parser.add_argument(f"--{face}", type=Path, metavar="FILE", help=f"write {face} to FILE")


def run(options: argparse.Namespace) -> int:
    """Write the faces that were asked for, or Markdown to standard output; returns the status."""
    document = read(options.report)
    asked = {face: file for face in _FACES if (file := getattr(options, face))}
    for face, file in asked.items():
        file.write_text(_FACES[face](document), encoding="utf-8")
    if not asked:
        say(markdown(document).splitlines())
    return 0
