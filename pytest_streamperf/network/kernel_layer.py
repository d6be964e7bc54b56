"""The exact layer, on Linux: the kernel asks before any process of ours connects anywhere.

A seccomp filter with user notification (`seccomp(2)`, `seccomp_unotify(2)`) stops the few calls by
which an address is reached, and a helper process answers for them: native code and child processes
with an empty environment included. The filter cannot be taken out again, nor can the promise not to
gain privileges that comes with it (no `sudo` in tests).
"""

import ctypes
import json
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class _Machine(NamedTuple):
    """A processor's number for the kernel, and its numbers of calls."""

    arch: int
    seccomp: int
    calls: dict[str, int]


# aarch64 has not been tried: no such machine was at hand.
_MACHINES = {
    "x86_64": _Machine(
        0xC000003E,
        317,
        {"connect": 42, "sendto": 44, "sendmsg": 46, "sendmmsg": 307, "io_uring_setup": 425},
    ),
    "aarch64": _Machine(
        0xC00000B7,
        277,
        {"connect": 203, "sendto": 206, "sendmsg": 211, "sendmmsg": 269, "io_uring_setup": 425},
    ),
}
_SET_NO_NEW_PRIVS, _SET_PTRACER = 38, 0x59616D61
_SET_FILTER, _TSYNC, _NEW_LISTENER, _TSYNC_ESRCH, _WAIT_KILLABLE = 1, 1, 8, 16, 32
_LOAD, _EQUAL, _RETURN, _AT_LEAST = 0x20, 0x15, 0x06, 0x35
_ALLOW, _ASK, _REFUSE = 0x7FFF0000, 0x7FC00000, 0x00050000
_ENOSYS = 38
_X32 = 0x40000000


class NotExact(RuntimeError):  # noqa: N818 - a conclusion, with its reason
    """The exact layer cannot be had here: the text says why."""


def guard_exactly(journal: str, *, block: bool, networks: Sequence[str]) -> "subprocess.Popen[str]":
    """Put the filter in, for this process and all it starts; return the helper that answers.

    What leaves the machine is written to `journal`, and with `block` refused, but for `networks`.
    The helper ends by itself when the last process under the filter does.

    Raises `NotExact` where that cannot be had: then nothing was changed that matters.
    """
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        here = f"{sys.platform} on {platform.machine()}"
        msg = f"it needs Linux on {' or '.join(_MACHINES)}, not {here}"
        raise NotExact(msg)
    libc = ctypes.CDLL(None, use_errno=True)
    settings = {
        "arch": machine.arch,
        "calls": machine.calls,
        "block": block,
        "networks": list(networks),
    }
    command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("kernel_supervisor.py"))]
    helper = subprocess.Popen(  # noqa: S603 - our own script
        [*command, journal, json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # what interrupts the tests is not meant for it
    )
    listener = -1
    try:
        libc.prctl(_SET_PTRACER, ctypes.c_ulong(helper.pid), 0, 0, 0)  # where Yama asks for it
        listener = _filter(libc, machine)
        assert helper.stdin is not None  # noqa: S101 - they are pipes
        assert helper.stdout is not None  # noqa: S101
        helper.stdin.write(f"{os.getpid()} {listener}\n")
        helper.stdin.flush()
        if helper.stdout.readline() != "ready\n":
            msg = "its helper could not take over; what it said is on standard error"
            raise NotExact(msg)  # noqa: TRY301 - the helper goes, as for any error
    except BaseException:
        helper.kill()
        helper.communicate()
        raise
    finally:
        if listener >= 0:
            os.close(listener)
    helper.stdin.close()
    helper.stdout.close()
    return helper


def _filter(libc: ctypes.CDLL, machine: _Machine) -> int:
    """Put the filter in; return the descriptor that the helper is to answer on."""
    if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise NotExact(_said("prctl"))
    program = ctypes.create_string_buffer(_program(machine))
    count = (len(program) - 1) // 8
    header = struct.pack("HxxxxxxP", count, ctypes.addressof(program))
    threads = _TSYNC | _TSYNC_ESRCH
    # From Linux 5.19 on a signal does not begin a call again that the helper has heard of.
    for flags in (_NEW_LISTENER | threads | _WAIT_KILLABLE, _NEW_LISTENER | threads, _NEW_LISTENER):
        listener = libc.syscall(
            machine.seccomp, ctypes.c_ulong(_SET_FILTER), ctypes.c_ulong(flags), header
        )
        if listener >= 0:
            return int(listener)
    raise NotExact(_said("seccomp"))


def _said(call: str) -> str:
    return f"the kernel refuses {call}: {os.strerror(ctypes.get_errno())}"


# Where a jump goes, by name: the next step, or one of these.
_ENDS = {"allow": _ALLOW, "ask": _ASK, "refuse": _REFUSE | _ENOSYS}
_ASKED = "connect", "sendmsg", "sendmmsg", "io_uring_setup"
# i386's connect, sendto, sendmsg, sendmmsg, socketcall and io_uring_setup.
_FOREIGN = 362, 369, 370, 345, 102, 425
# Where `struct seccomp_data` has the call, the processor, and the two halves of the fifth argument.
_CALL, _ARCH, _ADDRESS = 0, 4, (48, 52)


def _program(machine: _Machine) -> bytes:
    """Ask about the calls that reach an address, and io_uring's, and let all others pass.

    Calls of a 32-bit program are asked about by their numbers there; of x32 there are none.
    """
    calls = machine.calls
    steps: list[tuple[str, int, int, str, str]] = [  # label, code, value, if so, if not
        ("", _LOAD, _ARCH, "", ""),
        ("", _EQUAL, machine.arch, "", "foreign"),
        ("", _LOAD, _CALL, "", ""),
        ("", _AT_LEAST, _X32, "refuse", ""),
        *(("", _EQUAL, calls[name], "ask", "") for name in _ASKED),
        ("", _EQUAL, calls["sendto"], "", "allow"),
        ("", _LOAD, _ADDRESS[0], "", ""),
        ("", _EQUAL, 0, "", "ask"),
        ("", _LOAD, _ADDRESS[1], "", ""),
        ("", _EQUAL, 0, "allow", "ask"),
        ("foreign", _LOAD, _CALL, "", ""),
        *(("", _EQUAL, number, "ask", "") for number in _FOREIGN),
        *((name, _RETURN, value, "", "") for name, value in _ENDS.items()),
    ]
    at = {label: index for index, (label, *_) in enumerate(steps) if label}
    return b"".join(
        struct.pack(
            "=HBBI",
            code,
            at[yes] - index - 1 if yes else 0,
            at[no] - index - 1 if no else 0,
            value,
        )
        for index, (_, code, value, yes, no) in enumerate(steps)
    )
