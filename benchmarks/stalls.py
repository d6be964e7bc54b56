"""Does a stall watch cry wolf on a busy machine, or sleep? Healthy callbacks, and stalls of 60 ms.

    python -m benchmarks.stalls                         # about fifteen minutes
    python -m benchmarks.stalls --healthy 500 --stalls 20

Six processes keep the cores busy. A healthy callback takes 20 ms of CPU, and more by the clock on
the wall. Exits with 1 if one was called a stall of more than 50 ms, or a `time.sleep(0.06)` was
not, with its line.
"""

import argparse
import asyncio
import sys
import time

from benchmarks.environment import busy, machine
from pytest_streamperf import ResponsivenessResult, StallWatch
from pytest_streamperf._runtime.clock import thread_cpu

HOGS = 6
LIMIT, HEALTHY, STALL = 0.05, 0.02, 0.06


async def healthy(callbacks: int) -> ResponsivenessResult:
    """Use the CPU, and let others run in between."""
    with StallWatch() as watch:
        for _ in range(callbacks):
            until = thread_cpu() + HEALTHY
            while thread_cpu() < until:
                pass
            await asyncio.sleep(0)
    return watch.result()


async def stalling(stalls: int) -> ResponsivenessResult:
    """Block the loop."""
    with StallWatch() as watch:
        for _ in range(stalls):
            await asyncio.sleep(0)
            time.sleep(STALL)  # noqa: ASYNC251 - what is to be caught
            await asyncio.sleep(0)
    return watch.result()


def longest(result: ResponsivenessResult) -> str:
    """The longest of all stalls, with its line."""
    seconds, where, *_ = next(iter(result.stalls or ()), (0.0, "none"))
    return f"longest {seconds * 1000:.1f} ms at {where or 'an unknown line'}"


def main() -> int:
    """Print both counts."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--healthy", type=int, default=10_000)
    parser.add_argument("--stalls", type=int, default=200)
    options = parser.parse_args()
    print(f"{machine()}, {HOGS} busy processes", flush=True)
    with busy(HOGS):
        calm = asyncio.run(healthy(options.healthy))
        alarms = sum(stall.seconds > LIMIT for stall in calm.stalls or ())
        print(f"{options.healthy:,} healthy: {alarms} alarms; {longest(calm)}", flush=True)
        blocked = asyncio.run(stalling(options.stalls))
        caught = sum(
            stall.seconds > LIMIT and stall.source.startswith("time.sleep(")
            for stall in blocked.stalls or ()
        )
        print(f"{options.stalls:,} stalls: {caught} caught, line named; {longest(blocked)}")
    return int(alarms > 0 or caught < options.stalls)


if __name__ == "__main__":
    sys.exit(main())
