"""What the checks of a run concluded, as plain values, and what the run was made on."""

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

FORMAT, VERSION = "pytest-streamperf report", 1

_GIT_MAY_TAKE = 10.0


def plain(found: Verdict, policy: Policy) -> dict[str, Any]:
    """As values that travel from one process to another, and into the document."""
    return {
        "stem": found.stem,
        "verdict": found.verdict,
        "accepted": found.measured and policy.accepts(found.verdict),
        "headline": found.headline,
        "details": list(found.details),
        "picture": list(found.picture),
        **asdict(found.figures),
        "where": [each._asdict() for each in found.where],
        "series": {
            name: [[_short(value) for value in row] for row in rows]
            for name, rows in found.series.items()
        },
    }


def _short(value: float | str) -> float | str:
    """Four digits are more than a picture shows."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def properties(found: Verdict) -> Iterator[tuple[str, object]]:
    """As properties of a test, for JUnit."""
    name = f"streamperf.{found.stem}"
    yield name, f"{found.verdict}: {found.headline}"
    yield from ((f"{name}.{key}", value) for key, value in found.figures.flat().items())
    yield from ((f"{name}.where", each.place) for each in found.where[:1])


def numbered(reported: Iterable[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Checks by test, as they were reported, each with the number it has among those of its stem.

    >>> [check["number"] for check in numbered([("test_it", {"stem": "growth"})] * 2)]
    [1, 2]
    """
    seen: Counter[tuple[str, str]] = Counter()
    checks = []
    for test, check in reported:
        key = test, check["stem"]
        seen[key] += 1
        checks.append({"test": test, "stem": check["stem"], "number": seen[key], **check})
    return checks


def environment() -> dict[str, Any]:
    """What ran, and on what."""
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
    """The commit that is checked out, and whether files differ; None where git knows none."""
    found = _git(folder, "rev-parse", "HEAD")
    if found is None:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"id": found, "dirty": bool(changed)}


def _git(folder: Path, *words: str) -> str | None:
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(  # noqa: S603 - no shell
            command, capture_output=True, check=True, text=True, timeout=_GIT_MAY_TAKE
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def now() -> str:
    """The time, as a document has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
