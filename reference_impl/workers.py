"""Worker processes, and the registry that tells what each of them does.

    {"shared": whether through shared memory,
     "workers": [{"id", "pid", "status": "idle", "busy", "gone" or "unknown",
                  "tasks", "took", "heartbeat"}, ...]}

Four times a second each does the same piece of work, and says how many nanoseconds that `took`:
where it takes longer than before the machine is busy, whatever the server does. What is said goes
through shared memory (see `slots`), or where there is none through a pipe, and is kept in a dict.

Nothing is left behind. The block loses its name when all workers have it open. They end when they
are told to, when their pipe does, or when they are given another parent: also where the server was
killed; in the moment in which they start that is left to Python's resource tracker, which says so.
They are spawned, so a script that has them started needs `if __name__ == "__main__":`.
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

_WORKERS = 2
# Seconds from task to task, for a worker to start, and to end.
_BEAT, _TO_START, _TO_END = 0.25, 30.0, 5.0
_WORK = bytes(2**18)


class Registry:
    """Workers, which start when somebody asks for the first time, and stop for good with `close`.

    with closing(Registry()) as registry:
        registry.snapshot()["workers"][0]["pid"]
    """

    def __init__(self, count: int = _WORKERS) -> None:
        self._count = count
        self._team: _Team | None = None
        self._asked = threading.Lock()
        self.closed = False

    def snapshot(self) -> dict[str, Any]:
        """What each says, as it is now.

        The first time it waits for them to start: `ChildProcessError` where one does not, in 30
        seconds. `RuntimeError` where they were stopped.
        """
        # Who asks is not told of what is being closed; the workers write all the while.
        with self._asked:
            if self.closed:
                raise RuntimeError("the workers were stopped")
            if self._team is None:
                self._team = _Team(self._count)
            return self._team.snapshot()

    def close(self) -> None:
        """Stop them, and release what they share, when who has asked was told."""
        with self._asked:
            self.closed = True
            if self._team is not None:
                self._team.close()
                self._team = None


class OfTheLoop:
    """A registry that lasts as long as the event loop, which closes async generators when it ends.

    So it ends with the server, whether or not that tells an app of its end.
    """

    def __init__(self) -> None:
        self._lasting: AsyncGenerator[Registry, None] | None = None
        self._registry = Registry()

    async def get(self) -> Registry:
        """The registry of the loop that runs."""
        if self._lasting is None or self._registry.closed:
            self._lasting = _lasting()
            self._registry = await anext(self._lasting)
        return self._registry


async def _lasting() -> AsyncGenerator[Registry, None]:
    registry = Registry()
    try:
        yield registry
    finally:
        await asyncio.to_thread(registry.close)  # it may have to wait for workers to start


class _Board(Protocol):
    """Where workers say what they do; its name, if they can open it."""

    name: str

    def opened(self, pipes: Sequence[Connection]) -> None: ...
    def read(self, number: int) -> State | None: ...
    def close(self) -> None: ...


class _Team:
    """The processes, and the board."""

    def __init__(self, count: int) -> None:
        self._processes: list[SpawnProcess] = []
        self._pipes: list[Connection] = []
        self._board = _board(count)
        with ExitStack() as undo:
            undo.callback(self.close)
            for number in range(count):
                self._start(number)
            for pipe in self._pipes:
                if not pipe.poll(_TO_START):
                    raise ChildProcessError(f"a worker did not start in {_TO_START:g} s")
            try:
                self._board.opened(self._pipes)
            except (EOFError, ConnectionError):
                raise ChildProcessError("a worker ended as it started") from None
            undo.pop_all()

    def _start(self, number: int) -> None:
        spawning = get_context("spawn")
        ours, theirs = spawning.Pipe()
        self._pipes.append(ours)
        with theirs:
            process = spawning.Process(
                target=_work, args=(number, self._board.name, theirs), daemon=True
            )
            process.start()
        self._processes.append(process)

    def snapshot(self) -> dict[str, Any]:
        """What each says."""
        return {
            "shared": bool(self._board.name),
            "workers": [self._told(number) for number in range(len(self._processes))],
        }

    def _told(self, number: int) -> dict[str, Any]:
        process = self._processes[number]
        alive, state = process.is_alive(), self._board.read(number)
        known = state or State(number, process.pid or 0, "unknown")
        return known._asdict() if alive else known._asdict() | {"status": "gone"}

    def close(self) -> None:
        """End them; they hold nothing that could be lost."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(_TO_END)
            process.kill()
            process.join()
            process.close()
        self._board.close()
        for pipe in self._pipes:
            pipe.close()


