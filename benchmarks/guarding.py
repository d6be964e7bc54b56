"""What does a guard cost? Per trivial test and per connection over loopback, beside pytest-socket.

    python -m benchmarks.guarding --rounds 9            # about two minutes

Each round runs every guard once, in a pytest of its own; what is told is the median of the rounds.
A test's cost is that of the whole loop over tests, so without start-up and collection.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.environment import PARSER, ROOT, machine, python_with

PACKAGES = "pytest==9.2.0", "pytest-socket==0.8.1", "psutil==7.2.2", PARSER
TESTS, CONNECTIONS = 2_000, 2_000
_SETTINGS = "[tool.streamperf]\nbackground_fetch = false\n"
_OURS = ("-p", "pytest_streamperf._plugin")

GUARDS = {
    "none": ((), ""),
    "pytest-socket": (("-p", "pytest_socket", "--disable-socket", "--allow-hosts=127.0.0.1"), ""),
    "this plugin, unused": (_OURS, ""),
    "audit hook": (_OURS, _SETTINGS),
    "audit hook and kernel": (_OURS, f"{_SETTINGS}exact_network = true\n"),
}
"""Options and the project's settings, by what guards; the first is what others are held against."""

_CONFTEST = """
import json, pathlib, time
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session):
    start = time.perf_counter()
    try:
        return (yield)
    finally:
        if len(session.items) > 1:
            spent = time.perf_counter() - start
            pathlib.Path("figure.json").write_text(json.dumps(spent / len(session.items)))
"""
_TRIVIAL = f"""
import pytest

@pytest.mark.parametrize("number", range({TESTS}))
def test_trivial(number):
    pass
"""
_CONNECTING = f"""
import json, pathlib, socket, time

def test_connections():
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        start = time.perf_counter()
        for _ in range({CONNECTIONS}):
            with socket.create_connection(server.getsockname()), server.accept()[0]:
                pass
        spent = time.perf_counter() - start
    pathlib.Path("figure.json").write_text(json.dumps(spent / {CONNECTIONS}))
"""


def spent(python: str, guard: str, tests: str) -> float:
    """Seconds per test, or per connection, in one run under a guard."""
    options, settings = GUARDS[guard]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_it.py").write_text(tests, encoding="utf-8")
        (folder / "conftest.py").write_text(_CONFTEST, encoding="utf-8")
        (folder / "pyproject.toml").write_text(settings, encoding="utf-8")
        subprocess.run(  # noqa: S603 - ours
            [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "--rootdir=."],
            cwd=folder,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return float(json.loads((folder / "figure.json").read_text(encoding="utf-8")))


def main() -> None:
    """Run all of them in turn, and print the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    python = python_with(*PACKAGES)
    print(f"{machine()}, {time.strftime('%Y-%m-%d')}: python -m benchmarks.guarding")
    for what, tests in (("trivial test", _TRIVIAL), ("loopback connection", _CONNECTING)):
        found: dict[str, list[float]] = {guard: [] for guard in GUARDS}
        for _ in range(rounds):
            for guard, seconds in found.items():
                seconds.append(spent(python, guard, tests))
        bare = median(found["none"])
        print(f"\n{what:22} {'us':>8} {'more':>8} {'ratio':>7}")
        for guard, seconds in found.items():
            each = median(seconds)
            print(f"{guard:22} {each * 1e6:8.0f} {(each - bare) * 1e6:+8.0f} {each / bare:7.2f}")


if __name__ == "__main__":
    main()
