"""`streamperf ...`: what a project does with its budgets and reports, outside of a test run."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from pytest_streamperf import __version__
from pytest_streamperf._report.terminal import say
from pytest_streamperf.exceptions import BudgetError, ReportError

# Each command is a module of this package with a docstring, `arguments(parser)` and
# `run(options) -> exit status`. It is loaded when it is called for.
_COMMANDS = {
    "init": "propose a first test and a budget for code that streams",
    "budgets": "show what applies to which test, and where it comes from",
    "compare": "say what got worse from one report to another",
    "merge": "make one report of those of several runs",
    "baseline": "keep what compares of a report, to hold later ones against",
    "report": "turn the report of a run into HTML or Markdown",
}


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status, which is 2 for what it could not do.

    What was wrong with a file or a setting is one line on standard error.

    >>> main(["compare", "base.json", "head.json"])
    0
    """
    words = sys.argv[1:] if words is None else words
    parser = argparse.ArgumentParser(prog="streamperf", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, line in _COMMANDS.items():
        command = commands.add_parser(name, help=line, description=line)
        if name in words[:1]:
            home = import_module(f"{__name__}.{name}")
            home.arguments(command)
            command.set_defaults(run=home.run)
    options = parser.parse_args(words)
    try:
        return int(options.run(options))
    except (BudgetError, ReportError, ModuleNotFoundError) as error:
        wrong = str(error)
    except OSError as error:
        wrong = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    say([f"{parser.prog} {words[0]}: {wrong}"], sys.stderr)
    return 2
