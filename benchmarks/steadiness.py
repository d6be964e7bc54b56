"""Does a verdict ever change? Every accumulator again and again, idle and with all cores busy.

    python -m benchmarks.steadiness --runs 100
    python -m benchmarks.steadiness --runs 100 --busy 2

Prints, for each accumulator, how often which verdict was given and the seconds a check took. Exits
with 1 if any verdict was wrong or unproven.
"""

import argparse
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.accumulators import cases
from pytest_streamperf import measure_growth


def main() -> int:
    """Run every case, print a line for each, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--busy", type=int, default=0, help="processes that burn CPU and memory")
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    print(
        f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores, "
        f"{options.busy} busy processes, {options.runs} runs each"
    )
    wrong = 0
    with _busy(options.busy):
        for name, consume, terms, expected in cases():
            if options.only and name not in options.only:
                continue
            verdicts: Counter[str] = Counter()
            seconds = []
            for _ in range(options.runs):
                start = time.process_time()
                verdicts[measure_growth(consume, **terms).verdict] += 1
                seconds.append(time.process_time() - start)
            wrong += options.runs - verdicts[expected]
            counted = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
            middle = statistics.median(seconds)
            print(
                f"{'ok' if verdicts[expected] == options.runs else 'WRONG':5} {name:18} "
                f"{counted:28} median {middle:.3f} s, most {max(seconds):.3f} s",
                flush=True,
            )
    print(f"{wrong} wrong or unproven")
    return 1 if wrong else 0


@contextmanager
def _busy(count: int) -> Iterator[None]:
    burners = [multiprocessing.Process(target=_burn, daemon=True) for _ in range(count)]
    for burner in burners:
        burner.start()
    try:
        yield
    finally:
        for burner in burners:
            burner.terminate()
            burner.join()


def _burn() -> None:
    # Copies 64 MiB back and forth: takes the core, the caches and the memory bus.
    source, target = bytearray(2**26), bytearray(2**26)
    while True:
        target[:] = source
        source[:] = target


if __name__ == "__main__":
    sys.exit(main())
