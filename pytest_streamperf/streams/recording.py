r"""Streams that were recorded: every chunk and when it came, in a small file that people can read.

    recorder = Recorder()
    for chunk in recorder(response.iter_raw()):
        ...
    recorder.recording.save("reply.jsonl")

    Recording.load("reply.jsonl").stream()

A file is a line of JSON about the whole, and one for each chunk: the seconds since the one before,
and its bytes, as `text` where they are UTF-8 and in `base64` where a character is cut:

    {"recording": 1, "media_type": "text/event-stream"}
    {"after": 0.31, "text": "data: {\"content\":\"Gr"}
    {"after": 0.02, "base64": "w7w="}

One that broke off ends with `{"error": "..."}`.
"""

import json
import time
from base64 import b64decode, b64encode
from bisect import bisect_left
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Self

from pytest_streamperf._results.units import Bytes, argument, bytes_of, seconds_of
from pytest_streamperf.exceptions import RecordingError
from pytest_streamperf.streams.chunking import Cut, per_event
from pytest_streamperf.streams.pacing import Pace
from pytest_streamperf.streams.token_stream import Stream

_VERSION = 1
_SSE = "text/event-stream"
_MOST = 64 * 2**20
# Times are told in microseconds.
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Recording:
    r"""Chunks, and the seconds before each of them; `error` is what a stream that broke ended with.

    >>> Recording((b"data: 1", b"\n\n"), (0.31, 0.02)).stream().deltas
    (b'data: 1', b'\n\n')
    """

    chunks: tuple[bytes, ...]
    gaps: tuple[float, ...]
    media_type: str = _SSE
    error: str = ""

    def __post_init__(self) -> None:
        if len(self.chunks) != len(self.gaps):
            msg = f"there are {len(self.chunks):,} chunks and {len(self.gaps):,} gaps"
            raise ValueError(msg)

    def stream(self, *, cut: Cut = per_event, every: Pace | None = None) -> Stream:
        """Make a stream of it, at its own pace unless `every` is another.

        `every` is in seconds, or a text such as "50ms", or the times before each chunk.

        Where it is cut anew, a chunk comes when the last of its bytes did. Faults count chunks.
        """
        chunks = tuple(cut(self.chunks))
        stream = Stream(chunks, self._pace(chunks) if every is None else every)
        stream.media_type = self.media_type
        stream.error = ConnectionError(self.error) if self.error else None
        return stream

    def _pace(self, chunks: tuple[bytes, ...]) -> list[float]:
        ends, times = list(accumulate(map(len, self.chunks))), list(accumulate(self.gaps))
        came = [times[bisect_left(ends, end)] for end in accumulate(map(len, chunks))]
        return [round(after - before, _DIGITS) for before, after in pairwise([0.0, *came])]

    def save(self, path: str | Path) -> None:
        """Write the file."""
        lines: list[dict[str, Any]] = [{"recording": _VERSION, "media_type": self.media_type}]
        for gap, chunk in zip(self.gaps, self.chunks, strict=True):
            lines.append({"after": gap, **_written(chunk)})
        if self.error:
            lines.append({"error": self.error})
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        Path(path).write_text(text, encoding="utf-8", newline="\n")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file. Raises `RecordingError` for one that is no recording."""
        head, *came = _read(path) or [""]
        if not head:
            msg = f"{path}: the file is empty"
            raise RecordingError(msg)
        error = came.pop() if came and isinstance(came[-1], str) else ""
        gaps, chunks = zip(*came, strict=True) if came else ((), ())
        return cls(chunks, gaps, head, error)


class Recorder:
    """Takes down what it hands on: the chunks of a sync stream, or of an async one by `aiter`.

    Raises `ValueError` where more than `most` bytes come: a number, or a text such as "64MiB".

    >>> recorder = Recorder()
    >>> list(recorder([b"data: 1"])), recorder.recording.chunks
    ([b'data: 1'], (b'data: 1',))
    """

    def __init__(self, *, media_type: str = _SSE, most: Bytes = _MOST) -> None:
        self._media_type, self._most = media_type, argument("most", bytes_of, most)
        self._came: list[tuple[float, bytes]] = []
        self._start = 0.0
        self._length = 0
        self._error = ""

    @property
    def recording(self) -> Recording:
        """What has come so far."""
        times = [0.0, *(at for at, _ in self._came)]
        gaps = (round(after - before, _DIGITS) for before, after in pairwise(times))
        chunks = (chunk for _, chunk in self._came)
        return Recording(tuple(chunks), tuple(gaps), self._media_type, self._error)

    def __call__(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        with self._anew():
            for chunk in chunks:
                self._take(chunk)
                yield chunk

    async def aiter(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Record an async stream, and hand it on."""
        with self._anew():
            async for chunk in chunks:
                self._take(chunk)
                yield chunk

    @contextmanager
    def _anew(self) -> Iterator[None]:
        self._came, self._length, self._error = [], 0, ""
        self._start = time.monotonic()
        try:
            yield
        except Exception as error:
            self._error = f"{type(error).__name__}: {error}"
            raise

    def _take(self, chunk: bytes) -> None:
        self._length += len(chunk)
        if self._length > self._most:
            msg = f"a recording may hold {self._most:,} bytes, and more came; most= sets that"
            raise ValueError(msg)
        if chunk:
            self._came.append((round(time.monotonic() - self._start, _DIGITS), bytes(chunk)))


def _written(chunk: bytes) -> dict[str, str]:
    try:
        return {"text": chunk.decode()}
    except UnicodeDecodeError:
        return {"base64": b64encode(chunk).decode()}


def _read(path: str | Path) -> list[Any]:
    """The media type, chunks with the seconds before them, and the error, if there was one."""
    found: list[Any] = []
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            read, expected = _CAME if found else _HEAD
            try:
                if found[1:] and isinstance(found[-1], str):
                    raise ValueError(line)  # nothing comes after an error
                found.append(read(json.loads(line.decode())))
            except _WRONG as wrong:
                shown = line.decode(errors="replace").strip()[:60]
                msg = f"{path}:{number}: {expected} was expected, not {shown!r}"
                raise RecordingError(msg) from wrong
    return found


def _head(line: Any) -> str:
    if line["recording"] != _VERSION:
        raise ValueError(line)
    return str(line["media_type"])


def _came(line: Any) -> tuple[float, bytes] | str:
    if "error" in line:
        return str(line["error"])
    text = line.get("text")
    chunk = b64decode(line["base64"], validate=True) if text is None else text.encode()
    return seconds_of(float(line["after"])), chunk


_WRONG = AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError
_HEAD = _head, f'{{"recording": {_VERSION}, "media_type": "..."}}'
_CAME: tuple[Callable[[Any], Any], str] = (
    _came,
    '{"after": seconds from 0 on, "text": "..."}, or "base64", or {"error": "..."} at the end',
)
