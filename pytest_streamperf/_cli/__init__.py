"""Run the commands of `streamperf`, which work on budgets and reports outside a test run.

Each command is a module of this package with a docstring, `arguments(parser)` and
`run(options) -> exit status`. `main` imports only the module of the command that it runs. A command
returns 0, 1 for a negative result, or 2 for an error.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from pytest_streamperf import __version__
from pytest_streamperf._report.terminal import say
from pytest_streamperf.exceptions import BudgetError, ReportError

_DESCRIPTION = "Propose streaming tests, and work with their budgets and reports."
_COMMANDS = {
    "init": "propose a first test and a budget for code that streams",
    "budgets": "show the budgets of each test, and where each limit comes from",
    "compare": "list the checks that got worse between two reports",
    "merge": "merge the reports of several runs into one",
    "baseline": "write a baseline file that later reports are compared with",
    "report": "convert a report into HTML or Markdown",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names, and return its exit status.

    The default of `argv` is the command line of the process. An invalid file or setting prints one
    line on standard error, and the exit status is 2.

    >>> main(["compare", "base.json", "head.json"])
    0
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="streamperf", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, summary in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name in argv[:1]:
            module = import_module(f"{__name__}.{name}")
            module.arguments(command)
            command.set_defaults(run=module.run)
    options = parser.parse_args(argv)
    try:
        return int(options.run(options))
    except (BudgetError, ReportError, ModuleNotFoundError) as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    say([f"{parser.prog} {argv[0]}: {message}"], sys.stderr)
    return 2
