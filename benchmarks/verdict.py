"""How often is a verdict wrong? This project beside its peers, on code whose growth is known.

    python -m benchmarks.verdict                        # everything: over two hours
    python -m benchmarks.verdict --linear 500 --superlinear 100 --peers 1

Every judge is asked about the accumulators that the project was made with and about twenty that it
was not (`benchmarks/fresh.py`), idle and with both cores and the memory busy. A *false alarm* is
linear code that is said to be superlinear, a *miss* the reverse; *inconclusive* is no answer, or a
peer's that took more than 40 seconds. Seconds are of CPU: the medians of linear code that is cheap
and of all, the 95th percentile and the most. Exits with 1 if this project was wrong.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil
from statistics import median, quantiles

from benchmarks.environment import PARSER, ROOT, busy, machine, python_with
from benchmarks.judges import CASES, EXPECTED, JUDGES, LINEAR, OURS, SUPERLINEAR

PEERS = (
    "big_O==0.11.0",
    "bigocheck==1.1.0",
    "countfn==0.1.3",
    "pytest-benchmark==5.3.1",
    PARSER,
)
# These take seconds a check, so each is asked about a twentieth as often as the others.
COSTLY = {
    "costly_deltas",
    "reparsed_string",
    "reparsed_objects",
    "removed_by_value",
    "generated_code",
    "polled_tasks",
    "cancelled_timers",
    "row_appended_to",
    "resumed_after",
    "unclosed_tags",
    "lines_cut_off",
    "found_by_path",
    "checkpointed",
}
COSTLY_PART = 20
# A peer is given so many seconds for one accumulator, and asked no more after a quarter of them.
PATIENCE = 40
BUSY = 2

_ROW = "{:22} {:4} {:>6} {:>12} {:>11} {:>6} {:>8} {:>8} {:>7} {:>7} {:>7}"
_HEAD = (
    "judge",
    "",
    "linear",
    "false alarms",
    "superlinear",
    "misses",
    "inconclusive",
    "linear s",
    "all s",
    "95% s",
    "most s",
)


@dataclass
class Tally:
    """What one judge said, with the machine idle or busy."""

    linear: int = 0
    superlinear: int = 0
    false_alarms: int = 0
    misses: int = 0
    inconclusive: int = 0
    seconds: list[float] = field(default_factory=list)
    seconds_linear: list[float] = field(default_factory=list)
    wrong: dict[str, int] = field(default_factory=dict)

    def add(self, case: str, verdict: str, seconds: float) -> None:
        """Count one answer."""
        expected = EXPECTED[case]
        self.linear += case in LINEAR
        self.superlinear += case in SUPERLINEAR
        self.inconclusive += verdict == "inconclusive"
        self.false_alarms += (expected, verdict) == ("within", "exceeded")
        self.misses += (expected, verdict) == ("exceeded", "within")
        self.seconds.append(seconds)
        if case in LINEAR and case not in COSTLY:
            self.seconds_linear.append(seconds)
        if verdict != expected:
            self.wrong[f"{case} {verdict}"] = self.wrong.get(f"{case} {verdict}", 0) + 1

    def row(self, judge: str, load: str) -> str:
        """Say it in a line."""
        cheap = median(self.seconds_linear or [0.0])
        slow = quantiles(self.seconds, n=20)[-1] if len(self.seconds) > 1 else self.seconds[0]
        return _ROW.format(
            judge,
            load,
            self.linear,
            self.false_alarms,
            self.superlinear,
            self.misses,
            self.inconclusive,
            *(f"{each:.3f}" for each in (cheap, median(self.seconds), slow, max(self.seconds))),
        )


def main() -> int:
    """Ask every judge, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--linear", type=int, default=10_000, help="checks of linear code")
    parser.add_argument("--superlinear", type=int, default=2_000, help="and of superlinear code")
    parser.add_argument("--peers", type=int, default=5, help="checks of each by each peer; 0: none")
    options = parser.parse_args()
    print(f"{machine()}, {time.strftime('%Y-%m-%d')}: python -m benchmarks.verdict", *sys.argv[1:])
    print(f"\n{_ROW.format(*_HEAD)}")
    python = python_with(*PEERS)
    wrong = 0
    for judge in JUDGES:
        ours = judge == OURS
        runs = (
            _share_out(options.linear, options.superlinear)
            if ours
            else dict.fromkeys(CASES, options.peers)
        )
        for load, burners in (("idle", 0), ("busy", BUSY)):
            tally = Tally()
            with busy(burners):
                for case in CASES:
                    for verdict, seconds in _answers(python, judge, case, runs[case]):
                        tally.add(case, verdict, seconds)
            if tally.seconds:
                print(tally.row(judge, load), flush=True)
                said = ", ".join(f"{what} {times}" for what, times in tally.wrong.items())
                print(f"  not as expected: {said}" if said else "  all as expected", flush=True)
                wrong += ours and tally.false_alarms + tally.misses
    return 1 if wrong else 0


def _share_out(linear: int, superlinear: int) -> dict[str, int]:
    """How often each accumulator is judged, idle and busy each, so that it comes to so many."""
    runs = {}
    for cases, checks in ((LINEAR, linear), (SUPERLINEAR, superlinear)):
        weight = {case: 1 / COSTLY_PART if case in COSTLY else 1 for case in cases}
        for case in cases:
            runs[case] = ceil(checks / 2 * weight[case] / sum(weight.values()))
    return runs


def _answers(python: str, judge: str, case: str, runs: int) -> Iterator[tuple[str, float]]:
    """Ask for so many answers; what does not come in time is inconclusive."""
    if not runs:
        return
    patience = None if judge == OURS else PATIENCE
    command = [python, "-m", "benchmarks.judges", judge, case, str(runs), str(PATIENCE / 4)]
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command,
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            timeout=patience,
        )
    except subprocess.TimeoutExpired as late:
        yield from map(json.loads, (late.stdout or b"").splitlines())
        yield "inconclusive", PATIENCE
        return
    yield from map(json.loads, done.stdout.splitlines())


if __name__ == "__main__":
    sys.exit(main())