class _Shared:
    """Shared memory, a slot for each."""

    def __init__(self, count: int) -> None:
        from multiprocessing.shared_memory import SharedMemory  # noqa: PLC0415 - not everywhere

        self._memory = SharedMemory(create=True, size=count * slots.SIZE)
        self._block = _block(self._memory)
        self._named = True
        self.name = self._memory.name

    def opened(self, pipes: Sequence[Connection]) -> None:
        for pipe in pipes:
            pipe.recv_bytes()
        self._unlink()

    def _unlink(self) -> None:
        if self._named:
            self._named = False
            self._memory.unlink()

    def read(self, number: int) -> State | None:
        return slots.read(self._block, number)

    def close(self) -> None:
        self._unlink()
        self._memory.close()


class _Told:
    """What comes by the pipes, kept; each worker goes on when what it said is there."""

    name = ""

    def __init__(self) -> None:
        self._states: dict[int, State] = {}
        self._listening: threading.Thread | None = None

    def opened(self, pipes: Sequence[Connection]) -> None:
        for pipe in pipes:
            self._hear(pipe)
        self._listening = threading.Thread(target=self._listen, args=(pipes,), daemon=True)
        self._listening.start()

    def _listen(self, pipes: Sequence[Connection]) -> None:
        left = list(pipes)
        while left:
            ready = wait(left)
            for pipe in [each for each in left if each in ready]:
                try:
                    self._hear(pipe)
                except (EOFError, OSError):
                    left.remove(pipe)

    def _hear(self, pipe: Connection) -> None:
        state = slots.unpacked(pipe.recv_bytes())
        self._states[state.id] = state
        pipe.send_bytes(b"")

    def read(self, number: int) -> State | None:
        return self._states.get(number)

    def close(self) -> None:
        if self._listening is not None:
            self._listening.join()


def _board(count: int) -> _Board:
    try:
        return _Shared(count)
    except (ImportError, OSError):
        return _Told()


def _block(memory: "SharedMemory") -> memoryview:
    assert memory.buf is not None  # noqa: S101 - it is open
    return memory.buf


def _work(number: int, name: str, pipe: Connection) -> None:
    """Be a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # that is for the server, which ends its workers
    parent = os.getppid()
    with suppress(EOFError, OSError), ExitStack() as stack:  # the server is gone
        tell = _teller(name, number, pipe, stack)
        state = State(number, os.getpid(), heartbeat=time.time_ns())
        tell(state)
        if name:
            pipe.send_bytes(b"")
        while not pipe.poll(_BEAT) and os.getppid() == parent:
            tell(state._replace(status="busy", heartbeat=time.time_ns()))
            began = time.perf_counter_ns()
            hashlib.sha256(_WORK).digest()
            took = time.perf_counter_ns() - began
            state = state._replace(tasks=state.tasks + 1, took=took, heartbeat=time.time_ns())
            tell(state)


def _teller(
    name: str, number: int, pipe: Connection, stack: ExitStack
) -> Callable[[State], object]:
    if name:
        from multiprocessing.shared_memory import SharedMemory  # noqa: PLC0415

        memory = SharedMemory(name)
        stack.callback(memory.close)
        return partial(slots.publish, _block(memory), number)

    def tell(state: State) -> None:
        pipe.send_bytes(slots.packed(state))
        pipe.recv_bytes()

    return tell
