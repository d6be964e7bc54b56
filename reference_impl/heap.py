"""A snapshot of the heap: what there is, how large it is, and what holds what.

    {"id", "timestampNs", "python", "collections": [of generation 0, 1 and 2],
     "objects": [[id, type, bytes, bytes of what it holds that is not listed, [ids]], ...],
     "complete": whether these are all}

What is listed are the objects that the garbage collector knows; texts and numbers, which it does
not, are in the size of what holds them. It is made in a thread and sent as it is made, so neither
the event loop nor memory is taken up by it, but for the list of them: while the collector makes
that, in 10 to 90 ns for each object, nothing else runs. When its time is over the list ends where
it is: what comes before it is there in any case.
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

# Characters of a piece, before it is compressed.
_PIECE = 2**17
# A thread that computes keeps the others waiting for 5 ms whenever they let go of the interpreter,
# which a loop does for each socket. So it rests: so many objects are described in half of one.
_OBJECTS_BEFORE_REST, _REST = 64, 0.0001
_GZIP = 31
# Seconds that a client has to read what is there when the time is over.
_TO_READ = 10.0


class Snapshot(StreamingResponse):
    """An ASGI response that takes a snapshot, and sends it piece by piece.

    `taking` is held, and released when it is over. A client that has not read it ten seconds
    after its time is over is hung up on.
    """

    def __init__(self, taking: Lock, limit: float) -> None:
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
        self._taking = taking
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take it."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limit + _TO_READ):
                    await super().__call__(scope, receive, send)
        finally:
            self._taking.release()


def stepwise(steps: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Take each step in a thread, when the one before it was sent."""
    return iterate_in_threadpool(steps)


def pieces(name: str, limit: float) -> Iterator[bytes]:
    """Yield a snapshot of that name, as gzip; the list of objects ends after `limit` seconds."""
    until = time.monotonic() + limit
    packer = zlib.compressobj(wbits=_GZIP)
    about = {
        "id": name,
        "timestampNs": time.time_ns(),
        "python": sys.version,
        "collections": [each["collections"] for each in gc.get_stats()],
    }
    head = f'{json.dumps(about)[:-1]}, "objects": [\n'
    yield packer.compress(head.encode()) + packer.flush(zlib.Z_SYNC_FLUSH)
    lines: list[str] = []
    length, complete = 0, True
    for number, line in enumerate(_described()):
        if number % _OBJECTS_BEFORE_REST == 0:
            time.sleep(_REST)
            if time.monotonic() >= until:
                complete = False
                break
        lines.append(line if number == 0 else f",\n{line}")
        length += len(line)
        if length >= _PIECE:
            text = "".join(lines)
            for start in range(0, len(text), _PIECE):  # a container may hold very many
                yield packer.compress(text[start : start + _PIECE].encode())
            lines, length = [], 0
    lines.append(f'\n], "complete": {json.dumps(complete)}}}\n')
    yield packer.compress("".join(lines).encode()) + packer.flush()


def _described() -> Iterator[str]:
    """Lines of JSON, one for each object."""
    kinds: dict[type, str] = {}
    for each in gc.get_objects():
        kind = type(each)
        if kind not in kinds:
            kinds[kind] = json.dumps(f"{kind.__module__}.{kind.__qualname__}")
        held, unlisted = [], 0
        for other in _referents(each):
            if gc.is_tracked(other):
                held.append(id(other))
            else:
                unlisted += _size(other)
        yield f"[{id(each)}, {kinds[kind]}, {_size(each)}, {unlisted}, {held}]"


def _referents(thing: object) -> Iterable[object]:
    # Of a module, its names: to ask CPython 3.12's `_asyncio` for all revives objects on its list
    # of free ones, which is a circle then; who asks again never gets an answer.
    return [vars(thing)] if issubclass(type(thing), ModuleType) else gc.get_referents(thing)


def _size(thing: object) -> int:
    try:
        return sys.getsizeof(thing)
    except Exception:  # noqa: BLE001 - a class may say what it likes of its size
        return 0
