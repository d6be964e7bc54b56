"""Splines by WebAssembly, by NumPy and by Python: what each takes, beside the first.

    python -m benchmarks.splines

All three render the same curve in turns, and each turn has its ratios: their medians are compared,
as a busy machine slows down all of a turn. Times are those of the thread, on the CPU; `longest` is
that of its longest piece.
"""

import argparse
import random
import time
from collections.abc import Sequence
from statistics import median

from benchmarks.environment import machine
from pytest_streamperf._results.units import duration
from reference_impl.splines import MOST_POINTS, MOST_SAMPLES, Point, Render, available

SIZES = ((4, 100), (100, 10_000), (100, 100_000), (MOST_POINTS, 100_000), (1_000, MOST_SAMPLES))


def spent(render: Render, points: Sequence[Point], samples: int) -> tuple[float, float]:
    """CPU seconds for all of it, and for the longest of its pieces."""
    began = last = time.thread_time()
    longest = 0.0
    for _ in render(points, samples):
        now = time.thread_time()
        longest, last = max(longest, now - last), now
    return last - began, longest


def main() -> None:
    """Print a line for each size and renderer."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--turns", type=int, default=11)
    turns = parser.parse_args().turns
    renderers = dict(available())
    draw = random.Random(0)  # noqa: S311 - no secret
    print(f"{machine()}, {turns} turns\n")
    print("points    samples   by         takes      longest    ratio")
    for count, samples in SIZES:
        points = [(float(x), draw.uniform(-1, 1)) for x in range(count)]
        taken = [
            {name: spent(each, points, samples) for name, each in renderers.items()}
            for _ in range(turns)
        ]
        first = next(iter(renderers))
        for name in renderers:
            seconds, longest = (median(turn[name][part] for turn in taken) for part in (0, 1))
            ratio = median(turn[name][0] / turn[first][0] for turn in taken)
            print(
                f"{count:6,} {samples:10,}   {name:6} {duration(seconds):>9}"
                f" {duration(longest):>12} {ratio:8.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
