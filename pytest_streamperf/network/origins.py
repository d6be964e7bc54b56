"""Track which test started the code that is running, across threads, tasks and processes.

An origin is a name: a test, a guard within a test, or the whole session. `origin_here` returns the
origin of the current thread and task. `started_here` returns the line that started them.

A context variable carries the origin into tasks, and into threads that copy their context. Other
threads and executor jobs copy no context: `carried` wraps the functions that start them. Listeners
in `origin_listeners` receive each change of a thread's origin.
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
    """The origin, line and request that started a thread, task or job."""

    origin: str
    line: Line | None = None
    request: str = ""


# Called as listener(since, process, thread, origin): from the time `since` on, in seconds, the
# thread works for the origin. Process and thread are the numbers that the system gives them.
origin_listeners: list[Callable[[float, int, int, str], None]] = []

_origin: ContextVar[str | None] = ContextVar("streamperf_origin", default=None)
# Origins for code that no test is known to have started; the last one applies.
_phase = [STARTUP]
_by_thread: "weakref.WeakKeyDictionary[threading.Thread, Started]" = weakref.WeakKeyDictionary()
_by_task: "weakref.WeakKeyDictionary[Any, Started]" = weakref.WeakKeyDictionary()
_job = threading.local()


def origin_here() -> str:
    """Return the origin of the current thread and task."""
    own_origin = _origin.get()
    if own_origin is not None:
        return own_origin
    started = _start_of_thread()
    return started.origin if started is not None else _phase[-1]


def started_here() -> Started | None:
    """Return how the current task, or else thread, was started; None in the main thread."""
    if running_loop() == "asyncio":
        task = asyncio.current_task()
        if task is not None and task in _by_task:
            return _by_task[task]
    return _start_of_thread()


def _start_of_thread() -> Started | None:
    job: Started | None = getattr(_job, "started", None)
    return job or _by_thread.get(threading.current_thread())


@contextmanager
def origin(name: str) -> Iterator[None]:
    """Attribute to origin `name` all that this thread and its tasks start in this context."""
    outer, before = origin_here(), _origin.set(name)
    _announce(name)
    try:
        yield
    finally:
        with suppress(ValueError):  # the context was entered in a task that is over
            _origin.reset(before)
        _announce(outer)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Attribute to origin `name` all that has no known origin while this context is open."""
    _phase.append(name)
    _announce(name)
    try:
        yield
    finally:
        _phase.remove(name)


def _announce(name: str, thread: int = 0, process: int = 0, since: float = 0.0) -> None:
    for listener in origin_listeners:
        listener(
            since or clock.wall(),
            process or os.getpid(),
            thread or threading.get_native_id(),
            name,
        )


def starting(frame: FrameType | None) -> Started:
    """Return the origin, line and request of the code that starts a thread, task or job now."""
    outer = started_here()
    frames = [*stack(frame)]
    request = request_in(frames) or (outer.request if outer is not None else "")
    return Started(origin_here(), line_of(frames), request)


@contextmanager
def carried() -> Iterator[None]:
    """Carry origins into threads, jobs, tasks, processes and exit handlers that start meanwhile."""
    thread, pool = threading.Thread, concurrent.futures.ThreadPoolExecutor
    loop, low = asyncio.BaseEventLoop, sys.modules["_thread"]
    patches = (
        (thread, "start", _thread_start_wrapper(thread.start)),
        (pool, "submit", _submit_wrapper(pool.submit)),
        (loop, "create_task", _create_task_wrapper(loop.create_task)),
        (low, "start_new_thread", _start_new_thread_wrapper(start_new_thread)),
        (atexit, "register", _atexit_register_wrapper(atexit.register)),
        (subprocess.Popen, "__init__", _process_start_wrapper(subprocess.Popen.__init__)),
        (BaseProcess, "start", _process_start_wrapper(BaseProcess.start)),
    )
    originals = [(holder, name, vars(holder)[name]) for holder, name, _ in patches]
    for holder, name, wrapper in patches:
        setattr(holder, name, wrapper)
    try:
        yield
    finally:
        for holder, name, original in originals:
            setattr(holder, name, original)


def _thread_start_wrapper(start: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(start)
    def started(self: threading.Thread) -> None:
        record = _by_thread[self] = starting(sys._getframe(1))  # noqa: SLF001 - the caller's line
        since = clock.wall()  # before the start: the thread may make an attempt before `_announce`
        start(self)
        _announce(record.origin, self.native_id or 0, since=since)

    return started


def _submit_wrapper(submit: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(submit)
    def submitted(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return submit(self, _Job(fn, starting(sys._getframe(1))), *args, **kwargs)  # noqa: SLF001

    return submitted


def _process_start_wrapper(start: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(start)
    def started(self: Any, *args: Any, **kwargs: Any) -> Any:
        since = clock.wall()
        result = start(self, *args, **kwargs)
        _announce(
            origin_here(), self.pid, self.pid, since
        )  # the main thread has the process's number
        return result

    return started


def _atexit_register_wrapper(register: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(register)
    def registered(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        register(_Job(function, starting(sys._getframe(1))), *args, **kwargs)  # noqa: SLF001
        return function

    return registered


if hasattr(os, "register_at_fork"):  # POSIX
    os.register_at_fork(after_in_child=lambda: _announce(origin_here()))


def _start_new_thread_wrapper(start: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(start)
    def started(function: Callable[..., Any], args: Any, *kwargs: Any) -> Any:
        return start(_Job(function, starting(sys._getframe(1))), args, *kwargs)  # noqa: SLF001

    return started


class _Job:
    """A callable that runs a function for the origin that scheduled it.

    It equals that function, so that `atexit.unregister` still finds it.
    """

    def __init__(self, function: Callable[..., Any], started: Started) -> None:
        self._function, self._started = function, started

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        outer, before = origin_here(), getattr(_job, "started", None)
        _job.started = self._started
        _announce(self._started.origin)
        try:
            return self._function(*args, **kwargs)
        finally:
            _job.started = before
            _announce(outer)

    def __eq__(self, other: object) -> bool:
        return self._function == other

    def __hash__(self) -> int:
        return hash(self._function)


def _create_task_wrapper(create: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(create)
    def created(self: Any, *args: Any, **kwargs: Any) -> Any:
        task = create(self, *args, **kwargs)
        _by_task[task] = starting(sys._getframe(1))  # noqa: SLF001
        return task

    return created


# By module of an HTTP client: the local variable that holds the request in its frames.
_REQUEST_VARIABLES = {
    "httpx._client": "request",
    "httpx2._client": "request",
    "requests.sessions": "request",
    "urllib.request": "req",
}


def request_in(frames: list[FrameType]) -> str:
    """Return the request that an HTTP client makes in these frames: "GET https://host/path".

    The result is "" if no frame belongs to a supported client.
    """
    for frame in frames:
        name = _REQUEST_VARIABLES.get(frame.f_globals.get("__name__", ""))
        request = frame.f_locals.get(name) if name else None
        if request is not None and not isinstance(request, str):
            return _request_text(request)
    return ""


def _request_text(request: Any) -> str:
    """Return the method and URL, without credentials, query and fragment, which may be secret."""
    method = getattr(request, "method", None) or getattr(request, "get_method", str)()
    url = urlsplit(str(getattr(request, "url", None) or getattr(request, "full_url", "")))
    if not method or not url.hostname:
        return ""
    port = f":{url.port}" if url.port is not None else ""
    return f"{method} {url.scheme}://{url.hostname}{port}{url.path}"
