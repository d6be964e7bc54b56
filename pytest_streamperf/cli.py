"""`streamperf ...`: what a project does with its budgets and reports, outside of a test run."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from pytest_streamperf import __version__

# Each command is a module with a docstring, `arguments(parser)` and `run(options) -> exit status`.
# It is loaded when it is called for.
_COMMANDS: dict[str, tuple[str, str]] = {
    "budgets": ("listing", "show what applies to which test, and where it comes from"),
}


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status, which is 2 for a mistake in how it was called.

    >>> main(["compare", "base.json", "head.json"])
    0
    """
    words = sys.argv[1:] if words is None else words
    parser = argparse.ArgumentParser(prog="streamperf", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, (module, line) in _COMMANDS.items():
        command = commands.add_parser(name, help=line, description=line)
        if name in words[:1]:
            home = import_module(f"pytest_streamperf.{module}")
            home.arguments(command)
            command.set_defaults(run=home.run)
    options = parser.parse_args(words)
    return int(options.run(options))
