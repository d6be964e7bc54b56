"""Pace a stream: the seconds before each of its deltas.

`TokenStream(every=...)` takes a pace: one time for a constant pace, or an iterable of times. Each
reading of the stream iterates over the pace anew, so an iterator will not do; a list of measured
gaps will. A time is a number of seconds, or a text such as "50ms".

A slow consumer does not slow the stream down: deltas that are due are handed out at once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, cycle, repeat
from random import Random

from pytest_streamperf._results.units import (
    Seconds,
    Share,
    argument,
    fraction_of,
    seconds_of,
)

Pace = Seconds | Iterable[Seconds]
"""The time between two deltas, or the time before each of them."""


@dataclass(frozen=True, slots=True, init=False)
class Jittered:
    """A pace with random gaps: evenly distributed from `1 - part` to `1 + part` times `every`.

    `every` is in seconds, or a text such as "50ms"; `part` is from 0 to 1, or as "50%".

    >>> list(zip(Jittered(0.02, seed=1), range(3)))[0]
    (0.0, 0)
    """

    every: float
    part: float
    seed: int

    def __init__(self, every: Seconds, part: Share = 0.5, seed: int = 0) -> None:
        object.__setattr__(self, "every", argument("every", seconds_of, every))
        object.__setattr__(self, "part", argument("part", fraction_of, part))
        object.__setattr__(self, "seed", seed)

    def __iter__(self) -> Iterator[float]:
        random = Random(self.seed)  # noqa: S311 - no secret
        yield 0.0
        while True:
            yield self.every * random.uniform(1 - self.part, 1 + self.part)


@dataclass(frozen=True, slots=True, init=False)
class Bursts:
    """A pace of bursts, as behind a buffering proxy: `deltas` at once, and again after `every`.

    `every` is in seconds, or a text such as "500ms".

    >>> [gap for gap, _ in zip(Bursts(2, every=0.5), range(5))]
    [0.0, 0.0, 0.5, 0.0, 0.5]
    """

    deltas: int
    every: float

    def __init__(self, deltas: int, every: Seconds) -> None:
        if deltas < 1:
            msg = f"deltas must be at least 1, not {deltas!r}"
            raise ValueError(msg)
        object.__setattr__(self, "deltas", deltas)
        object.__setattr__(self, "every", argument("every", seconds_of, every))

    def __iter__(self) -> Iterator[float]:
        burst = [self.every, *repeat(0.0, self.deltas - 1)]
        return chain([0.0], burst[1:], cycle(burst))


@dataclass(frozen=True, slots=True, init=False)
class Stalled:
    """A constant pace with one stall: delta `at`, counted from 0, takes `seconds` longer.

    `every` is the gap before the other deltas. Both times are in seconds, or a text such as "50ms".

    >>> [gap for gap, _ in zip(Stalled(at=2, seconds=3.0, every=0.5), range(4))]
    [0.0, 0.5, 3.5, 0.5]
    """

    at: int
    seconds: float
    every: float

    def __init__(self, at: int, seconds: Seconds, every: Seconds = 0.0) -> None:
        if at < 0:
            msg = f"at must be the index of a delta, from 0 on, not {at!r}"
            raise ValueError(msg)
        object.__setattr__(self, "at", at)
        object.__setattr__(self, "seconds", argument("seconds", seconds_of, seconds))
        object.__setattr__(self, "every", argument("every", seconds_of, every))

    def __iter__(self) -> Iterator[float]:
        for index, gap in enumerate(chain([0.0], repeat(self.every))):
            yield gap + self.seconds if index == self.at else gap


def slow_first(seconds: Seconds, every: Seconds = 0.0) -> Stalled:
    """Return a constant pace after a slow first delta, as a long prompt causes it.

    The first delta takes `seconds`; the others are `every` apart. Both times are in seconds, or a
    text such as "50ms".

    >>> slow_first(2.0)
    Stalled(at=0, seconds=2.0, every=0.0)
    """
    return Stalled(at=0, seconds=seconds, every=every)


def read_pace(value: object) -> float:
    """Return a constant pace in seconds; the error lists every form that a pace may have."""
    try:
        return seconds_of(value)
    except ValueError as error:
        allowed, _, _ = str(error).rpartition(", not ")
        msg = f"{allowed}, or an iterable that can be read again, not {value!r}"
        raise ValueError(msg) from None
