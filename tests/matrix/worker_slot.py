"""The writer and the reader of a worker's slot, as `assert_atomic_reads` takes them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.shared_memory import SharedMemory

from reference_impl import slots


@contextmanager
def shared_slot() -> Iterator[SharedMemory]:
    """Yield shared memory with one slot, and release it at the end."""
    memory = SharedMemory(create=True, size=slots.SIZE)
    try:
        yield memory
    finally:
        memory.unlink()
        memory.close()


def write(memory: SharedMemory, number: int) -> None:
    """Write a state whose numeric fields are all `number`."""
    state = slots.State(number, number, "busy", tasks=number, took=number, heartbeat=number)
    slots.publish(memory.buf, 0, state)


def read(memory: SharedMemory) -> Sequence[int] | None:
    """Return the numeric fields of the state, or None if the slot holds no whole state."""
    state = slots.read(memory.buf, 0)
    return state and (state.id, state.pid, state.tasks, state.took, state.heartbeat)
