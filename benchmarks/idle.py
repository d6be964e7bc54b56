"""What a plugin costs that is installed, and unused: beside others that people install.

    python -m benchmarks.idle --rounds 20            # about five minutes

Each is installed as its users install it, in an environment of its own, where pytest finds it by
itself. Told is CPU time on top of pytest alone: to import the plugin, of a run of one trivial test,
of a run of 1,000, and of the median test among those, without start-up and collection. In every
round all of them run in another order, what is short four times as often, and each is held against
pytest alone in that round. The median of the rounds stands before an interval that holds it in 19
of 20 cases.
"""

import argparse
import math
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from benchmarks.environment import ROOT, machine, python_with

PYTEST = "pytest==9.2.0"
OURS = "pytest-streamperf"
PLUGINS = {
    "pytest alone": ((), "pytest"),
    OURS: (("psutil==7.2.2",), "pytest_streamperf._plugin"),
    "pytest-socket": (("pytest-socket==0.8.1",), "pytest_socket"),
    "pytest-benchmark": (("pytest-benchmark==5.3.1",), "pytest_benchmark.plugin"),
    "pytest-memray": (("pytest-memray==1.11.0",), "pytest_memray"),
    "pytest-asyncio": (("pytest-asyncio==1.5.0",), "pytest_asyncio.plugin"),
}
"""What is installed besides pytest, and the module that pytest then imports."""

BARE, PEER = "pytest alone", "pytest-socket"
TESTS, SHORT = 1_000, 4
MEASURES = {"import, ms": 1e3, "one test, ms": 1e3, "1,000 tests, ms": 1e3, "a test, us": 1e6}

_IMPORTING = """
import sys, time, pytest
start = time.process_time()
__import__(sys.argv[1])
print(time.process_time() - start)
"""
_CONFTEST = """
import pathlib, statistics, time
import pytest

begun = []

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logstart():
    begun.append(time.thread_time_ns())

def pytest_sessionfinish():
    gaps = [after - before for before, after in zip(begun, begun[1:])]
    if gaps:
        pathlib.Path("gap").write_text(str(statistics.median(gaps)))
"""
_ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))
} | {"PYTHONHASHSEED": "0"}
_RUN = "-m", "pytest", "-q", "-p", "no:cacheprovider"

Figures = dict[str, list[tuple[float, ...]]]


def interpreters() -> dict[str, str]:
    """By plugin, the interpreter that has it; ours is as this checkout has it."""
    found = {name: python_with(PYTEST, *packages) for name, (packages, _) in PLUGINS.items()}
    subprocess.run(  # noqa: S603 - ours
        [
            *(found[OURS], "-m", "pip", "install", "-qq", "--disable-pip-version-check"),
            *("--force-reinstall", "--no-deps", str(ROOT)),
        ],
        check=True,
        env=_ENVIRONMENT,
    )
    return found


def cpu(command: Sequence[str], folder: Path) -> float:
    """Seconds of CPU that a command takes, in a process of its own and those it waits for."""
    child = subprocess.Popen(  # noqa: S603 - ours
        command,
        cwd=folder,
        env=_ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return used.ru_utime + used.ru_stime


def short(python: str, module: str, folder: Path) -> tuple[float, ...]:
    """Seconds to import a module after pytest, and of a run of one test."""
    printed = subprocess.run(  # noqa: S603 - ours
        [python, "-c", _IMPORTING, module],
        check=True,
        env=_ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return float(printed), cpu([python, *_RUN, "test_one.py"], folder)


def long(python: str, _module: str, folder: Path) -> tuple[float, ...]:
    """Seconds of a run of many tests, and of one of them."""
    spent = cpu([python, *_RUN, "test_many.py"], folder)
    return spent, float((folder / "gap").read_text(encoding="utf-8")) / 1e9


def more(measure: Callable[[str, str, Path], tuple[float, ...]], rounds: int) -> Figures:
    """Run all of them in turn; by plugin the measured columns, less pytest's own."""
    pythons, order = interpreters(), random.Random(0)  # noqa: S311 - the same in every run
    found: Figures = {name: [] for name in PLUGINS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "conftest.py").write_text(_CONFTEST, encoding="utf-8")
        for file, count in (("test_one.py", 1), ("test_many.py", TESTS)):
            tests = (f"def test_{number}():\n    pass\n" for number in range(count))
            (folder / file).write_text("\n\n".join(tests), encoding="utf-8")
        for number in range(rounds + 1):
            one = {
                plugin: measure(pythons[plugin], PLUGINS[plugin][1], folder)
                for plugin in order.sample(sorted(PLUGINS), len(PLUGINS))
            }
            if number:  # the first one fills the caches
                for plugin, figures in one.items():
                    less = (each - bare for each, bare in zip(figures, one[BARE], strict=True))
                    found[plugin].append(tuple(less))
    return {plugin: list(zip(*rows, strict=True)) for plugin, rows in found.items()}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Bounds that hold the median in 19 of 20 cases: two of the values, whatever they are like."""
    ranked, count = sorted(values), len(values)
    out = max(0, math.floor(count / 2 - 0.98 * math.sqrt(count)))
    return ranked[out], ranked[-1 - out]


def main() -> None:
    """Run all of them in turn, and print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    briefly, at_length = more(short, SHORT * rounds), more(long, rounds)
    print(f"{machine()}, {time.strftime('%Y-%m-%d')}: python -m benchmarks.idle --rounds {rounds}")
    print(f"\n| more than pytest alone | {' | '.join(MEASURES)} | of {PEER}'s |")
    print(f"|---|{'---|' * len(MEASURES)}---|")
    peers = [median(column) for column in (*briefly[PEER], *at_length[PEER])]
    for plugin in PLUGINS:
        cells, ratios = [], []
        columns = (*briefly[plugin], *at_length[plugin])
        for column, peer, unit in zip(columns, peers, MEASURES.values(), strict=True):
            low, high = interval(column)
            cells.append(f"{median(column) * unit:.2f} ({low * unit:.2f} to {high * unit:.2f})")
            ratios.append(f"{median(column) / peer:.2f}")
        if plugin != BARE:
            print(f"| {plugin} | {' | '.join(cells)} | {', '.join(ratios)} |")


if __name__ == "__main__":
    main()
