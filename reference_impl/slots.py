"""The state of a worker in shared memory: written by one process, read by others without a lock.

A slot is eight numbers of 64 bits: a version, the state, and a checksum. The version is odd while
the state is written; whoever reads looks at it before and after, and reads again where it is odd or
has changed (https://en.wikipedia.org/wiki/Seqlock). A slot has one writer.

Why that holds in CPython: an item of a memoryview of "Q" is copied by one `memcpy` of 8 bytes,
which compilers make one move, and slots are aligned, so a version is whole itself. `struct` would
not do for it: `pack_into` fills with zeros first, and "<Q" goes byte by byte. On x86 stores are
seen in the order in which they were made. On aarch64 they need not be, and Python has no barrier:
there the checksum, of the state and its version, decides, and a mix of two passes it once in 2**32
times.
"""

import time
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

SIZE: Final = 64
STATUSES: Final = ("idle", "busy")

_BODY = Struct("6Q")
_LAST = SIZE // 8 - 1
# The writer may be put to sleep midway: after some tries it is given time, a little over 0.1 s.
_TRIES, _AT_ONCE, _REST = 220, 20, 0.0005


class State(NamedTuple):
    """What a worker says of itself.

    `tasks` are those that it has done, `took` is the time of the last in nanoseconds, and
    `heartbeat` when it said so, in nanoseconds since 1970. All but `status` are 0 to 2**64 - 1.
    """

    id: int
    pid: int
    status: str = "idle"
    tasks: int = 0
    took: int = 0
    heartbeat: int = 0


def packed(state: State) -> bytes:
    """The state, as 48 bytes.

    >>> unpacked(packed(State(0, 4711))).pid
    4711
    """
    return _BODY.pack(*_numbers(state))


def unpacked(data: bytes) -> State:
    """The state that was packed."""
    number, pid, status, *rest = _BODY.unpack(data)
    return State(number, pid, STATUSES[status], *rest)


def publish(block: memoryview, number: int, state: State) -> None:
    """Write a state into a slot. One that cannot be is a `ValueError` or a `struct.error`.

    publish(memory.buf, 0, State(id=0, pid=os.getpid()))
    """
    numbers = _numbers(state)
    with _slot(block, number) as slot:
        written = slot[0] + 2 & ~1  # even, also where a writer was stopped midway
        slot[0] = written - 1
        _BODY.pack_into(slot, 8, *numbers)
        slot[_LAST] = _check(slot[1:_LAST], written)
        slot[0] = written


def read(block: memoryview, number: int) -> State | None:
    """Read the state in a slot, whole; None where for over 0.1 s there was none.

    So it is where nothing was written, or a writer was killed midway.

        read(memory.buf, 0).pid
    """
    with _slot(block, number) as slot:
        for tried in range(_TRIES):
            before = slot[0]
            body, check = slot[1:_LAST].tobytes(), slot[_LAST]
            if before == slot[0] and not before % 2 and check == _check(body, before):
                return unpacked(body)
            if tried > _AT_ONCE:
                time.sleep(_REST)
    return None


def _slot(block: memoryview, number: int) -> memoryview:
    return block[number * SIZE : (number + 1) * SIZE].cast("Q")


def _check(body: bytes | memoryview, version: int) -> int:
    return crc32(body, crc32(version.to_bytes(8)))


def _numbers(state: State) -> tuple[int, ...]:
    number, pid, status, *rest = state
    return number, pid, STATUSES.index(status), *rest
