"""What Python itself sees of the network: one audit hook (PEP 578), and who ran into it.

It sees what goes through Python's `socket` module, in this process and in those forked from it;
native code has ways of its own, which `seccomp` sees. An audit hook cannot be taken out: while
nobody watches, it looks at nothing.
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
from types import FrameType
from typing import Any

from pytest_streamperf._runtime import clock
from pytest_streamperf._runtime.context import line_of, running_task, stack
from pytest_streamperf.exceptions import BlockedFetch
from pytest_streamperf.network import origins
from pytest_streamperf.network.attempts import Attempt, Kind, is_address, is_local, stays_here
from pytest_streamperf.network.journal import Journal

# An origin that tries more often than this says nothing new, of what counts and of what does not.
_MOST_TAKEN = 1_000


class Watch:
    """Takes attempts down in a journal; `judge` tells for each whether it is allowed, and refused.

    What stays within the machine is not worth a line.
    """

    def __init__(
        self, journal: Journal, judge: Callable[["Watch", Attempt], tuple[bool, bool]]
    ) -> None:
        self._journal = journal
        self._judge = judge
        self._bound: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._names: dict[str, str] = {}
        self._taken: Counter[tuple[str, bool]] = Counter()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """See and take down, for as long as it is open."""
        if not _installed:
            sys.addaudithook(_hook)
            _installed.append(True)
        look_up = socket.getaddrinfo
        socket.getaddrinfo = self._remembering(look_up)
        _watches.append(self)
        try:
            with origins.carried(), _refused_by_others():
                yield
        finally:
            _watches.remove(self)
            socket.getaddrinfo = look_up

    def listening(self) -> list[tuple[str, int]]:
        """The addresses that sockets of this process are bound to."""
        found = []
        for each in list(self._bound):
            with suppress(OSError):
                found.append(each.getsockname()[:2])
        return found

    def bound(self, socket_: Any) -> None:
        """Know a socket that is bound to an address."""
        with suppress(TypeError):  # of the kind that cannot be referred to
            self._bound.add(socket_)

    def tried(self, frame: FrameType, kind: Kind, **where: Any) -> None:
        """Take an attempt down; raises `BlockedFetch` if it is refused."""
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
            task=_name(running_task()),
            thread_name=threading.current_thread().name,
            process=os.getpid(),
            thread=threading.get_native_id(),
            time=clock.wall(),
            **where,
        )
        allowed, refused = self._judge(self, attempt)
        self._take(replace(attempt, allowed=allowed, blocked=refused))
        if refused:
            msg = f"{attempt.target} may not be reached: pytest-streamperf is in the way"
            raise BlockedFetch(msg)

    def missed(self, event: str) -> None:
        """Take down an event that could not be understood: it counts, if it may be an attempt."""
        if event.startswith("socket.") and event != "socket.bind":
            host = f"somebody, by {event}"
            origin, me = origins.origin_here(), threading.get_native_id()
            self._take(
                Attempt(
                    kind="connect",
                    host=host,
                    origin=origin,
                    process=os.getpid(),
                    thread=me,
                    time=clock.wall(),
                )
            )

    def _take(self, attempt: Attempt) -> None:
        like = attempt.origin, attempt.allowed
        self._taken[like] += 1
        if self._taken[like] <= _MOST_TAKEN:
            self._journal.write({"attempt": attempt.plain()})

    def name_of(self, address: str) -> str:
        """The name that was looked up for an address, if that was seen."""
        return self._names.get(address, "")

    def _remembering(self, look_up: Callable[..., Any]) -> Callable[..., Any]:
        def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
            if not isinstance(host, str) or is_address(host):
                return look_up(host, *args, **kwargs)
            question = Attempt(kind="resolve", host=host, origin=origins.origin_here())
            if is_local(host) or not self._judge(self, question)[0]:
                found = look_up(host, *args, **kwargs)
            else:
                found = self._looked_up(look_up, host, *args, **kwargs)
            self._names.update({str(address[0]): host for *_, address in found})
            return found

        return getaddrinfo

    def _looked_up(self, look_up: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Look an allowed name up: the kernel's side is to know it, and what the name comes to."""
        me, found = threading.get_native_id(), []
        self._journal.write({"resolving": me})
        try:
            found = look_up(*args, **kwargs)
        finally:
            reachable = sorted({str(address[0]) for *_, address in found})
            self._journal.write({"resolved": me, "reachable": reachable})
        return found


_installed: list[bool] = []
_watches: list[Watch] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    see = _EVENTS.get(event)
    if see is None:
        return
    for watch in _watches:
        try:
            see(watch, args, sys._getframe(1))  # noqa: SLF001 - who did it
        except BlockedFetch:
            raise
        except Exception:  # noqa: BLE001 - what goes wrong here must not break what is watched
            watch.missed(event)


