"""Collect the content of a report: verdicts as plain values, and facts about the run.

In: `Verdict` objects and the project's policy. Out: checks for the report (`plain`, `numbered`),
properties for JUnit, and the environment, the commit and the time of the run.
The process that makes a verdict also makes it plain, so that an xdist worker can send it.
"""

import os
import platform
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pytest_streamperf import __version__
from pytest_streamperf._results.policy import Policy
from pytest_streamperf._results.verdict import Verdict

# Name and version of the document format: `schema.json` and document.py have the same values.
FORMAT, VERSION = "pytest-streamperf report", 1

# Not measured: no source is on record. A git command that hangs must not hang the end of a run.
_GIT_TIMEOUT_S = 10.0


def plain(verdict: Verdict, policy: Policy) -> dict[str, Any]:
    """Return a verdict as plain values, which xdist can transfer and a report can hold."""
    return {
        "stem": verdict.stem,
        "verdict": verdict.verdict,
        "accepted": verdict.measured and policy.accepts(verdict.verdict),
        "headline": verdict.headline,
        "details": list(verdict.details),
        "picture": list(verdict.picture),
        **asdict(verdict.figures),
        "where": [place._asdict() for place in verdict.where],
        "series": {
            name: [[_rounded(value) for value in row] for row in rows]
            for name, rows in verdict.series.items()
        },
    }


def _rounded(value: float | str) -> float | str:
    """Return a float with four significant digits, as a chart shows no more."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def properties(verdict: Verdict) -> Iterator[tuple[str, object]]:
    """Yield a verdict as names and values of test properties, which pytest writes to JUnit XML."""
    name = f"streamperf.{verdict.stem}"
    yield name, f"{verdict.verdict}: {verdict.headline}"
    yield from ((f"{name}.{key}", value) for key, value in verdict.figures.flat().items())
    yield from ((f"{name}.where", guilty.place) for guilty in verdict.where[:1])


def numbered(reported: Iterable[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the checks of a run, with the name of their test and a number.

    `reported` holds pairs of a test name and a check, in the order of the checks. The number counts
    the checks of one stem in one test, from 1.

    >>> [check["number"] for check in numbered([("test_it", {"stem": "growth"})] * 2)]
    [1, 2]
    """
    last_numbers: Counter[tuple[str, str]] = Counter()
    checks = []
    for test, check in reported:
        key = test, check["stem"]
        last_numbers[key] += 1
        checks.append({"test": test, "stem": check["stem"], "number": last_numbers[key], **check})
    return checks


def environment() -> dict[str, Any]:
    """Return the versions of Python, pytest and this plugin, and the machine of this process."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count() or 1,
        "pytest": version("pytest"),
        "streamperf": __version__,
    }


def commit(folder: Path) -> dict[str, Any] | None:
    """Return the id of the commit in `folder`, and whether tracked files differ from it.

    The result is None where git finds no commit.
    """
    commit_id = _git(folder, "rev-parse", "HEAD")
    if commit_id is None:
        return None
    changed_files = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"id": commit_id, "dirty": bool(changed_files)}


def _git(folder: Path, *arguments: str) -> str | None:
    """Return the output of a git command, or None if it fails."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        completed = subprocess.run(  # noqa: S603 - no shell
            command, capture_output=True, check=True, text=True, timeout=_GIT_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return completed.stdout.strip()


def now() -> str:
    """Return the current time in UTC, in the ISO 8601 form that a report holds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
