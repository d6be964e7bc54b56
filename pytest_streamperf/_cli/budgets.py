"""`streamperf budgets`: what applies to which test, and where it comes from."""

import argparse
import subprocess
import sys


def arguments(parser: argparse.ArgumentParser) -> None:
    """Take files and tests, as pytest does."""
    parser.add_argument(
        "tests", nargs="*", help="files, folders or test ids; all, if none is given"
    )


def run(options: argparse.Namespace) -> int:
    """Have pytest collect the tests and tell; returns its exit status."""
    own = ["-p", "streamperf", "--streamperf-budgets", "--no-header", "-q"]
    command = [sys.executable, "-m", "pytest", *own, *options.tests]
    return subprocess.run(command, check=False).returncode  # noqa: S603 - no shell
