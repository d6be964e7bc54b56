"""Worker processes, and a registry that reports the state of each worker.

`Registry.snapshot` starts the workers at its first call, and returns:

    {"shared": whether the states are in shared memory,
     "workers": [{"id", "pid", "status": "idle", "busy", "gone" or "unknown",
                  "tasks", "took", "heartbeat"}, ...]}

Four times a second, each worker does the same task and publishes how long it `took`, in
nanoseconds. A task that takes longer than before shows that the machine is busy, whatever the
server does.
Workers publish their states through shared memory (see `slots`). Where there is no shared memory,
they send them through a pipe, and the server keeps the latest state of each worker.

No process and no shared memory outlives the server. The memory loses its name as soon as all
workers have opened it. A worker ends at a signal, when its pipe closes, or when its parent process
changes, so also after the server was killed. If the server is killed while workers start, Python's
resource tracker removes the memory and prints a warning.

The workers are spawned, so a script that starts them needs `if __name__ == "__main__":`.
"""

import asyncio
import hashlib
import os
import signal
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Final, Protocol

from reference_impl import slots
from reference_impl.slots import State

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess
    from multiprocessing.shared_memory import SharedMemory

PATH: Final = "/api/dev/workers"

_DEFAULT_WORKERS = 2
# Seconds between two tasks, for a worker to start, and for a worker to end. Not measured.
_TASK_INTERVAL, _TO_START, _TO_STOP = 0.25, 30.0, 5.0
# A task is the SHA-256 of these 256 KiB of zeros. Not measured.
_TASK_DATA = bytes(2**18)


class Registry:
    """A team of workers: the first `snapshot` starts them, and `close` stops them for good.

    with closing(Registry()) as registry:
        registry.snapshot()["workers"][0]["pid"]
    """

    def __init__(self, count: int = _DEFAULT_WORKERS) -> None:
        self._count = count
        self._team: _Team | None = None
        self._lock = threading.Lock()
        self.closed = False

    def snapshot(self) -> dict[str, Any]:
        """Return the current state of every worker, as JSON data.

        The first call waits for the workers to start. Raises `ChildProcessError` if a worker does
        not start within 30 seconds, and `RuntimeError` after `close`.
        """
        # The lock keeps `close` from releasing the states while this method reads them. The workers
        # take no lock, so they go on writing.
        with self._lock:
            if self.closed:
                raise RuntimeError("the workers were stopped")
            if self._team is None:
                self._team = _Team(self._count)
            return self._team.snapshot()

    def close(self) -> None:
        """Stop the workers and release their shared memory, after a snapshot that is being read."""
        with self._lock:
            self.closed = True
            if self._team is not None:
                self._team.close()
                self._team = None


class OfTheLoop:
    """A registry that is closed when its event loop ends.

    The registry lives in an async generator, which the event loop closes at its end. So the workers
    stop with the server, even if the server sends no lifespan event to the app.
    """

    def __init__(self) -> None:
        self._lasting: AsyncGenerator[Registry, None] | None = None
        self._registry = Registry()

    async def get(self) -> Registry:
        """Return the registry of the running event loop; a closed one is replaced by a new one."""
        if self._lasting is None or self._registry.closed:
            self._lasting = _lasting()
            self._registry = await anext(self._lasting)
        return self._registry


async def _lasting() -> AsyncGenerator[Registry, None]:
    """Yield a registry, and close it when the event loop closes this generator."""
    registry = Registry()
    try:
        yield registry
    finally:
        await asyncio.to_thread(registry.close)  # may wait for starting workers


class _StateBoard(Protocol):
    """The latest states of all workers: workers write them, and the server reads them.

    `name` is the name of the shared memory, or "" if workers send their states through pipes.
    `wait_until_opened` waits until every worker has published its first state.
    """

    name: str

    def wait_until_opened(self, pipes: Sequence[Connection]) -> None: ...
    def read(self, number: int) -> State | None: ...
    def close(self) -> None: ...