def _connects(watch: Watch, args: tuple[Any, ...], frame: FrameType) -> None:
    """`socket.connect`, `sendto` and `sendmsg`: a socket, and an address."""
    one, address = args
    if address is None:
        return
    if one.family not in _INTERNET:
        if one.family == getattr(socket, "AF_UNIX", None):
            watch.tried(frame, "unix", address=os.fsdecode(address))
        return
    host, port = str(address[0]), int(address[1])
    kind: Kind = "connect" if one.type == socket.SOCK_STREAM else "datagram"
    if is_address(host):
        watch.tried(frame, kind, host=watch.name_of(host), address=host, port=port)
    else:  # it is looked up on the way
        watch.tried(frame, "resolve", host=host)
        watch.tried(frame, kind, host=host, port=port)


def _looks_up(watch: Watch, args: tuple[Any, ...], frame: FrameType) -> None:
    """`socket.getaddrinfo` and the like: a host, or an address that has one."""
    host = args[0][0] if isinstance(args[0], tuple) else args[0]
    name = os.fsdecode(host) if isinstance(host, str | bytes) else ""
    reverse = len(args) == 1 and is_address(name)
    if not is_local(name) and (reverse or not is_address(name)):
        watch.tried(frame, "resolve", host=name)


def _spawns(watch: Watch, args: tuple[Any, ...], frame: FrameType) -> None:
    watch.tried(frame, "spawn", host=str(args[0]) if args else "fork")


def _loads(watch: Watch, args: tuple[Any, ...], frame: FrameType) -> None:
    watch.tried(frame, "library", host=str(args[0]))


def _binds(watch: Watch, args: tuple[Any, ...], _frame: FrameType) -> None:
    watch.bound(args[0])


_INTERNET = {socket.AF_INET, socket.AF_INET6}
_EVENTS: Mapping[str, Callable[[Watch, tuple[Any, ...], FrameType], None]] = {
    "socket.connect": _connects,
    "socket.sendto": _connects,
    "socket.sendmsg": _connects,
    "socket.getaddrinfo": _looks_up,
    "socket.gethostbyname": _looks_up,
    "socket.gethostbyaddr": _looks_up,
    "socket.getnameinfo": _looks_up,
    "socket.bind": _binds,
    "subprocess.Popen": _spawns,
    "os.system": _spawns,
    "os.posix_spawn": _spawns,
    "os.exec": _spawns,
    "os.fork": _spawns,
    "ctypes.dlopen": _loads,
}


@contextmanager
def _refused_by_others() -> Iterator[None]:
    """See what pytest-socket refuses before Python does anything of which it would tell.

    Whatever is refused is raised with one of its errors: who makes one holds what was asked for.
    """
    theirs = sys.modules.get("pytest_socket")
    kinds = [
        getattr(theirs, name)
        for name in ("SocketBlockedError", "SocketConnectBlockedError")
        if hasattr(theirs, name)
    ]
    before = {kind: kind.__init__ for kind in kinds}
    for kind, init in before.items():
        kind.__init__ = _telling(init)
    try:
        yield
    finally:
        for kind, init in before.items():
            kind.__init__ = init


def _telling(init: Callable[..., None]) -> Callable[..., None]:
    def __init__(self: object, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it is one
        frame = sys._getframe(1)  # noqa: SLF001 - who refuses
        see = _REFUSALS.get(frame.f_code.co_name, _looks_away)
        for watch in _watches:
            try:
                see(watch, frame)
            except BlockedFetch:  # as it is
                continue
            except Exception:  # noqa: BLE001 - as above
                watch.missed("socket.connect")
        init(self, *args, **kwargs)

    return __init__


def _looks_away(_watch: Watch, _frame: FrameType) -> None:
    """Whatever else makes such an error."""


def _refused_socket(watch: Watch, frame: FrameType) -> None:
    # Where it was to lead to is not known.
    if frame.f_locals["family"] in {*_INTERNET, -1}:
        watch.tried(frame, "connect", host="somebody, by socket.socket")


_REFUSALS: Mapping[str, Callable[[Watch, FrameType], None]] = {
    "guarded_connect": lambda watch, frame: _connects(
        watch, (frame.f_locals["inst"], frame.f_locals["args"][0]), frame
    ),
    "_guarded_getaddrinfo": lambda watch, frame: _looks_up(watch, frame.f_locals["_args"], frame),
    "_guarded_gethostbyname": lambda watch, frame: _looks_up(watch, frame.f_locals["_args"], frame),
    "__new__": _refused_socket,
}


def _name(task: Any) -> str:
    name = getattr(task, "get_name", None)
    return name() if name is not None else getattr(task, "name", "")
