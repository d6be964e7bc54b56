"""The helper of the exact layer: it is asked by the kernel before anybody connects anywhere.

A process of its own, started before the filter is put in, so that it is not under it; and a script
of its own, which needs nothing but the standard library. A thread would not do: whoever holds the
interpreter's lock while it connects would wait for itself.

    python -I -S kernel_supervisor.py JOURNAL SETTINGS

It is told the process and the number of the listener there on standard input, and says "ready".
"""

import contextlib
import ctypes
import errno
import fcntl
import ipaddress
import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import Any

# The same on x86-64 and aarch64.
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438
_RECEIVE, _SEND, _IS_VALID = 0xC0502100, 0xC0182101, 0x40082102
_NOTICE = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_GO_ON = 1

# The least that the kernel takes for an address, in bytes, by family.
_LEAST_ADDRESS = {socket.AF_INET: 16, socket.AF_INET6: 24}
_DNS = 53
_RING, _LIBUV = "io_uring_setup", ("/uvloop/", "/libuv.so", "/bin/node")
_MOST_MESSAGES, _MESSAGE = 1_024, 64
_DEEPEST = 32


class Supervisor:
    """Answers the kernel, and writes down what leaves the machine."""

    def __init__(self, journal: str, settings: dict[str, Any]) -> None:
        self._journal = os.open(journal, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self._read = 0
        self._rest = b""
        self._calls = {number: name for name, number in settings["calls"].items()}
        self._arch = settings["arch"]
        self._block = settings["block"]
        self._networks = [ipaddress.ip_network(each) for each in settings["networks"]]
        self._reachable: set[str] = set()
        self._resolving: set[int] = set()
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        self._ticks = os.sysconf("SC_CLK_TCK")

    def descriptor_of(self, process: int, number: int) -> int:
        """A descriptor of another process, as one of ours."""
        pidfd = self._call(_PIDFD_OPEN, process, 0)
        try:
            return self._call(_PIDFD_GETFD, pidfd, number, 0)
        finally:
            os.close(pidfd)

    def _call(self, number: int, *args: int) -> int:
        result = int(self._syscall(number, *map(ctypes.c_long, args)))
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result

    def serve(self, listener: int) -> None:
        """Answer until the last process under the filter is gone."""
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        while True:
            ((_, event),) = poll.poll() or ((0, 0),)
            if event & select.POLLIN:
                self._answer(listener)
            elif event:
                return

    def _answer(self, listener: int) -> None:
        notice = bytearray(_NOTICE.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, notice)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.EINTR}:  # it is gone already
                return
            raise
        number, thread, _, call, arch, _, *args = _NOTICE.unpack(notice)
        name = self._calls.get(call, "") if arch == self._arch else ""
        try:
            goes_on = self._judge(listener, number, thread, name, args)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody gets through by it
            self._write(thread, "connect", "", None, blocked=True, thread_name=repr(error))
            goes_on = False
        refused = errno.ENOSYS if name == _RING else errno.ECONNREFUSED
        flags, code = (_GO_ON, 0) if goes_on else (0, -refused)
        with contextlib.suppress(OSError):
            fcntl.ioctl(listener, _SEND, _ANSWER.pack(number, 0, code, flags))

    def _judge(
        self, listener: int, number: int, thread: int, name: str, args: Sequence[int]
    ) -> bool:
        """Whether a call may go on; it is written down if it leaves the machine.

        What goes by an `io_uring` is asked about by nobody, so there is none: as in many kernels.
        """
        if name == _RING:
            if not _is_of_libuv(thread):
                self._write(thread, "ring", "", None, blocked=True)
            return False
        addresses = None
        with contextlib.suppress(OSError, struct.error):
            addresses = self._addresses(thread, name, args)
        try:
            fcntl.ioctl(listener, _IS_VALID, struct.pack("=Q", number))
        except OSError:  # it is gone, and what was read may have been another's
            return False
        if addresses is None:
            self._write(thread, "connect", "", None, blocked=self._block)
            return not self._block
        goes_on = True
        for address, port in filter(None, map(_internet, addresses)):
            kind = ""
            if _is_local(address):
                if port != _DNS:
                    continue
                kind = self._kind(thread, args[0], port)
                if kind == "connect":
                    continue
            kind = kind or self._kind(thread, args[0], port)
            allowed = self._is_allowed(thread, kind, address)
            blocked = self._block and not allowed
            self._write(thread, kind, address, port, blocked=blocked, allowed=allowed)
            goes_on = goes_on and not blocked
        return goes_on

    def _addresses(self, thread: int, name: str, args: Sequence[int]) -> list[bytes]:
        with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:  # noqa: PTH123 - of another

            def read(at: int, count: int) -> bytes:
                memory.seek(at)
                return bytes(memory.read(count))

            if not name:  # of a program for another processor
                raise OSError
            if name == "connect":
                return [read(args[1], min(args[2] & 0xFFFFFFFF, 128))]
            if name == "sendto":
                return [read(args[4], min(args[5] & 0xFFFFFFFF, 128))] if args[4] else []
            count = min(args[2] & 0xFFFFFFFF, _MOST_MESSAGES) if name == "sendmmsg" else 1
            found = []
            for index in range(count):
                where, length = struct.unpack("=QI", read(args[1] + index * _MESSAGE, 12))
                if where and length:
                    found.append(read(where, min(length, 128)))
            return found

    def _kind(self, thread: int, number: int, port: int) -> str:
        try:
            one = socket.socket(fileno=self.descriptor_of(_process_of(thread), number))
        except OSError:
            return "connect"
        with one:
            if one.type == socket.SOCK_STREAM:
                return "connect"
        return "resolve" if port == _DNS else "datagram"

    def _is_allowed(self, thread: int, kind: str, address: str) -> bool:
        self._look_up_allowed()
        if kind == "resolve" and thread in self._resolving:
            return True
        known = ipaddress.ip_address(address)
        return address in self._reachable or any(known in network for network in self._networks)

    def _look_up_allowed(self) -> None:
        """Which threads look an allowed name up, and what it came to, as the journal says."""
        while data := os.pread(self._journal, 2**16, self._read):
            self._read += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                if b'"resol' in line or b'"reachable"' in line:
                    entry = json.loads(line)
                    self._reachable.update(entry.get("reachable", ()))
                    self._resolving.discard(entry.get("resolved"))
                    self._resolving |= {entry["resolving"]} if "resolving" in entry else set()

    def _write(
        self, thread: int, kind: str, address: str, port: int | None, **more: object
    ) -> None:
        process = _process_of(thread)
        entry = {
            "kind": kind,
            "address": address,
            "port": port,
            "process": process,
            "thread": thread,
            "time": time.monotonic(),
            "thread_name": _command(thread),
            "seen_by": "kernel",
            **more,
        }
        line = {"kernel": entry, "ancestors": self._ancestors(process)}
        os.write(self._journal, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def _ancestors(self, process: int) -> list[tuple[int, float]]:
        """The process and those it comes from: their numbers, and when each was started."""
        found: list[tuple[int, float]] = []
        while process > 1 and len(found) < _DEEPEST:
            try:
                with open(f"/proc/{process}/stat", "rb") as file:  # noqa: PTH123 - a short one
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                break
            found.append((process, int(fields[19]) / self._ticks))
            process = int(fields[1])
        return found


def _command(thread: int) -> str:
    try:
        with open(f"/proc/{thread}/comm", "rb") as file:  # noqa: PTH123 - a short one
            return file.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _process_of(thread: int) -> int:
    try:
        with open(f"/proc/{thread}/status", "rb") as file:  # noqa: PTH123 - a short one
            return next(int(line.split()[1]) for line in file if line.startswith(b"Tgid:"))
    except (OSError, ValueError, StopIteration):
        return thread


def _is_of_libuv(thread: int) -> bool:
    """Whether a process has libuv, which asks for a ring at each start, and not for the network."""
    try:
        with open(f"/proc/{thread}/maps", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return any(name in line for line in file for name in _LIBUV)
    except OSError:
        return False


def _internet(data: bytes) -> tuple[str, int] | None:
    """The address and port in a `sockaddr`; None for what the kernel takes for no such."""
    family = struct.unpack_from("=H", data)[0] if len(data) > 1 else socket.AF_UNSPEC
    if len(data) < _LEAST_ADDRESS.get(family, 0):
        return None
    if family == socket.AF_INET:
        return str(ipaddress.IPv4Address(data[4:8])), struct.unpack_from("!H", data, 2)[0]
    if family == socket.AF_INET6:
        return str(ipaddress.IPv6Address(data[8:24])), struct.unpack_from("!H", data, 2)[0]
    return None


def _is_local(address: str) -> bool:
    known = ipaddress.ip_address(address)
    known = getattr(known, "ipv4_mapped", None) or known
    return bool(known.is_loopback or known.is_unspecified)


def main() -> None:
    """Take the listener over, and serve."""
    journal, settings = sys.argv[1:]
    supervisor = Supervisor(journal, json.loads(settings))
    process, number = map(int, sys.stdin.readline().split())
    listener = supervisor.descriptor_of(process, number)
    print("ready", flush=True)  # noqa: T201 - to who started it
    supervisor.serve(listener)


if __name__ == "__main__":
    main()
