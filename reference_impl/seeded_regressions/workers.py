"""Seeded regressions of `slots`: readers that return a torn or an outdated worker state.

`assert_atomic_reads` must catch them.
"""

import time
from functools import partial

from reference_impl.seeded_regressions import seeded
from reference_impl.slots import SIZE, State, read, unpacked

# How long a reader returns a cached state. Not measured; a worker writes more often.
_CACHED_SECONDS = 0.1
_cached_states: dict[tuple[int, int], tuple[float, State | None]] = {}


def read_without_version(block: memoryview, number: int) -> State:
    """A reader does not check whether a worker is just writing the state."""
    return unpacked(block[number * SIZE : (number + 1) * SIZE].tobytes()[8:-8])


def read_through_cache(block: memoryview, number: int) -> State | None:
    """A reader caches each state for a tenth of a second, so it returns outdated values."""
    now, slot = time.monotonic(), (id(block), number)
    if now - _cached_states.get(slot, (0.0, None))[0] > _CACHED_SECONDS:
        _cached_states[slot] = now, read(block, number)
    return _cached_states[slot][1]


_slot_regression = partial(seeded, "assert_atomic_reads")

REGRESSIONS = (
    _slot_regression("torn-read", "slots:read", read_without_version),
    _slot_regression("stale-read", "slots:read", read_through_cache),
)
