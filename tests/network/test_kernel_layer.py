"""The exact layer: the filter's decisions, what the kernel tells of native code and children."""

import errno
import os
import platform
import re
import signal
import struct
import subprocess
import sys
import textwrap
from contextlib import suppress

import psutil
import pytest

from pytest_streamperf.network import kernel_layer
from pytest_streamperf.network.attempts import SESSION, Attempt
from pytest_streamperf.network.attribution import KernelAttempt, Mark, Threads
from pytest_streamperf.network.kernel_layer import _MACHINES, NotExact, guard_exactly

EXACT = pytest.mark.usefixtures("exact")
ALLOW, ASK, REFUSE = 0x7FFF0000, 0x7FC00000, 0x00050000 | errno.ENOSYS


def decided(program, call, arch, fifth=0):
    """What the kernel makes of a filter: an interpreter of the four instructions there are."""
    data = struct.pack("=iIQ6Q", call, arch, 0, 0, 0, 0, 0, fifth, 0)
    steps = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    at, value = 0, 0
    while True:
        code, yes, no, operand = steps[at]
        at += 1
        if code == 0x20:
            (value,) = struct.unpack_from("=I", data, operand)
        elif code == 0x15:
            at += yes if value == operand else no
        elif code == 0x35:
            at += yes if value >= operand else no
        else:
            assert code == 0x06
            return operand


@pytest.mark.parametrize("machine", _MACHINES.values(), ids=_MACHINES)
def test_the_filter(machine):
    """Asks about what reaches an address, and io_uring, and lets all else pass."""
    program = kernel_layer._program(machine)
    calls = machine.calls
    for name in ("connect", "sendmsg", "sendmmsg", "io_uring_setup"):
        assert decided(program, calls[name], machine.arch) == ASK
    assert decided(program, calls["sendto"], machine.arch) == ALLOW
    for address in (1, 1 << 32, 0x7FFF_0000_0000):
        assert decided(program, calls["sendto"], machine.arch, address) == ASK
    assert decided(program, 0x40000000 | 42, machine.arch) == REFUSE
    for call in {*range(1_000)} - {*calls.values()}:
        assert decided(program, call, machine.arch) == ALLOW
    i386 = 0x40000003
    assert [decided(program, call, i386) for call in (362, 102, 1)] == [ASK, ASK, ALLOW]


def test_elsewhere_it_says_why(monkeypatch):
    """Nothing is changed there."""
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(NotExact, match=r"it needs Linux on x86_64 or aarch64, not .* on riscv64"):
        guard_exactly("journal", block=False, networks=[])


# -- for real, in a process of its own: a filter cannot be taken out again

PRELUDE = """
import atexit, contextlib, ctypes, os, socket, struct, subprocess, sys, threading, time
from pytest_streamperf.network.journal import Journal
from pytest_streamperf.network.kernel_layer import guard_exactly

libc = ctypes.CDLL(None, use_errno=True)

def native(port, host="192.0.2.1"):
    # As a library in C does.
    address = struct.pack("=H", 2) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)
    one = libc.socket(2, 1, 0)
    done = libc.connect(one, address, 16)
    code = ctypes.get_errno() if done else 0
    libc.close(one)
    return code

def seen(journal):
    return [(each["kernel"]["kind"], each["kernel"]["address"], each["kernel"]["port"])
            for each in journal.read() if "kernel" in each]

journal = Journal()
atexit.register(journal.close)
helper = guard_exactly(journal.path, block=True, networks=["192.0.2.128/25"])
"""


@pytest.fixture(scope="session")
def exact():
    """Skip where the exact layer cannot be had: not on Linux, or in a strict container."""
    command = [sys.executable, "-c", PRELUDE]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if done.returncode:
        assert "NotExact: " in done.stderr
        pytest.skip(done.stderr.strip().splitlines()[-1])


def run(code):
    """In a process of its own."""
    script = PRELUDE + textwrap.dedent(code)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()


@EXACT
def test_native_code_is_seen_and_refused():
    """What does not go through Python's `socket` module; loopback goes on."""
    printed = run(
        """
        with socket.create_server(("127.0.0.1", 0)) as server:
            print(native(server.getsockname()[1], "127.0.0.1"))
        print(native(443), seen(journal))
        """
    )
    assert printed == ["0", f"{errno.ECONNREFUSED} [('connect', '192.0.2.1', 443)]"]


