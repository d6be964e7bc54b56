"""Who phones out: what counts, who is allowed, who started it, and what is said."""

import _thread
import asyncio
import concurrent.futures
import contextlib
import os
import socket
import struct
import sys
import threading
import types
import urllib.request
import weakref

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf import FetchGuard, NetworkExceeded, NetworkInconclusive
from pytest_streamperf.network import native_libraries, origins
from pytest_streamperf.network.attempts import (
    Attempt,
    allowed_hosts,
    is_address,
    is_allowed,
    is_local,
    nested_origin,
    of_origin,
    outer_origins,
    stays_here,
)
from pytest_streamperf.network.fetch_guard import Network, Rule, verdict_on_attempts
from pytest_streamperf.network.journal import Journal

pytestmark = pytest.mark.usefixtures("only_new_libraries")

# Nobody: TEST-NET-1, RFC 5737. Every guard here blocks, so that nothing leaves the machine.
NOBODY = "192.0.2.1"


def reach(host=NOBODY, port=443):
    """Try to connect, as background code does: what goes wrong is swallowed."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        pass


def seen(start, **rule):
    """What a guard sees of code."""
    guard = FetchGuard(block=True, **rule)
    with contextlib.suppress(NetworkExceeded), guard:
        start()
    return guard.attempts


# -- what counts


def test_a_connection_is_seen():
    """With its address, its line and its origin."""
    (attempt,) = seen(reach)
    assert (attempt.kind, attempt.address, attempt.port) == ("connect", NOBODY, 443)
    assert attempt.blocked
    assert attempt.line.where.startswith("test_fetch_guard.py:")
    assert attempt.line.where.endswith("in reach")
    assert "socket.create_connection" in attempt.line.source


def test_a_guard_that_saw_something_raises():
    """With where to, the line, and what to do."""
    with pytest.raises(NetworkExceeded) as caught, FetchGuard(block=True):
        reach()
    text = str(caught.value)
    assert text.startswith(f"1 attempt to connect to {NOBODY}:443, limit 0\n")
    assert "where  test_fetch_guard.py:" in text
    assert f'allow  allow_hosts=["{NOBODY}"]' in text
    assert len(text.splitlines()) <= 13
    assert all(len(line) <= 72 for line in text.splitlines())


def test_a_failure_of_its_own_wins():
    """What is raised inside comes out as it is; the attempts are there to be looked at."""
    guard = FetchGuard(block=True)

    def start():
        with guard:
            reach()
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        start()
    assert len(guard.attempts) == 1


def test_a_blocked_attempt_is_refused():
    """As by a closed port, so that code which retries or gives up does so."""

    def start():
        with pytest.raises(ConnectionRefusedError, match="pytest-streamperf is in the way"):
            socket.create_connection((NOBODY, 443), timeout=1)

    assert len(seen(start)) == 1


@pytest.mark.parametrize(
    ("send", "kind"),
    [
        (lambda one: one.connect((NOBODY, 9)), "datagram"),
        (lambda one: one.sendto(b"x", (NOBODY, 9)), "datagram"),
        (lambda one: one.sendmsg([b"x"], [], 0, (NOBODY, 9)), "datagram"),
    ],
)
def test_datagrams_are_seen(send, kind):
    """Connected or not."""

    def start():
        with socket.socket(type=socket.SOCK_DGRAM) as one, contextlib.suppress(OSError):
            send(one)

    assert [(attempt.kind, attempt.port) for attempt in seen(start)] == [(kind, 9)]


@pytest.mark.parametrize(
    "look_up",
    [
        lambda: socket.getaddrinfo("model.example", 443),
        lambda: socket.gethostbyname("model.example"),
        lambda: socket.create_connection(("model.example", 443)),
        lambda: urllib.request.urlopen("https://model.example/models"),
    ],
)
def test_a_name_that_is_looked_up_is_seen(look_up):
    """By itself, and on the way to a connection that is not made then."""

    def start():
        with contextlib.suppress(OSError):
            look_up()

    assert [(each.kind, each.host) for each in seen(start)] == [("resolve", "model.example")]


def test_what_stays_here_does_not_count():
    """Loopback, by name too, a socket in the file system, and addresses of one's own."""

    def start():
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with (
                contextlib.suppress(OSError),
                socket.create_server((host, 0), family=family) as one,
            ):
                reach(*one.getsockname()[:2])
        with socket.create_server(("", 0)) as one:
            reach("localhost", one.getsockname()[1])
        with socket.socket(socket.AF_UNIX) as one, contextlib.suppress(OSError):
            one.connect("/nowhere")

    assert seen(start) == []


