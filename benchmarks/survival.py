"""A thousand rounds under fire: what is left of them in the server's memory and in its log.

    python -m benchmarks.survival --rounds 1000

The reference server runs in a process of its own, on asyncio and h11, then on uvloop and httptools.
A round is all of `assert_survives`: clients that leave midway, 200 that do so at once, and 200 that
are not answered, a body of 10 MB, JSON nested 100,000 deep, and garbage over a WebSocket. Exits
with 1 if memory grew by more than 5%, or if there is a traceback in the log.
"""

import argparse
import subprocess
import sys
import tempfile
import time

from benchmarks.environment import machine
from pytest_streamperf.server import assert_survives
from tests.matrix.checks import CHAT
from tests.matrix.reference_server import METRICS

LOOPS = (("asyncio", "h11"), ("uvloop", "httptools"))


def survived(loop: str, http: str, rounds: int) -> bool:
    """Fire at a server of its own, and print what is left."""
    command = [sys.executable, "-m", "reference_impl", "--debug", "--every", "0.02"]
    began = time.monotonic()
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as log,
        subprocess.Popen(  # noqa: S603 - our own module
            [*command, "--loop", loop, "--http", http],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as server,
    ):
        try:
            assert server.stdout is not None  # noqa: S101 - it is a pipe
            url = server.stdout.readline().split()[-1]
            try:
                found = assert_survives(
                    url,
                    requests=[CHAT],
                    websocket="/ws/telemetry",
                    **METRICS,
                    pid=server.pid,
                    rounds=rounds,
                )
                says = f"{found.headline}; {found.figures.given['clients']:,} clients"
            except AssertionError as error:
                found, says = None, str(error)
        finally:
            server.terminate()
            server.wait()
        log.seek(0)
        tracebacks = log.read().count("Traceback (most recent call last)")
    took = time.monotonic() - began
    print(f"{loop} and {http}: {says}, {tracebacks} tracebacks, {took:.0f} s", flush=True)
    return found is not None and not tracebacks


def main() -> int:
    """Fire at each, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1_000)
    rounds = parser.parse_args().rounds
    print(f"{machine()}: python -m benchmarks.survival --rounds {rounds}")
    return 1 - min(survived(*each, rounds) for each in LOOPS)


if __name__ == "__main__":
    sys.exit(main())