@EXACT
def test_a_ring_is_refused(tmp_path):
    """What goes by an io_uring is asked about by nobody; libuv, which asks at each start, may."""
    (tmp_path / "uvloop").mkdir()
    (tmp_path / "uvloop" / "loop.so").write_bytes(bytes(4_096))
    printed = run(
        f"""
        import mmap

        def ask():
            libc.syscall(425, 8, ctypes.create_string_buffer(120))
            return ctypes.get_errno()

        print(ask(), seen(journal))
        with open({str(tmp_path / "uvloop" / "loop.so")!r}) as file:
            held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        print(ask(), seen(journal))
        """
    )
    assert printed == [f"{errno.ENOSYS} [('ring', '', None)]", f"{errno.ENOSYS} []"]


@EXACT
def test_datagrams_and_names():
    """Each under its own kind; one without an address goes nowhere."""
    printed = run(
        """
        def tried(function, *args):
            with contextlib.suppress(OSError):
                function(*args)

        one = socket.socket(type=socket.SOCK_DGRAM)
        tried(one.sendto, b"x", ("192.0.2.1", 9))
        tried(one.sendmsg, [b"x"], [], 0, ("192.0.2.2", 9))
        tried(one.connect, ("192.0.2.3", 53))
        tried(one.connect, ("127.0.0.53", 53))
        six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        tried(six.connect, ("2001:db8::1", 9))
        pair = socket.socketpair()
        pair[0].sendmsg([b"x"])
        assert pair[1].recv(1) == b"x"
        print(*seen(journal), sep="\\n")
        """
    )
    assert printed == [
        "('datagram', '192.0.2.1', 9)",
        "('datagram', '192.0.2.2', 9)",
        "('resolve', '192.0.2.3', 53)",
        "('resolve', '127.0.0.53', 53)",
        "('datagram', '2001:db8::1', 9)",
    ]


@EXACT
def test_children_are_seen():
    """With an empty environment, too, and theirs."""
    printed = run(
        """
        child = "import socket as s\\ns.socket().connect_ex(('192.0.2.1', 80))"
        subprocess.run([sys.executable, "-I", "-c", child], env={}, check=True)
        subprocess.run(["/bin/sh", "-c", f'"$0" -c "$1"', sys.executable, child], check=True)
        print(len(seen(journal)))
        """
    )
    assert printed == ["2"]


@EXACT
def test_a_network_that_is_allowed():
    """Goes on: nobody is there, but the kernel itself says so."""
    printed = run(
        """
        with socket.socket(type=socket.SOCK_DGRAM) as one:
            with contextlib.suppress(OSError):
                one.connect(("192.0.2.200", 9))
        print([(each["kernel"]["allowed"], each["kernel"]["blocked"])
               for each in journal.read() if "kernel" in each])
        """
    )
    assert printed == ["[(True, False)]"]


@EXACT
def test_without_its_helper_nobody_gets_through():
    """It fails closed: also loopback is refused then, and nothing hangs."""
    printed = run(
        """
        helper.kill()
        helper.wait()
        print(native(443) != 0, native(443, "127.0.0.1") != 0)
        """
    )
    assert printed == ["True True"]


@EXACT
def test_a_thousand_attempts():
    """In a second or so, from several threads; the helper ends when all are gone."""
    printed = run(
        """
        threads = [
            threading.Thread(target=lambda: [native(port) for port in range(1, 251)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(len(seen(journal)), helper.pid)
        """
    )
    count, helper = map(int, printed[0].split())
    assert count == 1_000
    for _ in range(200):
        try:
            os.kill(helper, 0)
        except ProcessLookupError:
            return
        signal.sigtimedwait([], 0.05)
    pytest.fail("the helper is still there")


@EXACT
@pytest.mark.skipif(
    [int(part) for part in re.findall(r"\d+", platform.release())[:2]] < [6, 18],
    reason="before Linux 5.19 a call that a signal meets is begun again, and up to 6.17 may be",
)
def test_a_signal_does_not_make_an_attempt_two():
    """A call that waits for its answer is not begun again by a timer, such as a profiler has."""
    printed = run(
        """
        import signal
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.siginterrupt(signal.SIGALRM, False)
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        for port in range(1, 501):
            native(port)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(len(seen(journal)))
        """
    )
    assert printed == ["500"]


# -- what is made of it


