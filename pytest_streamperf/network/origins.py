"""Who started what runs here: the test, whichever thread or task it has come to since.

A context variable carries it into tasks, and into threads that copy their context. Into other
threads, executors' too, it is carried by wrappers around what starts them; `carried` puts those in
place for as long as it is open.
"""

import asyncio
import atexit
import concurrent.futures
import functools
import os
import subprocess
import sys
import threading
import weakref
from _thread import start_new_thread
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pytest_streamperf._runtime import clock
from pytest_streamperf._runtime.context import Line, line_of, running_loop, stack
from pytest_streamperf.network.attempts import STARTUP


class Started(NamedTuple):
    """Who started something, on which line, in the course of which request."""

    origin: str
    line: Line | None = None
    request: str = ""


# Who is told that from a time on a thread of a process, by their numbers, works for an origin.
told: list[Callable[[float, int, int, str], None]] = []

_origin: ContextVar[str | None] = ContextVar("streamperf_origin", default=None)
_phase = [STARTUP]
_by_thread: "weakref.WeakKeyDictionary[threading.Thread, Started]" = weakref.WeakKeyDictionary()
_by_task: "weakref.WeakKeyDictionary[Any, Started]" = weakref.WeakKeyDictionary()
_job = threading.local()


def origin_here() -> str:
    """The origin of what runs in this thread and task."""
    found = _origin.get()
    if found is not None:
        return found
    started = _of_thread()
    return started.origin if started is not None else _phase[-1]


def started_here() -> Started | None:
    """How the task, or else the thread, that runs here was started; None in the main thread."""
    if running_loop() == "asyncio":
        task = asyncio.current_task()
        if task is not None and task in _by_task:
            return _by_task[task]
    return _of_thread()


def _of_thread() -> Started | None:
    job: Started | None = getattr(_job, "started", None)
    return job or _by_thread.get(threading.current_thread())


@contextmanager
def origin(name: str) -> Iterator[None]:
    """Take what this thread and its tasks start for `name`'s while open."""
    outer, before = origin_here(), _origin.set(name)
    _tell(name)
    try:
        yield
    finally:
        with suppress(ValueError):  # of a task that is over, and of nothing else
            _origin.reset(before)
        _tell(outer)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Take what nobody is known to have started for `name`'s while open."""
    _phase.append(name)
    _tell(name)
    try:
        yield
    finally:
        _phase.remove(name)


def _tell(name: str, thread: int = 0, process: int = 0, since: float = 0.0) -> None:
    for tell in told:
        tell(
            since or clock.wall(),
            process or os.getpid(),
            thread or threading.get_native_id(),
            name,
        )


def starting(frame: FrameType | None) -> Started:
    """What is to be known of something that is being started from here."""
    outer = started_here()
    frames = [*stack(frame)]
    request = request_in(frames) or (outer.request if outer is not None else "")
    return Started(origin_here(), line_of(frames), request)


@contextmanager
def carried() -> Iterator[None]:
    """Carry origins into threads, executors' jobs, tasks, and what is done at exit."""
    thread, pool = threading.Thread, concurrent.futures.ThreadPoolExecutor
    loop, low = asyncio.BaseEventLoop, sys.modules["_thread"]
    puts = (
        (thread, "start", _thread_starter(thread.start)),
        (pool, "submit", _submitter(pool.submit)),
        (loop, "create_task", _task_maker(loop.create_task)),
        (low, "start_new_thread", _low_starter(start_new_thread)),
        (atexit, "register", _exit_registrar(atexit.register)),
        (subprocess.Popen, "__init__", _process_starter(subprocess.Popen.__init__)),
        (BaseProcess, "start", _process_starter(BaseProcess.start)),
    )
    before = [(holder, name, vars(holder)[name]) for holder, name, _ in puts]
    for holder, name, wrapper in puts:
        setattr(holder, name, wrapper)
    try:
        yield
    finally:
        for holder, name, own in before:
            setattr(holder, name, own)


def _thread_starter(start: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(start)
    def started(self: threading.Thread) -> None:
        by = _by_thread[self] = starting(sys._getframe(1))  # noqa: SLF001 - who asks
        since = clock.wall()  # it may have tried something by the time that it is told of
        start(self)
        _tell(by.origin, self.native_id or 0, since=since)

    return started


def _submitter(submit: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(submit)
    def submitted(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return submit(self, _Job(fn, starting(sys._getframe(1))), *args, **kwargs)  # noqa: SLF001

    return submitted


def _process_starter(start: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(start)
    def started(self: Any, *args: Any, **kwargs: Any) -> Any:
        since = clock.wall()
        done = start(self, *args, **kwargs)
        _tell(origin_here(), self.pid, self.pid, since)
        return done

    return started


def _exit_registrar(register: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(register)
    def registered(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        register(_Job(function, starting(sys._getframe(1))), *args, **kwargs)  # noqa: SLF001
        return function

    return registered


if hasattr(os, "register_at_fork"):  # POSIX
    os.register_at_fork(after_in_child=lambda: _tell(origin_here()))


def _low_starter(start: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(start)
    def started(function: Callable[..., Any], args: Any, *kwargs: Any) -> Any:
        return start(_Job(function, starting(sys._getframe(1))), args, *kwargs)  # noqa: SLF001

    return started


class _Job:
    """A function that knows who asked for it, and is the same as it to who takes it back."""

    def __init__(self, function: Callable[..., Any], started: Started) -> None:
        self._function, self._started = function, started

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        outer, before = origin_here(), getattr(_job, "started", None)
        _job.started = self._started
        _tell(self._started.origin)
        try:
            return self._function(*args, **kwargs)
        finally:
            _job.started = before
            _tell(outer)

    def __eq__(self, other: object) -> bool:
        return self._function == other

    def __hash__(self) -> int:
        return hash(self._function)


def _task_maker(create: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(create)
    def created(self: Any, *args: Any, **kwargs: Any) -> Any:
        task = create(self, *args, **kwargs)
        _by_task[task] = starting(sys._getframe(1))  # noqa: SLF001
        return task

    return created


# Clients whose requests are told: the module of a frame, and what it calls the request.
_CLIENTS = {
    "httpx._client": "request",
    "httpx2._client": "request",
    "requests.sessions": "request",
    "urllib.request": "req",
}


def request_in(frames: list[FrameType]) -> str:
    """The request that a client library is making in these frames: "GET https://host/path"."""
    for frame in frames:
        name = _CLIENTS.get(frame.f_globals.get("__name__", ""))
        found = frame.f_locals.get(name) if name else None
        if found is not None and not isinstance(found, str):
            return _described(found)
    return ""


def _described(request: Any) -> str:
    """Without credentials, query and fragment: those are secrets, often enough."""
    method = getattr(request, "method", None) or getattr(request, "get_method", str)()
    url = urlsplit(str(getattr(request, "url", None) or getattr(request, "full_url", "")))
    if not method or not url.hostname:
        return ""
    port = f":{url.port}" if url.port is not None else ""
    return f"{method} {url.scheme}://{url.hostname}{port}{url.path}"
