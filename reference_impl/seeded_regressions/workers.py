"""Mistakes in how the state of a worker is read."""

import time
from functools import partial

from reference_impl.seeded_regressions import seeded
from reference_impl.slots import SIZE, State, read, unpacked

_KEPT = 0.1
_kept: dict[tuple[int, int], tuple[float, State | None]] = {}


def read_as_it_is(block: memoryview, number: int) -> State:
    """Reads what is there, whether or not somebody is writing it."""
    return unpacked(block[number * SIZE : (number + 1) * SIZE].tobytes()[8:-8])


def read_now_and_then(block: memoryview, number: int) -> State | None:
    """Keeps what it read for a tenth of a second, so that not everyone who asks has it read."""
    now, slot = time.monotonic(), (id(block), number)
    if now - _kept.get(slot, (0.0, None))[0] > _KEPT:
        _kept[slot] = now, read(block, number)
    return _kept[slot][1]


_registry = partial(seeded, "assert_atomic_reads")

REGRESSIONS = (
    _registry("torn-read", "slots:read", read_as_it_is),
    _registry("stale-read", "slots:read", read_now_and_then),
)