def kernel(**where):
    """What the kernel saw at second 10, in thread 2 of process 1."""
    defaults = {"kind": "connect", "address": "192.0.2.1", "port": 1, "process": 1, "thread": 2}
    attempt = Attempt(**(defaults | where), time=10.0, seen_by="kernel")
    return KernelAttempt(attempt, [(attempt.process, 1.0), (0, 0.5)])


def threads(*told):
    """What Python told, in order."""
    known = Threads()
    for each in told:
        (known.marked if isinstance(each, Mark) else known.tried)(each)
    return known


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"address": "192.0.2.1", "port": 1}, True),
        ({"address": "", "host": "a", "port": 1}, True),
        ({"address": "192.0.2.2", "port": 1}, False),
        ({"address": "192.0.2.1", "port": 2}, False),
        ({"address": "192.0.2.1", "port": 1, "thread": 3}, False),
        ({"address": "192.0.2.1", "port": 1, "time": 10.5}, False),
    ],
)
def test_what_python_knew(known, expected):
    """Of the same thread, to the same place, before."""
    audited = Attempt(**{"kind": "connect", "process": 1, "thread": 2, "time": 9.9, **known})
    assert threads(audited).has_python_attempt(kernel()) is expected


def test_an_address_that_could_not_be_read():
    """Is what Python tried just before, if it did."""
    audited = Attempt(kind="connect", host="a", port=1, process=1, thread=2, time=9.9)
    assert threads(audited).has_python_attempt(kernel(address="", port=None))
    assert not threads().has_python_attempt(kernel(address="", port=None))


def test_a_name_is_many_datagrams():
    """To whichever resolver."""
    name = Attempt(kind="resolve", host="a", process=1, thread=2, time=9.0)
    assert threads(name).has_python_attempt(kernel(kind="resolve", port=53))


@pytest.mark.parametrize("kind", ["connect", "resolve"])
def test_what_an_earlier_test_tried(kind):
    """The same place again, by native code, is the later test's own."""
    earlier = Attempt(kind=kind, address="192.0.2.1", port=1, process=1, thread=2, time=8.0)
    assert threads(Mark(7.0, 1, 2, "early"), earlier).has_python_attempt(kernel(kind=kind))
    again = threads(Mark(7.0, 1, 2, "early"), earlier, Mark(9.0, 1, 2, "mine"))
    assert not again.has_python_attempt(kernel(kind=kind))


def test_a_threads_origin():
    """What it was marked with last; else what its process's main thread was doing."""
    marks = [Mark(1.0, 1, 2, "early"), Mark(9.0, 1, 2, "mine"), Mark(11.0, 1, 2, "late")]
    assert threads(*marks).origin_of(kernel()) == "mine"
    assert threads(Mark(9.0, 1, 1, "main")).origin_of(kernel()) == "main"
    assert threads().origin_of(kernel()) == SESSION


def test_a_childs_origin():
    """By who started it, when it was."""
    seen = KernelAttempt(kernel(process=7, thread=7).attempt, [(7, 5.0), (1, 1.0)])
    spawns = [
        Attempt(kind="spawn", process=1, origin="other", time=3.0),
        Attempt(kind="spawn", process=1, origin="mine", time=5.01),
    ]
    main = Mark(4.0, 1, 1, "main")
    assert threads(main, *spawns).origin_of(seen) == "mine"
    assert threads(main, Mark(6.0, 1, 1, "later")).origin_of(seen) == "main"


@EXACT
def test_a_run_with_the_exact_layer(pytester, run_alone):
    """By a line of settings: native code and children fail the right tests, under xdist, too."""
    pytester.makefile(
        ".toml",
        pyproject="[tool.streamperf]\nbackground_fetch = false\nblock_network = true\n"
        "exact_network = true\n",
    )
    pytester.makepyfile(
        """
        import ctypes, socket, struct, subprocess, sys, threading
        import pytest

        libc = ctypes.CDLL(None)
        CHILD = "import socket; socket.create_connection(('192.0.2.1', 80))"

        def native(port):
            address = struct.pack("=H", 2) + struct.pack("!H", port)
            one = libc.socket(2, 1, 0)
            libc.connect(one, address + socket.inet_aton("192.0.2.1") + bytes(8), 16)
            libc.close(one)

        def test_native(): native(1)

        def test_thread():
            thread = threading.Thread(target=native, args=(2,))
            thread.start()
            thread.join()

        def test_child():
            subprocess.run([sys.executable, "-c", CHILD], env={}, stderr=subprocess.DEVNULL)

        def test_loopback():
            with socket.create_server(("127.0.0.1", 0)) as server:
                socket.create_connection(server.getsockname()).close()
        """
    )
    for workers in ((), ("-p", "xdist", "-n", "2")):
        result = run_alone(*workers)
        result.assert_outcomes(failed=3, passed=1)
        printed = result.stdout.str()
        for name, target in (("native", ":1,"), ("thread", ":2,"), ("child", ":80,")):
            assert f"::test_{name}: 1 attempt to connect to 192.0.2.1{target}" in printed


