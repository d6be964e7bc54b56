"""Install the exact layer on Linux: a kernel filter that observes every network attempt.

In: the path of a journal, and the rule that applies. Out: a helper process, `kernel_supervisor.py`,
which writes attempts to the journal and refuses them if the rule says so.

A seccomp filter with user notification (`seccomp(2)`, `seccomp_unotify(2)`) stops the system calls
that can reach an address. The helper then decides whether the kernel continues each call. The
filter covers native code, and child processes with any environment.

The filter stays until the process ends. It also sets `no_new_privs`, so `sudo` fails in tests.
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
    """The audit number of a processor architecture, and the numbers of its system calls."""

    arch: int
    seccomp: int
    calls: dict[str, int]


# Numbers of linux/audit.h and asm/unistd.h. Not tested on aarch64: no such machine was available.
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
# PR_SET_NO_NEW_PRIVS and PR_SET_PTRACER of linux/prctl.h.
_SET_NO_NEW_PRIVS, _SET_PTRACER = 38, 0x59616D61
# SECCOMP_SET_MODE_FILTER and the SECCOMP_FILTER_FLAG_* bits of linux/seccomp.h.
_SET_FILTER, _TSYNC, _NEW_LISTENER, _TSYNC_ESRCH, _WAIT_KILLABLE = 1, 1, 8, 16, 32
# Opcodes of classic BPF (linux/filter.h): load a word, jump if equal, return, jump if at least.
_LOAD, _EQUAL, _RETURN, _AT_LEAST = 0x20, 0x15, 0x06, 0x35
# SECCOMP_RET_ALLOW, SECCOMP_RET_USER_NOTIF and SECCOMP_RET_ERRNO of linux/seccomp.h.
_ALLOW, _ASK, _REFUSE = 0x7FFF0000, 0x7FC00000, 0x00050000
_ENOSYS = 38
# Calls of the x32 ABI carry this bit (asm/unistd.h, __X32_SYSCALL_BIT).
_X32 = 0x40000000


class NotExact(RuntimeError):  # noqa: N818 - a conclusion, with its reason
    """The exact layer is not available; the text of the error gives the reason."""


def guard_exactly(journal: str, *, block: bool, networks: Sequence[str]) -> "subprocess.Popen[str]":
    """Install the filter for this process and its future children; return the helper process.

    The helper writes attempts that leave this machine to the file `journal`. With `block` it
    refuses them, except to `networks`. The helper ends when the last process under the filter ends.

    Raises `NotExact` if the layer is not available. `no_new_privs` may then be set.
    """
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        this_system = f"{sys.platform} on {platform.machine()}"
        msg = f"it needs Linux on {' or '.join(_MACHINES)}, not {this_system}"
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
        start_new_session=True,  # Ctrl-C stops the tests and not the helper
    )
    listener = -1
    try:
        # Yama lets a child read its parent's memory only if the parent declares it a tracer.
        libc.prctl(_SET_PTRACER, ctypes.c_ulong(helper.pid), 0, 0, 0)
        listener = _install_filter(libc, machine)
        assert helper.stdin is not None  # noqa: S101 - both are pipes
        assert helper.stdout is not None  # noqa: S101
        helper.stdin.write(f"{os.getpid()} {listener}\n")
        helper.stdin.flush()
        if helper.stdout.readline() != "ready\n":
            msg = "its helper could not take over; what it said is on standard error"
            raise NotExact(msg)  # noqa: TRY301 - the handler ends the helper
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


def _install_filter(libc: ctypes.CDLL, machine: _Machine) -> int:
    """Install the filter; return the descriptor on which the helper receives notifications."""
    if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise NotExact(_refusal_text("prctl"))
    program = ctypes.create_string_buffer(_program(machine))
    count = (len(program) - 1) // 8
    header = struct.pack("HxxxxxxP", count, ctypes.addressof(program))
    threads = _TSYNC | _TSYNC_ESRCH
    # From Linux 5.19 on, WAIT_KILLABLE stops signals from restarting a call that the helper has
    # received. Older kernels refuse newer flags, so try again with fewer.
    for flags in (_NEW_LISTENER | threads | _WAIT_KILLABLE, _NEW_LISTENER | threads, _NEW_LISTENER):
        listener = libc.syscall(
            machine.seccomp, ctypes.c_ulong(_SET_FILTER), ctypes.c_ulong(flags), header
        )
        if listener >= 0:
            return int(listener)
    raise NotExact(_refusal_text("seccomp"))


def _refusal_text(call: str) -> str:
    return f"the kernel refuses {call}: {os.strerror(ctypes.get_errno())}"


# Jump targets with a name; an empty name is the next step.
_ENDS = {"allow": _ALLOW, "ask": _ASK, "refuse": _REFUSE | _ENOSYS}
# Calls that always notify the helper; `sendto` does so only with an address.
_NOTIFYING = "connect", "sendmsg", "sendmmsg", "io_uring_setup"
# Numbers of i386 (asm/unistd_32.h): connect, sendto, sendmsg, sendmmsg, socketcall and
# io_uring_setup.
_FOREIGN = 362, 369, 370, 345, 102, 425
# Offsets in `struct seccomp_data`, in bytes: the call number, the architecture, and the two halves
# of the fifth argument, which is the address of `sendto`.
_CALL, _ARCH, _ADDRESS = 0, 4, (48, 52)


def _program(machine: _Machine) -> bytes:
    """Return the BPF program: notify the helper of calls that reach an address or set up io_uring.

    All other calls pass. A 32-bit program has its own call numbers, `_FOREIGN`. Calls of the x32
    ABI are refused.
    """
    calls = machine.calls
    steps: list[tuple[str, int, int, str, str]] = [  # label, code, value, target if true, if false
        ("", _LOAD, _ARCH, "", ""),
        ("", _EQUAL, machine.arch, "", "foreign"),
        ("", _LOAD, _CALL, "", ""),
        ("", _AT_LEAST, _X32, "refuse", ""),
        *(("", _EQUAL, calls[name], "ask", "") for name in _NOTIFYING),
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
