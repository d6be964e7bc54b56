"""Observe network attempts inside Python, with audit hooks (PEP 578).

In: the audit events of Python's `socket`, `subprocess`, `os` and `ctypes` modules, in this process
and its forked children. Out: an `Attempt` in the journal for each event that may reach a network,
with the line, task and thread that caused it. An attempt that the guard refuses raises
`BlockedFetch`.

The rules: native code raises no such events, so the kernel layer covers it. Python cannot remove an
audit hook, so the hooks do nothing while no watch is open. An error in a hook never reaches the
observed code: the hook records an attempt with an unknown target instead. An event that is not
handled runs no Python code.
"""

import os
import socket
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any

from pytest_streamperf._runtime import clock
from pytest_streamperf._runtime.context import line_of, running_task, stack
from pytest_streamperf.exceptions import BlockedFetch
from pytest_streamperf.network import origins
from pytest_streamperf.network.attempts import Attempt, Kind, is_address, is_local, stays_here
from pytest_streamperf.network.journal import Journal

# Further attempts of one origin add nothing to a verdict and let the journal grow. Allowed and
# other attempts are counted apart. Not measured.
_MOST_RECORDED = 1_000


class Watch:
    """Records network attempts in a journal.

    `decide` returns whether an attempt is allowed, and whether to refuse it. Attempts that stay on
    this machine are not recorded.
    """

    def __init__(
        self, journal: Journal, decide: Callable[["Watch", Attempt], tuple[bool, bool]]
    ) -> None:
        self._journal = journal
        self._decide = decide
        self._bound: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._names: dict[str, str] = {}
        self._recorded: Counter[tuple[str, bool]] = Counter()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record attempts while this context is open."""
        if not _installed:
            for hook in _HOOKS:
                sys.addaudithook(hook)
            _installed.append(True)
        look_up = socket.getaddrinfo
        socket.getaddrinfo = self._remembering(look_up)
        _watches.append(self)
        try:
            with origins.carried(), _pytest_socket_observed():
                yield
        finally:
            _watches.remove(self)
            socket.getaddrinfo = look_up

    def listening(self) -> list[tuple[str, int]]:
        """Return the (host, port) pairs that sockets of this process are bound to."""
        addresses = []
        for bound_socket in list(self._bound):
            with suppress(OSError):
                addresses.append(bound_socket.getsockname()[:2])
        return addresses

    def bound(self, socket_: Any) -> None:
        """Remember a socket that is bound to an address, by weak reference."""
        with suppress(TypeError):  # some socket classes allow no weak references
            self._bound.add(socket_)

    def tried(self, frame: FrameType, kind: Kind, **where: Any) -> None:
        """Record an attempt. Raises `BlockedFetch` if the guard refuses it."""
        if stays_here(kind, where.get("address") or where.get("host", ""), where.get("port")):
            return
        started = origins.started_here()
        frames = [*stack(frame)]
        request = origins.request_in(frames)
        if not request and started is not None:
            request = started.request
        attempt = Attempt(
            kind=kind,
            origin=origins.origin_here(),
            line=line_of(frames),
            started=started.line if started is not None else None,
            request=request,
            task=_task_name(running_task()),
            thread_name=threading.current_thread().name,
            process=os.getpid(),
            thread=threading.get_native_id(),
            time=clock.wall(),
            **where,
        )
        allowed, refused = self._decide(self, attempt)
        self._record(replace(attempt, allowed=allowed, blocked=refused))
        if refused:
            msg = f"{attempt.target} may not be reached: pytest-streamperf is in the way"
            raise BlockedFetch(msg)

    def missed(self, event: str) -> None:
        """Record an audit event that the hook could not interpret.

        A socket event counts as an attempt with an unknown target. `socket.bind` reaches nothing.
        """
        if event.startswith("socket.") and event != "socket.bind":
            host = f"an unknown host, by {event}"
            origin, thread = origins.origin_here(), threading.get_native_id()
            self._record(
                Attempt(
                    kind="connect",
                    host=host,
                    origin=origin,
                    process=os.getpid(),
                    thread=thread,
                    time=clock.wall(),
                )
            )

    def _record(self, attempt: Attempt) -> None:
        group = attempt.origin, attempt.allowed
        self._recorded[group] += 1
        if self._recorded[group] <= _MOST_RECORDED:
            self._journal.write({"attempt": attempt.plain()})

    def name_of(self, address: str) -> str:
        """Return the host name whose lookup gave this address, or "" if no lookup was observed."""
        return self._names.get(address, "")

    def _remembering(self, look_up: Callable[..., Any]) -> Callable[..., Any]:
        def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
            if not isinstance(host, str) or is_address(host):
                return look_up(host, *args, **kwargs)
            question = Attempt(kind="resolve", host=host, origin=origins.origin_here())
            if is_local(host) or not self._decide(self, question)[0]:
                results = look_up(host, *args, **kwargs)
            else:
                results = self._look_up_allowed(look_up, host, *args, **kwargs)
            self._names.update({str(address[0]): host for *_, address in results})
            return results

        return getaddrinfo

    def _look_up_allowed(self, look_up: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Look up an allowed name, and publish the lookup and its addresses in the journal.

        The kernel supervisor reads both there, so that it allows the query and the addresses.
        """
        thread, results = threading.get_native_id(), []
        self._journal.write({"resolving": thread})
        try:
            results = look_up(*args, **kwargs)
        finally:
            reachable = sorted({str(address[0]) for *_, address in results})
            self._journal.write({"resolved": thread, "reachable": reachable})
        return results


