"""Workers: what they say through shared memory, or a pipe, and that nothing of them is left."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app, slots, workers
from reference_impl.slots import SIZE, STATUSES, State, packed, publish, read, unpacked
from reference_impl.workers import Registry

ROOT = Path(__file__).parents[2]
PATH = "/api/dev/workers"

NUMBERS = st.integers(0, 2**64 - 1)
STATES = st.builds(State, NUMBERS, NUMBERS, st.sampled_from(STATUSES), NUMBERS, NUMBERS, NUMBERS)


@pytest.fixture
def block():
    """Memory for two workers."""
    return memoryview(bytearray(2 * SIZE))


@pytest.fixture
def impatient(monkeypatch):
    """Have readers give up at once."""
    monkeypatch.setattr(slots, "_TRIES", 2)


def ended(pids, within=20.0):
    """Whether these processes end, none of them being children of this one."""
    there = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    return not psutil.wait_procs(there, timeout=within)[1]


# -- a slot


@given(STATES)
def test_a_state_is_packed(state):
    """And is the same when it is unpacked."""
    assert unpacked(packed(state)) == state


@given(st.lists(STATES, min_size=1), STATES)
def test_what_is_read_was_written_last(states, other):
    """In each slot by itself."""
    block = memoryview(bytearray(2 * SIZE))
    publish(block, 1, other)
    for state in states:
        publish(block, 0, state)
        assert read(block, 0) == state
    assert read(block, 1) == other


@given(STATES, STATES, st.integers(0, SIZE))
def test_a_torn_state_is_never_read(old, new, written):
    """Half of one and half of the next, wherever it is cut: either of them, or none."""
    block, after = memoryview(bytearray(SIZE)), memoryview(bytearray(SIZE))
    for state in (old, new):
        publish(after, 0, state)
    publish(block, 0, old)
    block[:written] = after[:written]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slots, "_TRIES", 1)
        assert read(block, 0) in {old, new, None}


@given(STATES, st.integers(0, SIZE * 8 - 1))
def test_a_wrong_bit(state, bit):
    """Is seen wherever it is."""
    block = memoryview(bytearray(SIZE))
    publish(block, 0, state)
    block[bit // 8] ^= 1 << bit % 8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slots, "_TRIES", 1)
        assert read(block, 0) is None


def test_a_state_that_is_being_written_is_read_again(block, monkeypatch):
    """Who reads gives way, and gets the one that is there then."""
    state = State(0, 4711, tasks=3)
    publish(block, 0, State(0, 1))
    block[0] |= 1
    monkeypatch.setattr(slots.time, "sleep", lambda _: publish(block, 0, state))
    assert read(block, 0) == state


@pytest.mark.usefixtures("impatient")
def test_nothing_was_written(block):
    """There is no state then, nor where its writer was stopped midway; the next one heals it."""
    assert read(block, 0) is None
    publish(block, 0, State(0, 1))
    block[0] |= 1
    assert read(block, 0) is None
    publish(block, 0, State(0, 2))
    assert read(block, 0) == State(0, 2)


def test_its_version_is_odd(block, monkeypatch):
    """While a state is written, and what has an odd one is not read, whatever its checksum."""
    check, odd = slots._check, []

    def looking(body, version):
        odd.append(block[0] % 2)
        return check(body, version + 1)

    publish(block, 0, State(0, 1))
    monkeypatch.setattr(slots, "_check", looking)
    publish(block, 0, State(0, 2))
    monkeypatch.undo()
    assert odd == [1]
    monkeypatch.setattr(slots, "_TRIES", 1)
    block[0] += 1
    assert read(block, 0) is None


# -- workers


def test_who_asks_at_once():
    """Has one team started, that is told of uncached, and ends with the server."""
    with serve_app(create_app(debug=True)) as url, ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(httpx.get, [url + PATH] * 3))
        assert {each.headers["cache-control"] for each in answers} == {"no-cache"}
        found = [{worker["pid"] for worker in each.json()["workers"]} for each in answers]
        assert len(found[0]) == 2
        assert found[0] == found[1] == found[2]
        assert all(psutil.Process(pid).ppid() == os.getpid() for pid in found[0])
    assert not any(map(psutil.pid_exists, found[0]))


def test_a_server_that_nobody_asks():
    """Has no workers, and without `debug` there is no way to ask."""
    before = psutil.Process().children()
    with serve_app(create_app()) as url:
        assert httpx.get(url + PATH).status_code == 404
        assert psutil.Process().children() == before


def no_memory(*_, **__):
    """Say that there is no shared memory, as where /dev/shm is not there."""
    raise FileNotFoundError("/psm_1")


def blocked(monkeypatch, how):
    """Take shared memory away."""
    if how == "no module":
        monkeypatch.setitem(sys.modules, "multiprocessing.shared_memory", None)
    if how == "no memory":
        monkeypatch.setattr("multiprocessing.shared_memory.SharedMemory", no_memory)


@pytest.mark.parametrize("how", ["shared", "no module", "no memory"])
def test_what_workers_say(monkeypatch, how):
    """Is the same with shared memory and without; the time of a task is known after the first."""
    blocked(monkeypatch, how)
    with closing(Registry(1)) as registry:
        while not (found := registry.snapshot())["workers"][0]["tasks"]:
            pass
        assert found["shared"] is (how == "shared")
        (worker,) = found["workers"]
        assert list(worker) == list(State._fields)
        assert worker["took"] > 0
        assert worker["status"] in STATUSES
    assert not psutil.pid_exists(worker["pid"])


@pytest.mark.parametrize("how", ["shared", "no memory"])
def test_a_worker_that_was_killed(monkeypatch, how):
    """Is told to be gone, and what it said last is still there."""
    blocked(monkeypatch, how)
    with closing(Registry(1)) as registry:
        pid = registry.snapshot()["workers"][0]["pid"]
        psutil.Process(pid).kill()
        said = (registry.snapshot()["workers"][0] for _ in range(100_000))
        assert next(each for each in said if each["status"] == "gone")["pid"] == pid


def test_workers_that_do_not_start(monkeypatch):
    """Are a 503, and none of them is left."""
    monkeypatch.setattr(workers, "_TO_START", 0.0)
    before = psutil.Process().children()
    with serve_app(create_app(debug=True)) as url:
        answer = httpx.get(url + PATH)
        assert answer.status_code == 503
        assert "a worker did not start in 0 s" in answer.json()["error"]["message"]
    left = {each.pid for each in psutil.Process().children()} - {each.pid for each in before}
    assert not [pid for pid in left if "spawn_main" in " ".join(psutil.Process(pid).cmdline())]


@pytest.mark.parametrize("how", ["shared", "no memory"])
def test_a_worker_that_ends_as_it_starts(monkeypatch, how):
    """Is what is told of, and nothing else that went wrong with it."""
    blocked(monkeypatch, how)
    monkeypatch.setattr(workers, "_work", slice)  # which takes anything, does nothing, and is there
    with closing(Registry(1)) as registry, pytest.raises(ChildProcessError, match="as it started"):
        registry.snapshot()


def test_who_asks_while_it_is_closed(monkeypatch):
    """Is told first: nothing is taken away from under a reader."""
    did = []

    class Team:
        def __init__(self, _count):
            pass

        def snapshot(self):
            closes.start()
            closes.join(0.1)
            did.append("told")

        def close(self):
            did.append("closed")

    monkeypatch.setattr(workers, "_Team", Team)
    registry = Registry(1)
    closes = threading.Thread(target=registry.close)
    registry.snapshot()
    closes.join()
    assert did == ["told", "closed"]


def test_the_loop_goes_on_while_workers_stop(monkeypatch):
    """They may have to start before."""
    goes_on, seen = threading.Event(), []
    monkeypatch.setattr(Registry, "close", lambda _: seen.append(goes_on.wait(1.0)))

    async def end():
        staff = workers.OfTheLoop()
        await staff.get()
        asyncio.get_running_loop().call_soon(goes_on.set)
        await staff._lasting.aclose()

    asyncio.run(end())
    assert seen == [True]


def test_workers_that_were_stopped(monkeypatch):
    """Are a 503, too."""

    def stopped(_):
        raise RuntimeError("the workers were stopped")

    monkeypatch.setattr(Registry, "snapshot", stopped)
    with serve_app(create_app(debug=True)) as url:
        answer = httpx.get(url + PATH)
    assert answer.status_code == 503
    assert "the workers were stopped" in answer.json()["error"]["message"]


def test_a_registry_that_is_closed():
    """Starts nobody again."""
    registry = Registry(1)
    registry.close()
    with pytest.raises(RuntimeError, match="the workers were stopped"):
        registry.snapshot()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize("signum", ["SIGTERM", "SIGINT", "SIGKILL"])
def test_however_the_server_ends(signum):
    """Its workers end, it prints nothing, and the memory had no name any more."""
    command = [sys.executable, "-m", "reference_impl", "--debug"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            url = process.stdout.readline().split()[1]
            pids = [each["pid"] for each in httpx.get(url + PATH).json()["workers"]]
            maps = Path(f"/proc/{pids[0]}/maps")
            mapped = maps.read_text() if maps.exists() else ""
            process.send_signal(getattr(signal, signum))
            said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert ended(pids)
    assert said == ("", "")
    assert all("(deleted)" in line for line in mapped.splitlines() if "psm_" in line)
