r"""Record a stream of bytes in a small readable file, and play it back.

    recorder = Recorder()
    for chunk in recorder(response.iter_raw()):
        ...
    recorder.recording.save("reply.jsonl")

    Recording.load("reply.jsonl").stream()

A file starts with a line of JSON about the recording. One line for each chunk follows. It holds the
seconds since the chunk before, and the bytes: as `text` if they are UTF-8, otherwise as `base64`:

    {"recording": 1, "media_type": "text/event-stream"}
    {"after": 0.31, "text": "data: {\"content\":\"Gr"}
    {"after": 0.02, "base64": "w7w="}

A recording of a stream that failed ends with the line `{"error": "..."}`.
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

_FILE_VERSION = 1
_SSE = "text/event-stream"
# A recorder holds its chunks in memory, so it refuses to grow without a limit. Not measured.
_MAX_BYTES = 64 * 2**20
# Times in a file are rounded to microseconds. Not measured: no reason is on record.
_TIME_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Recording:
    r"""A recorded stream: its chunks, the seconds before each chunk, and the error at its end.

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
        """Return a stream that plays the recording back, at its own pace or at the pace `every`.

        `every` is in seconds, or a text such as "50ms", or an iterable of the times before each
        chunk. With another `cut`, a chunk arrives at the recorded time of its last byte. Faults
        count chunks after the cut.
        """
        chunks = tuple(cut(self.chunks))
        stream = Stream(chunks, self._pace(chunks) if every is None else every)
        stream.media_type = self.media_type
        stream.error = ConnectionError(self.error) if self.error else None
        return stream

    def _pace(self, chunks: tuple[bytes, ...]) -> list[float]:
        ends, times = list(accumulate(map(len, self.chunks))), list(accumulate(self.gaps))
        arrivals = [times[bisect_left(ends, end)] for end in accumulate(map(len, chunks))]
        return [
            round(after - before, _TIME_DECIMALS) for before, after in pairwise([0.0, *arrivals])
        ]

    def save(self, path: str | Path) -> None:
        """Write the recording to a file."""
        lines: list[dict[str, Any]] = [{"recording": _FILE_VERSION, "media_type": self.media_type}]
        for gap, chunk in zip(self.gaps, self.chunks, strict=True):
            lines.append({"after": gap, **_chunk_entry(chunk)})
        if self.error:
            lines.append({"error": self.error})
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        Path(path).write_text(text, encoding="utf-8", newline="\n")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a recording from a file; `RecordingError` if the file is no recording."""
        head, *entries = _read_file(path) or [""]
        if not head:
            msg = f"{path}: the file is empty"
            raise RecordingError(msg)
        error = entries.pop() if entries and isinstance(entries[-1], str) else ""
        gaps, chunks = zip(*entries, strict=True) if entries else ((), ())
        return cls(chunks, gaps, head, error)


class Recorder:
    """A recorder of the chunks that it hands on. Call it for a sync stream, `aiter` for async.

    `most` is in bytes, or a text such as "64MiB". Raises `ValueError` if the stream is longer.

    >>> recorder = Recorder()
    >>> list(recorder([b"data: 1"])), recorder.recording.chunks
    ([b'data: 1'], (b'data: 1',))
    """

    def __init__(self, *, media_type: str = _SSE, most: Bytes = _MAX_BYTES) -> None:
        self._media_type, self._most = media_type, argument("most", bytes_of, most)
        self._arrivals: list[tuple[float, bytes]] = []
        self._start = 0.0
        self._length = 0
        self._error = ""

    @property
    def recording(self) -> Recording:
        """The recording of the chunks that have arrived until now."""
        times = [0.0, *(at for at, _ in self._arrivals)]
        gaps = (round(after - before, _TIME_DECIMALS) for before, after in pairwise(times))
        chunks = (chunk for _, chunk in self._arrivals)
        return Recording(tuple(chunks), tuple(gaps), self._media_type, self._error)

    def __call__(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        with self._new_recording():
            for chunk in chunks:
                self._record(chunk)
                yield chunk

    async def aiter(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Record an async stream, and hand its chunks on."""
        with self._new_recording():
            async for chunk in chunks:
                self._record(chunk)
                yield chunk

    @contextmanager
    def _new_recording(self) -> Iterator[None]:
        self._arrivals, self._length, self._error = [], 0, ""
        self._start = time.monotonic()
        try:
            yield
        except Exception as error:
            self._error = f"{type(error).__name__}: {error}"
            raise

    def _record(self, chunk: bytes) -> None:
        self._length += len(chunk)
        if self._length > self._most:
            msg = f"the recording is longer than {self._most:,} bytes; most= sets this limit"
            raise ValueError(msg)
        if chunk:
            self._arrivals.append(
                (round(time.monotonic() - self._start, _TIME_DECIMALS), bytes(chunk))
            )


def _chunk_entry(chunk: bytes) -> dict[str, str]:
    try:
        return {"text": chunk.decode()}
    except UnicodeDecodeError:
        return {"base64": b64encode(chunk).decode()}


def _read_file(path: str | Path) -> list[Any]:
    """Return the media type, a pair of gap and chunk for each chunk, and the error, if any."""
    entries: list[Any] = []
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            read, expected = _ENTRY if entries else _HEAD
            try:
                if entries[1:] and isinstance(entries[-1], str):
                    raise ValueError(line)  # nothing comes after an error
                entries.append(read(json.loads(line.decode())))
            except _PARSE_ERRORS as wrong:
                shown = line.decode(errors="replace").strip()[:60]
                msg = f"{path}:{number}: {expected} was expected, not {shown!r}"
                raise RecordingError(msg) from wrong
    return entries


def _parse_head(line: Any) -> str:
    if line["recording"] != _FILE_VERSION:
        raise ValueError(line)
    return str(line["media_type"])


def _parse_entry(line: Any) -> tuple[float, bytes] | str:
    if "error" in line:
        return str(line["error"])
    text = line.get("text")
    chunk = b64decode(line["base64"], validate=True) if text is None else text.encode()
    return seconds_of(float(line["after"])), chunk


_PARSE_ERRORS = AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError
_HEAD = _parse_head, f'{{"recording": {_FILE_VERSION}, "media_type": "..."}}'
_ENTRY: tuple[Callable[[Any], Any], str] = (
    _parse_entry,
    '{"after": seconds from 0 on, "text": "..."}, or "base64", or {"error": "..."} at the end',
)
