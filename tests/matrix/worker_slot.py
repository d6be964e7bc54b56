"""Write and read one slot of the worker registry, for `assert_atomic_reads`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.shared_memory import SharedMemory

from reference_impl import slots


@contextmanager
def shared_slot() -> Iterator[SharedMemory]:
    """Give shared memory for one worker, and release it at the end."""
    memory = SharedMemory(create=True, size=slots.SIZE)
    try:
        yield memory
    finally:
        memory.unlink()
        memory.close()


def write(memory: SharedMemory, number: int) -> None:
    """Publish a state that has this number in every field."""
    state = slots.State(number, number, "busy", tasks=number, took=number, heartbeat=number)
    slots.publish(memory.buf, 0, state)


def read(memory: SharedMemory) -> Sequence[int] | None:
    """Return the fields of the state, or None if no whole state was read."""
    state = slots.read(memory.buf, 0)
    return state and (state.id, state.pid, state.tasks, state.took, state.heartbeat)
