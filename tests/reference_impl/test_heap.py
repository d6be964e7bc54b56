"""Snapshots of the heap: what is in one, when it ends, and that there is one at a time."""

import _asyncio
import asyncio
import gzip
import json
import re
import tracemalloc
from contextlib import ExitStack
from itertools import islice
from threading import Lock

import httpx
import pytest

from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app, heap


class Marked:
    """A class that is nowhere else, and is wrong about its size."""

    def __init__(self, held):
        self.held = held

    def __sizeof__(self):
        raise ValueError


@pytest.fixture
def only(monkeypatch):
    """Have the collector know of these objects alone: there are very many in a test run."""

    def know(*objects):
        monkeypatch.setattr(heap.gc, "get_objects", lambda: list(objects))

    return know


def snapshot(limit=30.0):
    """Take one, and read it."""
    return json.loads(gzip.decompress(b"".join(heap.pieces("here", limit))))


def test_what_is_in_a_snapshot(only):
    """Objects with what they hold, and the size of texts that they hold."""
    marked = Marked(["x" * 1_000_000])
    only(marked, marked.held, [marked.held, marked])
    found = {each[0]: each for each in snapshot()["objects"]}
    _, kind, size, _, _ = found[id(marked)]
    assert kind.endswith("test_heap.Marked")
    assert size == 0
    _, kind, _, unlisted, held = found[id(marked.held)]
    assert (kind, held) == ("builtins.list", [])
    assert 1_000_000 < unlisted < 1_001_000
    assert {id(marked.held), id(marked)} in [set(held) for *_, held in found.values()]


def test_a_snapshot_that_takes_too_long(only):
    """Ends where it is, and says so; what comes before the objects is there."""
    only([])
    found = snapshot(limit=0.0)
    assert (found["objects"], found["complete"]) == ([], False)
    assert set(found) == {"id", "timestampNs", "python", "collections", "objects", "complete"}
    assert snapshot()["complete"]


def test_a_snapshot_is_not_in_memory(only):
    """It takes a part of what it comes to: the list of objects, and a piece."""
    keep = [[n] for n in range(50_000)]
    only(*keep)
    taken = heap.pieces("here", 30.0)
    next(taken)
    next(taken)
    tracemalloc.start()
    try:
        length = sum(map(len, islice(taken, 20)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(keep) == 50_000
    assert length > 50_000
    assert peak < 2 * 2**20


def test_a_container_of_very_many(only):
    """Comes in pieces, too."""
    keep = [[n] for n in range(100_000)]
    only(keep)
    assert max(map(len, heap.pieces("here", 30.0))) < 2**17
    assert len(keep) == 100_000


def test_a_module_holds_its_names(only):
    """And is not asked for more: in CPython 3.12 one of them never answers the second time."""
    only(asyncio, _asyncio)
    for _ in range(2):
        asyncio.run(asyncio.wait_for(asyncio.sleep(0), 1))
        assert [held for *_, held in snapshot()["objects"]] == [
            [id(vars(asyncio))],
            [id(vars(_asyncio))],
        ]


def test_how_it_is_sent():
    """As an attachment, compressed, and not to be kept."""
    with serve_app(create_app(debug=True, snapshot_limit=0.1)) as url:
        answer = httpx.get(f"{url}/api/dev/heap")
    name = answer.json()["id"]
    assert re.fullmatch(r"[0-9a-f]{32}", name)
    assert {
        "content-type": "application/json",
        "content-encoding": "gzip",
        "cache-control": "no-store",
        "content-disposition": f'attachment; filename="heap-snapshot-{name}.json.gz"',
        "access-control-allow-origin": "*",
    }.items() <= dict(answer.headers).items()


def test_one_at_a_time():
    """Who asks while one is taken is told so; who left is not waited for."""
    app = create_app(debug=True, snapshot_limit=0.5)
    with serve_app(app) as url, ExitStack() as reading:
        reading.enter_context(httpx.stream("GET", f"{url}/api/dev/heap"))
        second = httpx.get(f"{url}/api/dev/heap")
        assert (second.status_code, second.json()["error"]["type"]) == (503, "busy")
        reading.close()
        asked = (httpx.get(f"{url}/api/dev/heap").status_code for _ in range(1_000))
        assert 200 in asked


@pytest.mark.asyncio
async def test_a_client_that_does_not_read(monkeypatch):
    """Is hung up on: nothing is kept for it."""
    monkeypatch.setattr(heap, "_TO_READ", 0.01)
    taking = Lock()
    taking.acquire()

    async def send(_message):
        await asyncio.Event().wait()

    scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
    await heap.Snapshot(taking, 0.01)(scope, asyncio.Event().wait, send)
    assert taking.acquire(blocking=False)


def test_not_without_debug():
    """It tells of the server's inside."""
    with serve_app(create_app()) as url:
        assert httpx.get(f"{url}/api/dev/heap").status_code == 404
