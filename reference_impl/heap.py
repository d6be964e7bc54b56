"""A snapshot of the heap: the objects, their sizes and their references, as gzipped JSON.

    {"id", "timestampNs", "python", "collections": [of generation 0, 1 and 2],
     "objects": [[id, type, bytes, bytes of the untracked objects it refers to, [ids]], ...],
     "complete": whether the list has all objects}

The list has the objects that the garbage collector tracks. Strings and numbers are untracked; their
bytes count with the objects that refer to them. A thread takes the snapshot and the server sends it
piece by piece, so it neither blocks the event loop nor holds the whole snapshot in memory. The one
exception is the collector's list of objects. Nothing else runs while the collector makes that list,
which takes 10 to 90 ns for each object.
After the time limit the list of objects ends early, but the JSON is complete.
"""

import asyncio
import gc
import json
import sys
import time
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from threading import Lock
from types import ModuleType
from typing import Final
from uuid import uuid4

from starlette.concurrency import iterate_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

PATH: Final = "/api/dev/heap"

# Characters of JSON in one piece before compression. Not measured; test_heap.py requires compressed
# pieces below 128 KiB and a memory peak below 2 MiB.
_PIECE_CHARACTERS = 2**17
# A busy thread makes another thread wait 5 ms (sys.getswitchinterval) for the interpreter, and an
# event loop releases the interpreter at every socket call. So the snapshot's thread sleeps after
# every 64 objects, which take it less than half a millisecond.
_OBJECTS_BEFORE_REST, _REST_SECONDS = 64, 0.0001
# zlib: 15 bits for the window of 32 KiB, plus 16 for the gzip format.
_GZIP_WINDOW_BITS = 31
# Seconds for a client to read the rest after the time limit. Not measured: a slow client needs more
# than the snapshot itself.
_TO_READ = 10.0


class Snapshot(StreamingResponse):
    """An ASGI response that takes a snapshot of the heap and sends it piece by piece.

    The caller has acquired `lock`; the response releases it at its end. `limit` is the longest
    time, in seconds, for the list of objects. The response ends at most ten seconds after that
    time, even if the client has not read all of it.
    """

    def __init__(self, lock: Lock, limit: float) -> None:
        name = uuid4().hex
        super().__init__(
            stepwise(pieces(name, limit)),
            media_type="application/json",
            headers={
                "Content-Encoding": "gzip",
                "Cache-Control": "no-store",
                "Content-Disposition": f'attachment; filename="heap-snapshot-{name}.json.gz"',
            },
        )
        self._lock = lock
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take the snapshot and send it."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limit + _TO_READ):
                    await super().__call__(scope, receive, send)
        finally:
            self._lock.release()


def stepwise(steps: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Run each step in a thread, after the previous piece was sent."""
    return iterate_in_threadpool(steps)


def pieces(name: str, limit: float) -> Iterator[bytes]:
    """Yield the gzipped snapshot with the id `name`; its object list ends after `limit` seconds."""
    deadline = time.monotonic() + limit
    compressor = zlib.compressobj(wbits=_GZIP_WINDOW_BITS)
    about = {
        "id": name,
        "timestampNs": time.time_ns(),
        "python": sys.version,
        "collections": [generation["collections"] for generation in gc.get_stats()],
    }
    head = f'{json.dumps(about)[:-1]}, "objects": [\n'
    yield compressor.compress(head.encode()) + compressor.flush(zlib.Z_SYNC_FLUSH)
    lines: list[str] = []
    length, complete = 0, True
    for number, line in enumerate(_object_lines()):
        if number % _OBJECTS_BEFORE_REST == 0:
            time.sleep(_REST_SECONDS)
            if time.monotonic() >= deadline:
                complete = False
                break
        lines.append(line if number == 0 else f",\n{line}")
        length += len(line)
        if length >= _PIECE_CHARACTERS:
            text = "".join(lines)
            # One line may be longer than a piece.
            for start in range(0, len(text), _PIECE_CHARACTERS):
                yield compressor.compress(text[start : start + _PIECE_CHARACTERS].encode())
            lines, length = [], 0
    lines.append(f'\n], "complete": {json.dumps(complete)}}}\n')
    yield compressor.compress("".join(lines).encode()) + compressor.flush()


def _object_lines() -> Iterator[str]:
    """Yield a line of JSON for each object that the garbage collector tracks."""
    type_names: dict[type, str] = {}
    for tracked in gc.get_objects():
        kind = type(tracked)
        if kind not in type_names:
            type_names[kind] = json.dumps(f"{kind.__module__}.{kind.__qualname__}")
        ids, untracked_bytes = [], 0
        for referent in _referents(tracked):
            if gc.is_tracked(referent):
                ids.append(id(referent))
            else:
                untracked_bytes += _bytes_of(referent)
        yield f"[{id(tracked)}, {type_names[kind]}, {_bytes_of(tracked)}, {untracked_bytes}, {ids}]"


def _referents(thing: object) -> Iterable[object]:
    # A module's only referent here is its namespace. In CPython 3.12, gc.get_referents(_asyncio)
    # revives objects of a free list and makes the list a cycle; the next call then never returns.
    return [vars(thing)] if issubclass(type(thing), ModuleType) else gc.get_referents(thing)


def _bytes_of(thing: object) -> int:
    try:
        return sys.getsizeof(thing)
    except Exception:  # noqa: BLE001 - __sizeof__ of a class may raise any error
        return 0
