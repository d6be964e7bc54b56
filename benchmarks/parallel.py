"""A repository of 50 streaming tests with budgets, judged by one worker and by two.

    python -m benchmarks.parallel            # ten times each

Prints how often verdicts differed, by test and check, and how often reports lost or doubled any.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pytest_streamperf._report.document import read

SETTINGS = """
[tool.pytest.ini_options]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"

[tool.streamperf.budgets]
max_superlinear = "25%"
up_to = 2_000
max_gap = "250ms"
max_stall = "200ms"
updates_every = "100ms"
background_fetch = false
"""

# Healthy tests and, of each kind, some with a mistake.
TESTS = """
import asyncio
import time

import pytest

from pytest_streamperf import TokenStream, UpdateCounter


class Reply:
    def __init__(self):
        self.parts, self.text = [], ""

    def feed(self, delta):
        self.parts.append(delta)

    def feed_badly(self, delta):
        self.text += delta


@pytest.mark.parametrize("n", range(10))
def test_linear(assert_linear, n):
    def consume(stream):
        reply = Reply()
        for delta in stream:
            reply.feed(delta)

    assert_linear(consume)


@pytest.mark.parametrize("n", range(5))
def test_quadratic(assert_linear, n):
    def consume(stream):
        reply = Reply()
        for delta in stream:
            reply.feed_badly(delta)

    assert_linear(consume)


@pytest.mark.parametrize("slow", [False] * 10 + [True] * 5)
def test_gaps(virtual_clock, token_stream, slow):
    for number, _ in enumerate(token_stream(tokens=50, every=0.02)):
        time.sleep(0.3 if slow and number == 30 else 0.01)


@pytest.mark.parametrize("every", [1] * 5 + [10] * 5)
def test_updates(virtual_clock, token_stream, every):
    stream = token_stream(tokens=50, every=0.02)
    show = UpdateCounter(of=stream, value=lambda call: call.args[0])
    text, shown = "", 0
    for number, delta in enumerate(stream):
        text += delta
        if number % every == 0:
            show(text)
    show(text)


@pytest.mark.parametrize("stalls", [False] * 8 + [True] * 2)
async def test_stalls(stalls):
    for number in range(20):
        if stalls and number == 10:
            time.sleep(0.4)
        await asyncio.sleep(0.001)
"""


def _run(folder, name, *workers):
    file = folder / f"{name}.json"
    plugins = ["-p", "streamperf", "-p", "xdist", "-p", "pytest_asyncio.plugin"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, *workers]
    subprocess.run(  # noqa: S603 - no shell
        [*command, f"--streamperf-json={file}"],
        cwd=folder,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    report = read(file)
    checks = {(c["test"], c["stem"], c["number"]): c["verdict"] for c in report["checks"]}
    return report["tests"], checks


def main():
    """Run them, and print what differed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "pyproject.toml").write_text(SETTINGS, encoding="utf-8")
        (folder / "test_streams.py").write_text(TESTS, encoding="utf-8")
        tests, alone = _run(folder, "alone")
        exceeded = [*alone.values()].count("exceeded")
        print(f"{tests} tests, {len(alone)} checks, {exceeded} exceeded")
        alike = 0
        for time in range(times):
            _, found = _run(folder, f"two-{time}", "-n", "2")
            differs = sorted(k for k in {*alone, *found} if alone.get(k) != found.get(k))
            alike += not differs
            for key in differs:
                print(f"run {time}: {key}: {alone.get(key)} alone, {found.get(key)} on two workers")
        print(f"the same verdicts in {alike} of {times} runs")


if __name__ == "__main__":
    main()
