"""What counting costs: a call of each counter beside a bare function's and a mock's.

    python -m benchmarks.counters

Microseconds on top of the bare function, the median of nine rounds in one run.
"""

from collections.abc import Callable
from statistics import median
from timeit import timeit
from unittest.mock import Mock

from benchmarks.environment import machine
from pytest_streamperf import FlushCounter, TokenStream, UpdateCounter, VirtualClock

CALLS, ROUNDS = 20_000, 9


def bare(_value: str) -> None:
    """Take a value."""


def microseconds(function: Callable[[str], object]) -> float:
    """What a call takes."""
    return timeit(lambda: function("text"), number=CALLS) / CALLS * 1e6


def subjects() -> dict[str, Callable[[str], object]]:
    """Everything that is compared, made anew: counters keep what they are given."""
    valued = UpdateCounter(of=TokenStream(0), value=lambda call: call.args[0])
    return {
        "bare function": bare,
        "unittest.mock.Mock": Mock(),
        "UpdateCounter": UpdateCounter(),
        "UpdateCounter(of=, value=)": valued,
        "FlushCounter.call": FlushCounter().call(bare),
    }


def main() -> None:
    """Print a table, in real time and in virtual."""
    print(machine())
    for name, clock in (("real time", None), ("virtual time", VirtualClock())):
        taken: dict[str, list[float]] = {each: [] for each in subjects()}
        for _ in range(ROUNDS):
            for each, function in subjects().items():
                if clock is None:
                    taken[each].append(microseconds(function))
                else:
                    with clock:
                        taken[each].append(microseconds(function))
        base = median(taken["bare function"])
        for each, times in taken.items():
            print(f"{name:13} {each:28} {median(times) - base:6.2f} us more")


if __name__ == "__main__":
    main()