def test_what_is_listened_on_is_ones_own():
    """A server on any of this machine's addresses."""
    listening = [("192.0.2.7", 8000)]
    own = Attempt(kind="connect", address="192.0.2.7", port=8000)
    other = Attempt(kind="connect", address="192.0.2.7", port=8001)
    assert is_allowed(own, allowed_hosts([]), listening)
    assert not is_allowed(other, allowed_hosts([]), listening)


# -- who is allowed


@pytest.mark.parametrize(
    ("host", "allowed", "expected"),
    [
        ("example.org", ["example.org"], True),
        ("api.example.org", ["example.org"], True),
        ("API.Example.ORG.", ["example.org"], True),
        ("badexample.org", ["example.org"], False),
        ("example.org", ["api.example.org"], False),
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("11.1.2.3", ["10.0.0.0/8"], False),
        ("2001:db8::1", ["2001:db8::/32"], True),
        ("192.0.2.1", ["192.0.2.1"], True),
        ("192.0.2.1", [], False),
    ],
)
def test_allowed_hosts(host, allowed, expected):
    """Names with what is below them, addresses and networks."""
    known = {"address": host} if is_address(host) else {"host": host}
    attempt = Attempt(kind="connect", port=443, **known)
    assert is_allowed(attempt, allowed_hosts(allowed)) is expected


def test_an_address_is_allowed_by_its_name(monkeypatch):
    """Where the name was looked up before."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (NOBODY, 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: found)

    def start():
        socket.getaddrinfo("model.example", 443)
        reach()

    (refused,) = seen(start)
    assert (refused.host, refused.address) == ("model.example", NOBODY)
    assert refused.target == "model.example:443"


@pytest.mark.parametrize("host", ["https://example.org", "example.org:443", "a b", "", 7])
def test_a_host_that_is_none(host):
    """Says what it takes."""
    with pytest.raises(ValueError, match=r"allow_hosts takes names, addresses and networks"):
        FetchGuard(allow_hosts=[host])


@given(st.ip_addresses())
def test_loopback_is_local_and_the_rest_is_not(address):
    """However it is written."""
    mapped = getattr(address, "ipv4_mapped", None) or address
    assert is_local(str(address)) is (mapped.is_loopback or mapped.is_unspecified)
    assert is_address(str(address))


def test_a_resolver_on_loopback_is_name_resolution():
    """It asks others in turn."""
    assert not stays_here("datagram", "127.0.0.53", 53)
    assert not is_allowed(
        Attempt(kind="datagram", address="127.0.0.53", port=53), allowed_hosts([])
    )
    assert stays_here("datagram", "127.0.0.53", 5353)


def test_an_unknown_address_is_never_allowed():
    """What the kernel could not read."""
    assert not is_allowed(Attempt(kind="connect"), allowed_hosts(["0.0.0.0/0"]))


def test_a_ring_is_inconclusive():
    """By it could have gone what nobody saw; an address that is known is worse."""
    ring = Attempt(kind="ring", thread_name="fetcher", process=7, seen_by="kernel", blocked=True)
    found = verdict_on_attempts([ring], exact=True)
    assert found.verdict == "inconclusive"
    assert found.message.splitlines() == [
        "1 io_uring was created",
        "",
        "  what   by fetcher, process 7, seen by the kernel only, blocked",
        "  why    an io_uring cannot be observed, so the guard refuses it",
        "  try    use epoll, or background_fetch=True if the ring is for files",
    ]
    assert verdict_on_attempts([ring, ring], exact=True).headline == "2 io_urings were created"
    known = Attempt(kind="connect", address="192.0.2.1", port=443)
    assert verdict_on_attempts([ring, known], exact=True).headline.startswith(
        "2 attempts to connect to 192.0.2"
    )


def test_an_unknown_address_is_inconclusive():
    """It may have been this machine's own; beside one that is known it does not matter."""
    unread = Attempt(kind="connect", process=7, thread_name="psql", seen_by="kernel")
    found = verdict_on_attempts([unread, unread])
    assert found.verdict == "inconclusive"
    assert found.message.splitlines() == [
        "2 calls to an address that could not be read",
        "",
        "  what   by psql, process 7, seen by the kernel only",
        "  why    the guard may not read the memory of the process: see Yama",
        "  try    sysctl kernel.yama.ptrace_scope=0, or run as root",
    ]
    assert (
        verdict_on_attempts([unread, Attempt(kind="connect", address="192.0.2.1")]).verdict
        == "exceeded"
    )