# Not empty once the audit hook is installed: it stays for the life of the process.
_installed: list[bool] = []
_watches: list[Watch] = []


def _record_connection(watch: Watch, args: tuple[Any, ...], frame: FrameType) -> None:
    """Record `socket.connect`, `sendto` and `sendmsg`: `args` are a socket and an address."""
    caller, address = args
    if address is None:
        return
    if caller.family not in _INTERNET:
        if caller.family == getattr(socket, "AF_UNIX", None):
            watch.tried(frame, "unix", address=os.fsdecode(address))
        return
    host, port = str(address[0]), int(address[1])
    kind: Kind = "connect" if caller.type == socket.SOCK_STREAM else "datagram"
    if is_address(host):
        watch.tried(frame, kind, host=watch.name_of(host), address=host, port=port)
    else:  # connecting to a name looks it up first
        watch.tried(frame, "resolve", host=host)
        watch.tried(frame, kind, host=host, port=port)


def _record_lookup(watch: Watch, args: tuple[Any, ...], frame: FrameType) -> None:
    """Record a name lookup, or a reverse lookup of an address."""
    host = args[0][0] if isinstance(args[0], tuple) else args[0]
    name = os.fsdecode(host) if isinstance(host, str | bytes) else ""
    reverse = len(args) == 1 and is_address(name)
    if not is_local(name) and (reverse or not is_address(name)):
        watch.tried(frame, "resolve", host=name)


def _record_spawn(watch: Watch, args: tuple[Any, ...], frame: FrameType) -> None:
    watch.tried(frame, "spawn", host=str(args[0]) if args else "fork")


def _record_library(watch: Watch, args: tuple[Any, ...], frame: FrameType) -> None:
    watch.tried(frame, "library", host=str(args[0]))


def _remember_bound(watch: Watch, args: tuple[Any, ...], _frame: FrameType) -> None:
    watch.bound(args[0])


_INTERNET = {socket.AF_INET, socket.AF_INET6}
# The audit events that are handled: https://docs.python.org/3/library/audit_events.html
_EVENTS: Mapping[str, Callable[[Watch, tuple[Any, ...], FrameType], None]] = {
    "socket.connect": _record_connection,
    "socket.sendto": _record_connection,
    "socket.sendmsg": _record_connection,
    "socket.getaddrinfo": _record_lookup,
    "socket.gethostbyname": _record_lookup,
    "socket.gethostbyaddr": _record_lookup,
    "socket.getnameinfo": _record_lookup,
    "socket.bind": _remember_bound,
    "subprocess.Popen": _record_spawn,
    "os.system": _record_spawn,
    "os.posix_spawn": _record_spawn,
    "os.exec": _record_spawn,
    "os.fork": _record_spawn,
    "ctypes.dlopen": _record_library,
}


