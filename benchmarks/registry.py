"""A slot of the worker registry, as `assert_atomic_reads` writes it and reads it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.shared_memory import SharedMemory

from reference_impl import slots


@contextmanager
def shared_slot() -> Iterator[SharedMemory]:
    """Shared memory for one worker, gone at the end."""
    memory = SharedMemory(create=True, size=slots.SIZE)
    try:
        yield memory
    finally:
        memory.unlink()
        memory.close()


def write(memory: SharedMemory, number: int) -> None:
    """Publish a state that says this number wherever it can."""
    state = slots.State(number, number, "busy", tasks=number, took=number, heartbeat=number)
    slots.publish(memory.buf, 0, state)


def read(memory: SharedMemory) -> Sequence[int] | None:
    """What the parts of the state say."""
    state = slots.read(memory.buf, 0)
    return state and (state.id, state.pid, state.tasks, state.took, state.heartbeat)
