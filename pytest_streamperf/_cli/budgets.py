"""`streamperf budgets`: show the budgets of each test, and where each limit comes from.

The command runs pytest, which collects the tests, prints their budgets and runs none of them.
"""

import argparse
import subprocess
import sys


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the files, folders and test ids to the parser."""
    parser.add_argument("tests", nargs="*", help="files, folders or test ids (default: all tests)")


def run(options: argparse.Namespace) -> int:
    """Run pytest so that it prints the budgets, and return its exit status."""
    plugin_options = ["-p", "streamperf", "--streamperf-budgets", "--no-header", "-q"]
    command = [sys.executable, "-m", "pytest", *plugin_options, *options.tests]
    return subprocess.run(command, check=False).returncode  # noqa: S603 - no shell
