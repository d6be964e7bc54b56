"""Answer the kernel's questions about network calls: the helper process of the exact layer.

    python -I -S kernel_supervisor.py JOURNAL SETTINGS

In: one line "PROCESS DESCRIPTOR" on standard input, which names the seccomp listener in the process
under test. Out: "ready" on standard output, then one line of JSON in the journal for each attempt
that leaves this machine. The kernel continues or refuses each call as this process decides.

`kernel_layer` starts this process before it installs the filter, so the filter does not cover it. A
thread could not do this work: a call that holds the interpreter lock would wait for its own answer.
The script needs only the standard library.
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

# System call numbers; they are the same on x86-64 and aarch64.
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438
# SECCOMP_IOCTL_NOTIF_RECV, _SEND and _ID_VALID of linux/seccomp.h.
_RECEIVE, _SEND, _IS_VALID = 0xC0502100, 0xC0182101, 0x40082102
# `struct seccomp_notif` and `struct seccomp_notif_resp`, then SECCOMP_USER_NOTIF_FLAG_CONTINUE.
_NOTICE = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_CONTINUE = 1

# The shortest address that the kernel accepts, in bytes, by family.
_SHORTEST_ADDRESS_BYTES = {socket.AF_INET: 16, socket.AF_INET6: 24}
_DNS_PORT = 53
_RING = "io_uring_setup"
# Parts of the paths of files that contain libuv, in /proc/PID/maps.
_LIBUV = "/uvloop/", "/libuv.so", "/bin/node"
# `sendmmsg` takes at most UIO_MAXIOV messages; `struct mmsghdr` has 64 bytes.
_MOST_MESSAGES, _MESSAGE_BYTES = 1_024, 64
# `struct sockaddr_storage` has 128 bytes: no address is longer.
_LONGEST_ADDRESS_BYTES = 128
# Not measured: deeper process trees are unlikely.
_MOST_ANCESTORS = 32


class Supervisor:
    """Answers notifications of the kernel, and records attempts that leave this machine."""

    def __init__(self, journal: str, settings: dict[str, Any]) -> None:
        self._journal = os.open(journal, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self._read = 0
        self._partial_line = b""
        self._calls = {number: name for name, number in settings["calls"].items()}
        self._arch = settings["arch"]
        self._block = settings["block"]
        self._networks = [ipaddress.ip_network(network) for network in settings["networks"]]
        self._reachable: set[str] = set()
        self._resolving: set[int] = set()
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        self._ticks = os.sysconf("SC_CLK_TCK")

    def descriptor_of(self, process: int, number: int) -> int:
        """Duplicate a descriptor of another process into this one."""
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
        """Answer notifications until the last process under the filter has ended."""
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
            # The caller has ended, or a signal has interrupted it.
            if error.errno in {errno.ENOENT, errno.EINTR}:
                return
            raise
        number, thread, _, call, arch, _, *args = _NOTICE.unpack(notice)
        name = self._calls.get(call, "") if arch == self._arch else ""
        try:
            may_continue = self._may_continue(listener, number, thread, name, args)
        except Exception as error:  # noqa: BLE001 - an error of ours must not let a call pass
            self._write(thread, "connect", "", None, blocked=True, thread_name=repr(error))
            may_continue = False
        refused = errno.ENOSYS if name == _RING else errno.ECONNREFUSED
        flags, code = (_CONTINUE, 0) if may_continue else (0, -refused)
        with contextlib.suppress(OSError):
            fcntl.ioctl(listener, _SEND, _ANSWER.pack(number, 0, code, flags))

    def _may_continue(
        self, listener: int, number: int, thread: int, name: str, args: Sequence[int]
    ) -> bool:
        """Return whether a call may continue; record it if it leaves this machine.

        The filter cannot observe calls through an `io_uring`, so no process gets one. Many kernels
        lack it too, and libraries then use ordinary calls.
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
        except OSError:  # the caller has ended; another process may have its number
            return False
        if addresses is None:
            self._write(thread, "connect", "", None, blocked=self._block)
            return not self._block
        may_continue = True
        for address, port in filter(None, map(_internet, addresses)):
            kind = ""
            if _is_local(address):
                if port != _DNS_PORT:
                    continue
                kind = self._kind(thread, args[0], port)
                if kind == "connect":
                    continue
            kind = kind or self._kind(thread, args[0], port)
            allowed = self._is_allowed(thread, kind, address)
            blocked = self._block and not allowed
            self._write(thread, kind, address, port, blocked=blocked, allowed=allowed)
            may_continue = may_continue and not blocked
        return may_continue

    def _addresses(self, thread: int, name: str, args: Sequence[int]) -> list[bytes]:
        with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:  # noqa: PTH123 - a process's memory

            def read(at: int, count: int) -> bytes:
                memory.seek(at)
                return bytes(memory.read(count))

            if not name:  # a 32-bit program has structures of another layout
                raise OSError
            if name == "connect":
                return [read(args[1], min(args[2] & 0xFFFFFFFF, _LONGEST_ADDRESS_BYTES))]
            if name == "sendto":
                length = min(args[5] & 0xFFFFFFFF, _LONGEST_ADDRESS_BYTES)
                return [read(args[4], length)] if args[4] else []
            count = min(args[2] & 0xFFFFFFFF, _MOST_MESSAGES) if name == "sendmmsg" else 1
            addresses = []
            for index in range(count):
                where, length = struct.unpack("=QI", read(args[1] + index * _MESSAGE_BYTES, 12))
                if where and length:
                    addresses.append(read(where, min(length, _LONGEST_ADDRESS_BYTES)))
            return addresses

    def _kind(self, thread: int, number: int, port: int) -> str:
        try:
            caller_socket = socket.socket(fileno=self.descriptor_of(_process_of(thread), number))
        except OSError:
            return "connect"
        with caller_socket:
            if caller_socket.type == socket.SOCK_STREAM:
                return "connect"
        return "resolve" if port == _DNS_PORT else "datagram"

    def _is_allowed(self, thread: int, kind: str, address: str) -> bool:
        self._read_allowed_lookups()
        if kind == "resolve" and thread in self._resolving:
            return True
        parsed = ipaddress.ip_address(address)
        return address in self._reachable or any(parsed in network for network in self._networks)

    def _read_allowed_lookups(self) -> None:
        """Read new journal lines: which threads look up an allowed name, and the results."""
        while data := os.pread(self._journal, 2**16, self._read):
            self._read += len(data)
            *lines, self._partial_line = (self._partial_line + data).split(b"\n")
            for line in lines:
                if b'"resol' in line or b'"reachable"' in line:
                    entry = json.loads(line)
                    self._reachable.update(entry.get("reachable", ()))
                    self._resolving.discard(entry.get("resolved"))
                    self._resolving |= {entry["resolving"]} if "resolving" in entry else set()

    def _write(
        self, thread: int, kind: str, address: str, port: int | None, **details: object
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
            **details,
        }
        line = {"kernel": entry, "ancestors": self._ancestors(process)}
        os.write(self._journal, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def _ancestors(self, process: int) -> list[tuple[int, float]]:
        """Return the process and its ancestors, nearest first: (number, start time in seconds)."""
        ancestors: list[tuple[int, float]] = []
        while process > 1 and len(ancestors) < _MOST_ANCESTORS:
            try:
                with open(f"/proc/{process}/stat", "rb") as file:  # noqa: PTH123 - a short file
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                break
            ancestors.append((process, int(fields[19]) / self._ticks))
            process = int(fields[1])
        return ancestors


def _command(thread: int) -> str:
    try:
        with open(f"/proc/{thread}/comm", "rb") as file:  # noqa: PTH123 - a short file
            return file.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _process_of(thread: int) -> int:
    try:
        with open(f"/proc/{thread}/status", "rb") as file:  # noqa: PTH123 - a short file
            return next(int(line.split()[1]) for line in file if line.startswith(b"Tgid:"))
    except (OSError, ValueError, StopIteration):
        return thread


def _is_of_libuv(thread: int) -> bool:
    """Return whether a process has loaded libuv, which requests a ring at each start.

    That request is no sign of network access, so it is refused and not recorded.
    """
    try:
        with open(f"/proc/{thread}/maps", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return any(name in line for line in file for name in _LIBUV)
    except OSError:
        return False


def _internet(data: bytes) -> tuple[str, int] | None:
    """Return the address and port in a `sockaddr`, or None if it is no valid internet address."""
    family = struct.unpack_from("=H", data)[0] if len(data) > 1 else socket.AF_UNSPEC
    if len(data) < _SHORTEST_ADDRESS_BYTES.get(family, 0):
        return None
    if family == socket.AF_INET:
        return str(ipaddress.IPv4Address(data[4:8])), struct.unpack_from("!H", data, 2)[0]
    if family == socket.AF_INET6:
        return str(ipaddress.IPv6Address(data[8:24])), struct.unpack_from("!H", data, 2)[0]
    return None


def _is_local(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    return bool(parsed.is_loopback or parsed.is_unspecified)


def main() -> None:
    """Take over the listener of the process under test, and answer its notifications."""
    journal, settings = sys.argv[1:]
    supervisor = Supervisor(journal, json.loads(settings))
    process, number = map(int, sys.stdin.readline().split())
    listener = supervisor.descriptor_of(process, number)
    print("ready", flush=True)  # noqa: T201 - read by `kernel_layer`
    supervisor.serve(listener)


if __name__ == "__main__":
    main()
