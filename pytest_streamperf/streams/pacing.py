"""When deltas come: the seconds before each of them, as often as a stream is taken.

A pace is any iterable of seconds that starts anew each time: a list of gaps that were measured will
do. `TokenStream(every=...)` takes one, and a number for the constant pace. A consumer that is slow
does not slow the stream down: what is due is there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, cycle, repeat
from random import Random


@dataclass(frozen=True, slots=True)
class Jittered:
    """About `every` seconds apart: each gap as likely as any from `1 - part` to `1 + part` of it.

    >>> list(zip(Jittered(0.02, seed=1), range(3)))[0]
    (0.0, 0)
    """

    every: float
    part: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        finite_seconds("every", self.every)
        if not 0 <= self.part <= 1:
            msg = f"part must be from 0 to 1, not {self.part!r}"
            raise ValueError(msg)

    def __iter__(self) -> Iterator[float]:
        random = Random(self.seed)  # noqa: S311 - no secret
        yield 0.0
        while True:
            yield self.every * random.uniform(1 - self.part, 1 + self.part)


@dataclass(frozen=True, slots=True)
class Bursts:
    """`size` deltas at once, and the next as many `every` seconds later, as behind a proxy.

    >>> [gap for gap, _ in zip(Bursts(2, every=0.5), range(5))]
    [0.0, 0.0, 0.5, 0.0, 0.5]
    """

    size: int
    every: float

    def __post_init__(self) -> None:
        finite_seconds("every", self.every)
        if self.size < 1:
            msg = f"size must be at least 1, not {self.size!r}"
            raise ValueError(msg)

    def __iter__(self) -> Iterator[float]:
        burst = [self.every, *repeat(0.0, self.size - 1)]
        return chain([0.0], burst[1:], cycle(burst))


@dataclass(frozen=True, slots=True)
class Stalled:
    """`every` seconds apart, but for delta `at`, which takes `seconds` more; 0 is the first.

    >>> [gap for gap, _ in zip(Stalled(at=2, seconds=3.0, every=0.5), range(4))]
    [0.0, 0.5, 3.5, 0.5]
    """

    at: int
    seconds: float
    every: float = 0.0

    def __post_init__(self) -> None:
        finite_seconds("every", self.every)
        finite_seconds("seconds", self.seconds)
        if self.at < 0:
            msg = f"at must be the index of a delta, from 0 on, not {self.at!r}"
            raise ValueError(msg)

    def __iter__(self) -> Iterator[float]:
        for index, gap in enumerate(chain([0.0], repeat(self.every))):
            yield gap + self.seconds if index == self.at else gap


def slow_first(seconds: float, every: float = 0.0) -> Stalled:
    """`every` seconds apart, after a first delta that takes `seconds`, as a long prompt does.

    >>> slow_first(2.0)
    Stalled(at=0, seconds=2.0, every=0.0)
    """
    return Stalled(at=0, seconds=seconds, every=every)


def finite_seconds(name: str, value: float) -> float:
    """Check that an argument is a number of seconds that can be waited for."""
    if not 0 <= value < float("inf"):
        msg = f"{name} must be 0 seconds or more, and finite, not {value!r}"
        raise ValueError(msg)
    return float(value)