class _Team:
    """The worker processes of a registry, and the board with their states."""

    def __init__(self, count: int) -> None:
        self._processes: list[SpawnProcess] = []
        self._pipes: list[Connection] = []
        self._board = _create_board(count)
        with ExitStack() as undo:
            undo.callback(self.close)
            for number in range(count):
                self._start_worker(number)
            for pipe in self._pipes:
                if not pipe.poll(_TO_START):
                    raise ChildProcessError(f"a worker did not start in {_TO_START:g} s")
            try:
                self._board.wait_until_opened(self._pipes)
            except (EOFError, ConnectionError):
                raise ChildProcessError("a worker ended as it started") from None
            undo.pop_all()

    def _start_worker(self, number: int) -> None:
        spawning = get_context("spawn")
        server_end, worker_end = spawning.Pipe()
        self._pipes.append(server_end)
        with worker_end:
            process = spawning.Process(
                target=_work, args=(number, self._board.name, worker_end), daemon=True
            )
            process.start()
        self._processes.append(process)

    def snapshot(self) -> dict[str, Any]:
        """Return the current state of every worker, as JSON data."""
        return {
            "shared": bool(self._board.name),
            "workers": [self._worker_report(number) for number in range(len(self._processes))],
        }

    def _worker_report(self, number: int) -> dict[str, Any]:
        """Return the state of one worker; its status is "gone" if its process has ended."""
        process = self._processes[number]
        alive, state = process.is_alive(), self._board.read(number)
        latest = state or State(number, process.pid or 0, "unknown")
        return latest._asdict() if alive else latest._asdict() | {"status": "gone"}

    def close(self) -> None:
        """Stop the workers, by force if they do not end in time: they hold no data to lose."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(_TO_STOP)
            process.kill()
            process.join()
            process.close()
        self._board.close()
        for pipe in self._pipes:
            pipe.close()


class _SharedMemoryBoard:
    """A board in shared memory, with a slot for each worker."""

    def __init__(self, count: int) -> None:
        from multiprocessing.shared_memory import SharedMemory  # noqa: PLC0415 - may be missing

        self._memory = SharedMemory(create=True, size=count * slots.SIZE)
        self._block = _block(self._memory)
        self._has_name = True
        self.name = self._memory.name

    def wait_until_opened(self, pipes: Sequence[Connection]) -> None:
        for pipe in pipes:
            pipe.recv_bytes()
        self._unlink()

    def _unlink(self) -> None:
        if self._has_name:
            self._has_name = False
            self._memory.unlink()

    def read(self, number: int) -> State | None:
        return slots.read(self._block, number)

    def close(self) -> None:
        self._unlink()
        self._memory.close()


class _PipeBoard:
    """A board that a thread fills from the pipes of the workers.

    A worker waits until the thread has stored the state that it sent.
    """

    name = ""

    def __init__(self) -> None:
        self._states: dict[int, State] = {}
        self._listener: threading.Thread | None = None

    def wait_until_opened(self, pipes: Sequence[Connection]) -> None:
        for pipe in pipes:
            self._receive_state(pipe)
        self._listener = threading.Thread(target=self._listen, args=(pipes,), daemon=True)
        self._listener.start()

    def _listen(self, pipes: Sequence[Connection]) -> None:
        open_pipes = list(pipes)
        while open_pipes:
            ready = wait(open_pipes)
            for pipe in [open_pipe for open_pipe in open_pipes if open_pipe in ready]:
                try:
                    self._receive_state(pipe)
                except (EOFError, OSError):
                    open_pipes.remove(pipe)

    def _receive_state(self, pipe: Connection) -> None:
        state = slots.unpacked(pipe.recv_bytes())
        self._states[state.id] = state
        pipe.send_bytes(b"")

    def read(self, number: int) -> State | None:
        return self._states.get(number)

    def close(self) -> None:
        if self._listener is not None:
            self._listener.join()


def _create_board(count: int) -> _StateBoard:
    """Return a board in shared memory, or one that uses pipes if there is no shared memory."""
    try:
        return _SharedMemoryBoard(count)
    except (ImportError, OSError):
        return _PipeBoard()


def _block(memory: "SharedMemory") -> memoryview:
    assert memory.buf is not None  # noqa: S101 - the memory is open
    return memory.buf


def _work(number: int, name: str, pipe: Connection) -> None:
    """Run one worker in this process, until the server ends it or is gone itself.

    `name` is the name of the shared memory for the states, or "" to send them through `pipe`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C stops the server, which ends its workers
    parent = os.getppid()
    with suppress(EOFError, OSError), ExitStack() as stack:  # errors: the server is gone
        publish = _state_publisher(name, number, pipe, stack)
        state = State(number, os.getpid(), heartbeat=time.time_ns())
        publish(state)
        if name:
            pipe.send_bytes(b"")
        while not pipe.poll(_TASK_INTERVAL) and os.getppid() == parent:
            publish(state._replace(status="busy", heartbeat=time.time_ns()))
            start = time.perf_counter_ns()
            hashlib.sha256(_TASK_DATA).digest()
            took = time.perf_counter_ns() - start
            state = state._replace(tasks=state.tasks + 1, took=took, heartbeat=time.time_ns())
            publish(state)


def _state_publisher(
    name: str, number: int, pipe: Connection, stack: ExitStack
) -> Callable[[State], object]:
    """Return the function that publishes the states of one worker.

    `name` is the name of the shared memory, or "" to send the states through `pipe`. `stack` closes
    the shared memory.
    """
    if name:
        from multiprocessing.shared_memory import SharedMemory  # noqa: PLC0415

        memory = SharedMemory(name)
        stack.callback(memory.close)
        return partial(slots.publish, _block(memory), number)

    def publish(state: State) -> None:
        pipe.send_bytes(slots.packed(state))
        pipe.recv_bytes()

    return publish