# -- who started it


def in_a_thread():
    """The usual way."""
    thread = threading.Thread(target=reach)
    thread.start()
    thread.join()


def in_a_timer():
    """A little later."""
    timer = threading.Timer(0, reach)
    timer.start()
    timer.join()


def in_a_low_thread():
    """Without `threading`."""
    done = threading.Event()
    _thread.start_new_thread(lambda: (reach(), done.set()), ())
    done.wait()


def in_an_executor():
    """A pool's."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        pool.submit(reach).result()


async def connect():
    """As asyncio does."""
    with contextlib.suppress(OSError):
        await asyncio.open_connection(NOBODY, 443)


def in_a_task():
    """A background task."""

    async def main():
        await asyncio.create_task(connect())

    asyncio.run(main())


def in_to_thread():
    """A thread that knows its context."""

    async def main():
        await asyncio.to_thread(reach)

    asyncio.run(main())


def in_trio():
    """A nursery's task."""

    async def child():
        with contextlib.suppress(OSError):
            await trio.open_tcp_stream(NOBODY, 443)

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    trio.run(main)


def in_a_forked_child():
    """Another process, which goes on with what this one had."""
    child = os.fork()
    if not child:
        try:
            reach()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


WAYS = [
    *(in_a_thread, in_a_timer, in_a_low_thread, in_an_executor),
    *(in_a_task, in_to_thread, in_trio, in_a_forked_child),
]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # that it may fork
@pytest.mark.parametrize("way", WAYS)
def test_whoever_started_it_is_guilty(way):
    """Wherever it runs by then: a guard around the start sees it."""
    (attempt,) = seen(way)
    assert attempt.address == NOBODY
    assert " / guard " in attempt.origin


@pytest.mark.parametrize("way", [in_a_thread, in_a_timer, in_an_executor, in_a_task])
def test_the_line_that_started_it_is_told(way):
    """Not only the one that it came to."""
    (attempt,) = seen(way)
    assert attempt.started.where.startswith("test_fetch_guard.py:")
    assert way.__name__ in attempt.started.where