@EXACT
def test_a_run_that_loses_its_helper(pytester, run_alone):
    """Is not taken for one in which nobody tried."""
    pytester.makefile(
        ".toml", pyproject="[tool.streamperf]\nbackground_fetch = false\nexact_network = true\n"
    )
    pytester.makepyfile(
        """
        import os, signal, socket
        import pytest

        def test_kills():
            helper = int(os.environ["STREAMPERF_EXACT"])
            os.kill(helper, signal.SIGKILL)
            os.waitid(os.P_PID, helper, os.WEXITED | os.WNOWAIT)

        def test_nobody_gets_through():
            with pytest.raises(OSError):
                socket.create_connection(("127.0.0.1", 9), 1)
        """
    )
    result = run_alone()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["NetworkInconclusive: the exact layer has ended, so later attempts are unknown"]
    )


_HARD_TIMES = """
    import os, resource, socket
    import pytest

    def fetch(port):
        try:
            socket.create_connection(("192.0.2.1", port), 1)
        except OSError:
            pass

    def test_no_files_left():
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
        one, held = socket.socket(), []
        try:
            with pytest.raises(OSError):
                while True:
                    held.append(os.open(os.devnull, os.O_RDONLY))
            with pytest.raises(OSError):
                one.connect(("192.0.2.1", 1))
        finally:
            for each in held:
                os.close(each)
            one.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    def test_fork():
        child = os.fork()
        if not child:
            fetch(2)
            os._exit(0)
        os.waitpid(child, 0)

    def test_skip():
        fetch(3)
        pytest.skip("not today")

    @pytest.mark.xfail
    def test_xfail():
        fetch(4)

    def test_its_own_failure():
        fetch(5)
        assert not "its own"

    def test_innocent():
        pass
"""


@EXACT
def test_a_run_in_hard_times(pytester, run_alone):
    """Each attempt is its own test's; a test's own failure wins; nobody hangs."""
    pytester.makefile(
        ".toml",
        pyproject="[tool.streamperf]\nbackground_fetch = false\nblock_network = true\n"
        "exact_network = true\n",
    )
    pytester.makepyfile(_HARD_TIMES)
    result = run_alone("-o", "faulthandler_timeout=20")
    result.assert_outcomes(failed=3, errors=1, skipped=1, xfailed=1, passed=1)
    result.stdout.fnmatch_lines_random(
        [
            "FAILED *::test_no_files_left - NetworkExceeded*",
            "FAILED *::test_fork - NetworkExceeded*",
            "ERROR *::test_skip - NetworkExceeded*",
            "FAILED *::test_its_own_failure - AssertionError*",
        ]
    )


@EXACT
def test_a_run_in_which_a_test_hangs(pytester, run_alone):
    """pytest-timeout ends it, and `--maxfail` the run; the helper ends with that."""
    pytester.makefile(
        ".toml",
        pyproject="[tool.streamperf]\nbackground_fetch = false\nblock_network = true\n"
        "exact_network = true\n",
    )
    pytester.makepyfile(
        """
        import contextlib, os, pathlib, socket, threading

        def test_hangs():
            pathlib.Path("helper").write_text(os.environ["STREAMPERF_EXACT"])
            with contextlib.suppress(OSError):
                socket.create_connection(("192.0.2.1", 1))
            threading.Event().wait()

        def test_after():
            pass
        """
    )
    result = run_alone("-p", "pytest_timeout", "--timeout=0.5", "--maxfail=1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines_random(
        ["? network *::test_hangs: 1 attempt to connect to *", "FAILED *::test_hangs - *Timeout*"]
    )
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int((pytester.path / "helper").read_text())).wait(timeout=20)
