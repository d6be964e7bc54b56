"""The state of a worker in shared memory: one process writes it, others read it without a lock.

`publish` writes a `State` into a slot, and `read` returns a whole state or None. A slot has one
writer and any number of readers.

A slot is eight numbers of 64 bits: a version, the six numbers of the state, and a checksum. The
version is odd while the writer writes. A reader compares the versions before and after it reads,
and reads again if they differ or are odd (https://en.wikipedia.org/wiki/Seqlock).

A version is always whole in CPython: slots are aligned, and a memoryview of "Q" copies an item by
one `memcpy` of 8 bytes, which compilers turn into one move. `struct` gives no such guarantee:
`pack_into` fills with zeros first, and "<Q" writes byte by byte.

Readers on x86 see stores in the order of the writes. Readers on aarch64 need not, and Python has no
memory barrier. There the checksum over state and version decides; a mix of two states passes it
once in 2**32 times.
"""

import time
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

SIZE: Final = 64
STATUSES: Final = ("idle", "busy")

_STATE_FORMAT = Struct("6Q")
_CHECKSUM_INDEX = SIZE // 8 - 1
# The operating system may suspend the writer while the version is odd. So a reader pauses between
# its later tries: about 200 pauses of 0.5 ms make 0.1 s. Not measured.
_TRIES, _TRIES_WITHOUT_PAUSE, _PAUSE_SECONDS = 220, 20, 0.0005


class State(NamedTuple):
    """The state that a worker publishes of itself.

    `id` is the number of the worker, `status` one of `STATUSES`, and `tasks` the number of finished
    tasks. `took` is the duration of the last task in nanoseconds. `heartbeat` is the time of
    publication, in nanoseconds since 1970. Numbers are 0 to 2**64 - 1.
    """

    id: int
    pid: int
    status: str = "idle"
    tasks: int = 0
    took: int = 0
    heartbeat: int = 0


def packed(state: State) -> bytes:
    """Return the state as 48 bytes.

    >>> unpacked(packed(State(0, 4711))).pid
    4711
    """
    return _STATE_FORMAT.pack(*_numbers_of(state))


def unpacked(data: bytes) -> State:
    """Return the state from the 48 bytes that `packed` made of it."""
    number, pid, status, *rest = _STATE_FORMAT.unpack(data)
    return State(number, pid, STATUSES[status], *rest)


def publish(block: memoryview, number: int, state: State) -> None:
    """Write a state into the slot with this number.

    Raises `ValueError` for an unknown status, and `struct.error` for a number out of range.

        publish(memory.buf, 0, State(id=0, pid=os.getpid()))
    """
    numbers = _numbers_of(state)
    with _slot(block, number) as slot:
        even_version = slot[0] + 2 & ~1  # even, also after a writer that was killed midway
        slot[0] = even_version - 1
        _STATE_FORMAT.pack_into(slot, 8, *numbers)
        slot[_CHECKSUM_INDEX] = _check(slot[1:_CHECKSUM_INDEX], even_version)
        slot[0] = even_version


def read(block: memoryview, number: int) -> State | None:
    """Return the state in the slot with this number, or None after 0.1 s without a whole state.

    A slot has no whole state before its first write, and after its writer was killed midway.

        read(memory.buf, 0).pid
    """
    with _slot(block, number) as slot:
        for attempt in range(_TRIES):
            version = slot[0]
            body, checksum = slot[1:_CHECKSUM_INDEX].tobytes(), slot[_CHECKSUM_INDEX]
            if version == slot[0] and not version % 2 and checksum == _check(body, version):
                return unpacked(body)
            if attempt > _TRIES_WITHOUT_PAUSE:
                time.sleep(_PAUSE_SECONDS)
    return None


def _slot(block: memoryview, number: int) -> memoryview:
    return block[number * SIZE : (number + 1) * SIZE].cast("Q")


def _check(body: bytes | memoryview, version: int) -> int:
    """Return the checksum over the bytes of a state and the version that it was written under."""
    return crc32(body, crc32(version.to_bytes(8)))


def _numbers_of(state: State) -> tuple[int, ...]:
    number, pid, status, *rest = state
    return number, pid, STATUSES.index(status), *rest