class _Handler:
    """A descriptor that hands the arguments of one audit event to all open watches."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._handle = _EVENTS[event]

    def __set__(self, _sink: object, args: tuple[Any, ...]) -> None:
        for watch in _watches:
            try:
                self._handle(watch, args, sys._getframe(1))  # noqa: SLF001 - it raised the event
            except BlockedFetch:
                raise
            except Exception:  # noqa: BLE001 - an error of ours must not break the observed code
                watch.missed(self._event)


# A hook in Python would let other threads run at each event, even at `sys.setprofile`, which memray
# and `threading.setprofile_all_threads` raise while they walk the list of threads. If a thread ends
# then, the walk reads freed memory. So the hooks are C: `setattr` calls a handler for the events
# that have one, and stores the arguments of all others, which `pop` removes.
_sink = type("_Sink", (), {event: _Handler(event) for event in _EVENTS})()
_HOOKS = (partial(setattr, _sink), vars(_sink).pop)


@contextmanager
def _pytest_socket_observed() -> Iterator[None]:
    """Record attempts that pytest-socket refuses, for as long as this context is open.

    pytest-socket refuses before Python raises an audit event. It then creates one of its errors, in
    a frame whose local variables hold the target, so this context wraps their constructors.
    """
    pytest_socket = sys.modules.get("pytest_socket")
    error_classes = [
        getattr(pytest_socket, name)
        for name in ("SocketBlockedError", "SocketConnectBlockedError")
        if hasattr(pytest_socket, name)
    ]
    constructors = {error_class: error_class.__init__ for error_class in error_classes}
    for error_class, init in constructors.items():
        error_class.__init__ = _recording(init)
    try:
        yield
    finally:
        for error_class, init in constructors.items():
            error_class.__init__ = init


def _recording(init: Callable[..., None]) -> Callable[..., None]:
    def __init__(self: object, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - a constructor
        frame = sys._getframe(1)  # noqa: SLF001 - the function of pytest-socket that refuses
        handle = _REFUSALS.get(frame.f_code.co_name, _ignore)
        for watch in _watches:
            try:
                handle(watch, frame)
            except BlockedFetch:  # pytest-socket refuses it with its own error
                continue
            except Exception:  # noqa: BLE001 - an error of ours must not break the observed code
                watch.missed("socket.connect")
        init(self, *args, **kwargs)

    return __init__


def _ignore(_watch: Watch, _frame: FrameType) -> None:
    """Do nothing: an unknown function created the error."""


def _record_refused_socket(watch: Watch, frame: FrameType) -> None:
    # pytest-socket refuses to create the socket, so the target is unknown.
    if frame.f_locals["family"] in {*_INTERNET, -1}:
        watch.tried(frame, "connect", host="an unknown host, by socket.socket")


# By function of pytest-socket: how to read the target from the local variables of its frame.
_REFUSALS: Mapping[str, Callable[[Watch, FrameType], None]] = {
    "guarded_connect": lambda watch, frame: _record_connection(
        watch, (frame.f_locals["inst"], frame.f_locals["args"][0]), frame
    ),
    "_guarded_getaddrinfo": lambda watch, frame: _record_lookup(
        watch, frame.f_locals["_args"], frame
    ),
    "_guarded_gethostbyname": lambda watch, frame: _record_lookup(
        watch, frame.f_locals["_args"], frame
    ),
    "__new__": _record_refused_socket,
}


def _task_name(task: Any) -> str:
    name = getattr(task, "get_name", None)
    return name() if name is not None else getattr(task, "name", "")