def test_a_pools_thread_works_for_whoever_asks():
    """Though it was started for somebody else."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = seen(lambda: pool.submit(reach).result())
        second = seen(lambda: pool.submit(reach).result())
    assert first[0].thread == second[0].thread
    assert first[0].origin != second[0].origin


def test_guards_within_guards():
    """What the inner one sees is of the outer one, too; not the reverse."""
    outer, inner = FetchGuard(block=True), FetchGuard(block=True)
    with contextlib.suppress(NetworkExceeded), outer:
        reach(port=1)
        with contextlib.suppress(NetworkExceeded), inner:
            reach(port=2)
        reach(port=3)
    assert [each.port for each in inner.attempts] == [2]
    assert [each.port for each in outer.attempts] == [1, 2, 3]


def test_nothing_is_left_behind():
    """Wrappers are gone, files too; what runs on is not seen."""
    before = threading.Thread.start, asyncio.BaseEventLoop.create_task, socket.getaddrinfo
    with FetchGuard():
        assert threading.Thread.start is not before[0]
    assert (threading.Thread.start, asyncio.BaseEventLoop.create_task, socket.getaddrinfo) == before


def test_a_guard_guards_once():
    """Another is made for another block."""
    guard = FetchGuard()
    with guard:
        pass
    with pytest.raises(RuntimeError, match="a FetchGuard guards once"):
        guard.__enter__()


# -- which request it was


def test_a_request_is_described():
    """By httpx and urllib: method and URL, without what may be secret."""

    def by_httpx():
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(f"http://user:secret@{NOBODY}/models?key=secret")

    def by_urllib():
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://{NOBODY}:8000/models?key=secret")

    assert {each.request for each in seen(by_httpx)} == {f"GET http://{NOBODY}/models"}
    assert {each.request for each in seen(by_urllib)} == {f"GET http://{NOBODY}:8000/models"}


def test_an_async_request_is_described():
    """Where the client connects in a task of its own."""

    async def main():
        async with httpx.AsyncClient() as client:
            with contextlib.suppress(httpx.HTTPError):
                await client.post("http://model.example/v1/models")

    (attempt,) = seen(lambda: asyncio.run(main()))
    assert attempt.request == "POST http://model.example/v1/models"
    assert attempt.line.where.endswith("main") or attempt.started.where.endswith("main")


def test_what_goes_wrong_here_breaks_nothing(monkeypatch):
    """The code that is watched goes on; an attempt that was not understood is one all the same."""
    monkeypatch.setattr(origins, "started_here", lambda: 1 / 0)
    with socket.create_server(("127.0.0.1", 0)) as server, Network.opened() as network:
        network.guard("test", Rule())
        with contextlib.suppress(OSError):
            socket.getaddrinfo("model.invalid", 443)
        reach(*server.getsockname())
        (attempt,) = network.attempts(origins.origin_here())
    assert attempt.host == "an unknown host, by socket.getaddrinfo"


def test_an_audit_event_without_a_handler_leaves_nothing_behind():
    """The audit hooks keep no reference to the arguments of an event that they do not handle."""
    with FetchGuard(block=True):
        argument = threading.Event()
        sys.audit("streamperf.tests", argument)
        is_alive = weakref.ref(argument)
        del argument
    assert is_alive() is None


# -- what others refuse


@pytest.fixture
def refuse(monkeypatch):
    """A guard as pytest-socket has: it raises before Python tells of anything."""

    class SocketConnectBlockedError(RuntimeError):
        def __init__(self, host):
            super().__init__(host)

    def guarded_connect(inst, *args):
        inst.close()
        raise SocketConnectBlockedError(args[0][0])

    theirs = types.SimpleNamespace(SocketConnectBlockedError=SocketConnectBlockedError)
    monkeypatch.setitem(sys.modules, "pytest_socket", theirs)
    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    return SocketConnectBlockedError


def test_what_others_refuse_was_tried(refuse):
    """And they refuse it as they do without us."""
    before = refuse.__init__

    def start():
        with pytest.raises(refuse):
            reach()

    (attempt,) = seen(start)
    assert attempt.target == f"{NOBODY}:443"
    assert refuse.__init__ is before


# -- native code


def test_native_code_is_inconclusive(monkeypatch):
    """Where it is loaded, silence proves nothing; it is named."""
    monkeypatch.setattr(
        "pytest_streamperf.network.fetch_guard.networking_libraries", lambda: ["loop.so"]
    )
    with (
        pytest.raises(NetworkInconclusive, match="native code that may reach") as caught,
        FetchGuard(),
    ):
        pass
    assert "why    loop.so" in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_python_itself_is_not_native_networking_code():
    """Its own modules go through what is seen."""
    assert not [each for each in native_libraries.networking_libraries() if "socket" in each]


def elf(*symbols):
    """A file of a table of symbols: names, and whether it defines them itself."""
    names = b"\0" + b"".join(b"tcp_" + name + b"\0" for name, _ in symbols)
    table = b"".join(
        struct.pack("=IBBHQQ", names.index(name + b"\0"), 0, 0, 7 if own else 0, 0, 0)
        for name, own in symbols
    )
    sections = [(2, 0, 0), (11, 64, len(table)), (3, 64 + len(table), len(names))]
    headers = b"".join(
        struct.pack("=IIQQQQIIQQ", 0, kind, 0, 0, at, length, 2, 0, 0, 0)
        for kind, at, length in sections
    )
    start = 64 + len(table) + len(names)
    header = b"\x7fELF" + struct.pack("=36xQ10xHHH", start, 64, len(sections), 0)
    return header + table + names + headers


@pytest.mark.parametrize(
    ("content", "connects"),
    [
        (elf((b"connect", False), (b"socket", False)), True),
        (elf((b"connect", True), (b"socket", False)), False),
        (elf((b"disconnect", False), (b"socket", False)), False),
        (elf((b"socket", False)), False),
        (b"no library\0connect\0socket\0", False),
        (b"", False),
        (b"\x7fELF" + bytes(60) + b"\0connect\0socket\0", True),
        (b"\x7fELF" + b"\xff" * 60 + b"\0connect\0socket\0", True),
        (elf((b"malloc", False)).replace(struct.pack("=I", 2) + bytes(4), b"\xff" * 8), False),
    ],
    ids=["both", "its own", "another", "one", "none", "empty", "stripped", "wild", "astray"],
)
def test_a_library_is_told_by_its_symbols(tmp_path, content, connects):
    """Those of the C library that connect; names may share their tails."""
    library = tmp_path / "library.so"
    library.write_bytes(content)
    assert native_libraries._connects(str(library)) is connects


def test_a_profilers_copy_of_libcurl_asks_nobody(tmp_path):
    """Memray loads one with its plugin, in every run where that is installed."""
    for package, connects in (("memray.libs", False), ("others.libs", True)):
        library = tmp_path / package / "libcurl.so"
        library.parent.mkdir()
        library.write_bytes(elf((b"connect", False), (b"socket", False)))
        assert native_libraries._connects(str(library)) is connects


def test_a_library_that_is_gone(tmp_path):
    """Was replaced by an upgrade, say."""
    assert not native_libraries._connects(str(tmp_path / "missing.so"))


# -- plain values


ORIGINS = st.lists(st.text("ab:_", min_size=1), min_size=1, max_size=4)


@given(ORIGINS, ORIGINS)
def test_origins_are_within_others(names, others):
    """Each of those it is within, and of no other."""
    inner = names[0]
    for name in names[1:]:
        inner = nested_origin(inner, name)
    attempt = Attempt(kind="connect", origin=inner)
    for outer in outer_origins(inner):
        assert of_origin([attempt], outer) == [attempt]
    other = nested_origin("c", others[0])
    assert of_origin([attempt], other) == []


def test_a_journal_is_read_as_it_grows():
    """By whoever has it open, each from the beginning; half a line is waited for."""
    with Journal() as journal, Journal(journal.path) as other:
        journal.write({"n": 1})
        assert [*other.read()] == [{"n": 1}]
        other.write({"n": 2})
        os.write(journal.fd, b'{"n"')
        assert [*journal.read()] == [{"n": 1}, {"n": 2}]
        os.write(journal.fd, b":3}\n")
        assert [*journal.read()] == [{"n": 3}]
    assert not os.path.exists(journal.path)  # noqa: PTH110 - it is a path as text


def test_what_is_taken_down_is_bounded():
    """One that tries without end says nothing new; nor does it hide anybody else."""

    def many():
        with socket.socket(socket.AF_UNIX) as one:
            for _ in range(1_100):
                one.connect_ex("/nowhere")
        for _ in range(1_100):
            reach()

    assert len(seen(many)) == 1_000


def test_an_attempt_survives_json():
    """As it goes through the journal."""
    line = origins.starting(sys._getframe()).line
    attempt = Attempt(kind="connect", line=line, started=None, port=3)
    with Journal() as journal:
        journal.write({"attempt": attempt.plain()})
        assert [Attempt.of(each["attempt"]) for each in journal.read()] == [attempt]


@pytest.mark.parametrize(
    ("attempt", "target"),
    [
        (Attempt(kind="connect", address="::1", port=80), "[::1]:80"),
        (Attempt(kind="connect", host="a.b", address="1.2.3.4", port=80), "a.b:80"),
        (Attempt(kind="resolve", host="a.b"), "a.b"),
        (Attempt(kind="connect"), "an unknown address"),
    ],
)
def test_targets(attempt, target):
    """As people write them."""
    assert attempt.target == target
