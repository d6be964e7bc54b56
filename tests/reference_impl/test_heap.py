"""Tests of heap snapshots: content, time limit, memory, and one snapshot at a time."""

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


class Unsizable:
    """A class of this test whose `__sizeof__` raises an error."""

    def __init__(self, referents):
        self.referents = referents

    def __sizeof__(self):
        raise ValueError


@pytest.fixture
def tracked_only(monkeypatch):
    """Return a function that makes the collector list only the given objects."""

    def track(*objects):
        monkeypatch.setattr(heap.gc, "get_objects", lambda: list(objects))

    return track


def snapshot(limit=30.0):
    """Take a snapshot and return its JSON data."""
    return json.loads(gzip.decompress(b"".join(heap.pieces("here", limit))))


def test_what_is_in_a_snapshot(tracked_only):
    """A snapshot lists objects with the ids of their referents and the size of their strings."""
    unsizable = Unsizable(["x" * 1_000_000])
    tracked_only(unsizable, unsizable.referents, [unsizable.referents, unsizable])
    objects = {entry[0]: entry for entry in snapshot()["objects"]}
    _, type_name, size, _, _ = objects[id(unsizable)]
    assert type_name.endswith("test_heap.Unsizable")
    assert size == 0
    _, type_name, _, untracked_bytes, referents = objects[id(unsizable.referents)]
    assert (type_name, referents) == ("builtins.list", [])
    assert 1_000_000 < untracked_bytes < 1_001_000
    assert {id(unsizable.referents), id(unsizable)} in [
        set(referents) for *_, referents in objects.values()
    ]


def test_a_snapshot_that_takes_too_long(tracked_only):
    """A snapshot at its time limit ends without the remaining objects, and is marked incomplete."""
    tracked_only([])
    truncated = snapshot(limit=0.0)
    assert (truncated["objects"], truncated["complete"]) == ([], False)
    assert set(truncated) == {"id", "timestampNs", "python", "collections", "objects", "complete"}
    assert snapshot()["complete"]


def test_a_snapshot_is_not_in_memory(tracked_only):
    """A snapshot of 50,000 objects keeps one piece at a time in memory, below 2 MiB."""
    containers = [[n] for n in range(50_000)]
    tracked_only(*containers)
    pieces = heap.pieces("here", 30.0)
    next(pieces)
    next(pieces)
    tracemalloc.start()
    try:
        length = sum(map(len, islice(pieces, 20)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(containers) == 50_000
    assert length > 50_000
    assert peak < 2 * 2**20


def test_a_container_of_very_many(tracked_only):
    """An object with 100,000 referents is still sent in pieces below 128 KiB."""
    containers = [[n] for n in range(100_000)]
    tracked_only(containers)
    assert max(map(len, heap.pieces("here", 30.0))) < 2**17
    assert len(containers) == 100_000


def test_a_module_holds_its_names(tracked_only):
    """A module's only referent in a snapshot is its namespace.

    In CPython 3.12, a second `gc.get_referents(_asyncio)` never returns.
    """
    tracked_only(asyncio, _asyncio)
    for _ in range(2):
        asyncio.run(asyncio.wait_for(asyncio.sleep(0), 1))
        assert [referents for *_, referents in snapshot()["objects"]] == [
            [id(vars(asyncio))],
            [id(vars(_asyncio))],
        ]


def test_how_it_is_sent():
    """The response is a gzipped attachment that caches must not store."""
    with serve_app(create_app(debug=True, snapshot_limit=0.1)) as url:
        response = httpx.get(f"{url}/api/dev/heap")
    snapshot_id = response.json()["id"]
    assert re.fullmatch(r"[0-9a-f]{32}", snapshot_id)
    assert {
        "content-type": "application/json",
        "content-encoding": "gzip",
        "cache-control": "no-store",
        "content-disposition": f'attachment; filename="heap-snapshot-{snapshot_id}.json.gz"',
        "access-control-allow-origin": "*",
    }.items() <= dict(response.headers).items()


def test_one_at_a_time():
    """A second snapshot is refused with 503 until the first ends, or until its client leaves."""
    app = create_app(debug=True, snapshot_limit=0.5)
    with serve_app(app) as url, ExitStack() as open_streams:
        open_streams.enter_context(httpx.stream("GET", f"{url}/api/dev/heap"))
        second = httpx.get(f"{url}/api/dev/heap")
        assert (second.status_code, second.json()["error"]["type"]) == (503, "busy")
        open_streams.close()
        statuses = (httpx.get(f"{url}/api/dev/heap").status_code for _ in range(1_000))
        assert 200 in statuses


@pytest.mark.asyncio
async def test_a_client_that_does_not_read(monkeypatch):
    """A snapshot ends and releases its lock when its client does not read."""
    monkeypatch.setattr(heap, "_TO_READ", 0.01)
    lock = Lock()
    lock.acquire()

    async def send(_message):
        await asyncio.Event().wait()

    scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
    await heap.Snapshot(lock, 0.01)(scope, asyncio.Event().wait, send)
    assert lock.acquire(blocking=False)


def test_not_without_debug():
    """A server without `debug` answers a request for a snapshot with 404."""
    with serve_app(create_app()) as url:
        assert httpx.get(f"{url}/api/dev/heap").status_code == 404
