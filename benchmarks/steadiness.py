"""Does a verdict ever change? Every accumulator again and again, idle and with all cores busy.

    python -m benchmarks.steadiness --runs 100
    python -m benchmarks.steadiness --runs 100 --busy 2

Prints, for each accumulator, how often which verdict was given and the seconds a check took. Exits
with 1 if any verdict was wrong or inconclusive.
"""

import argparse
import statistics
import sys
import time
from collections import Counter

from benchmarks.environment import busy, machine
from pytest_streamperf import measure_growth
from tests.data.accumulators import cases


def main() -> int:
    """Run every case, print a line for each, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--busy", type=int, default=0, help="processes that burn CPU and memory")
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    print(f"{machine()}, {options.busy} busy processes, {options.runs} runs each")
    wrong = 0
    with busy(options.busy):
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
    print(f"{wrong} wrong or inconclusive")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
