"""Count the flushes of a transport, and check them against limits on rate, size and delay.

`FlushCounter` wraps a writer, a file, an ASGI `send` or a callable, and records each flush with
its time and bytes. It also records the deltas of the stream given as `of`. `FlushCounter.record`
returns both as plain values. `assert_coalesced` evaluates them and raises where flushes are too
many or too small, or where a delta is held back too long.

>>> import io
>>> from pytest_streamperf import FlushCounter, TokenStream
>>> stream = TokenStream(tokens=3)
>>> flushes = FlushCounter(of=stream)
>>> file = flushes.file(io.BytesIO())
>>> for delta in stream:
...     _ = file.write(delta.encode())
>>> file.flush()
>>> len(flushes.record.flushes)
1
"""

import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Self

from pytest_streamperf._results.conclusion import conclude, nothing_measured
from pytest_streamperf._results.units import (
    Bytes,
    Rate,
    Seconds,
    argument,
    mean_bytes_of,
    optional_argument,
    rate_of,
    seconds_of,
)
from pytest_streamperf._runtime.context import virtual_clock_here
from pytest_streamperf.exceptions import ThrottlingExceeded, ThrottlingInconclusive
from pytest_streamperf.streams.messages import text_of
from pytest_streamperf.streams.token_stream import TokenStream, listen
from pytest_streamperf.throttling.coalescing import (
    CoalescingResult,
    Flush,
    FlushLimits,
    FlushRecord,
    check_flushes,
)
from pytest_streamperf.throttling.record import Arrival, read_again

__tracebackhide__ = True  # pytest shows the user's own frames

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class FlushCounter:
    """Counts the flushes of a transport: wrap it with `writer`, `send`, `file` or `call`.

    `of` is the stream that the transport carries. Every write to an `asyncio.StreamWriter`, every
    body message of an ASGI app and every call counts as a flush. A file flushes when the code calls
    its `flush` or `close`.

    >>> flushes = FlushCounter()
    >>> push = flushes.call(len)
    >>> push(b"data: 1"), len(flushes.record.flushes)
    (7, 1)
    """

    def __init__(self, *, of: TokenStream | None = None) -> None:
        self._of = of
        self._order = itertools.count()
        self._arrivals: list[Arrival] = []
        self._texts: list[str] = []
        self._flushes: list[Flush] = []
        self._pending: list[bytes] = []
        self._stream_ended = self.asserted = False
        self._ended: float | None = None
        self._clock: Any = None
        listen(of, self)

    # -- calls by the stream

    def arrived(self, delta: Any) -> None:
        """Record a delta that the stream hands out."""
        if self._stream_ended:
            raise read_again()
        text = text_of(delta)
        if not text:
            return  # no flush has to carry an empty delta
        self._texts.append(text)
        self._arrivals.append(Arrival(self._now(), next(self._order), None, len(text)))

    def ended(self) -> None:
        """Record that the stream has no more deltas."""
        self._stream_ended = True
        self.end()

    def end(self) -> None:
        """Record the end: every delta must be flushed by now, or at this same instant."""
        if self._ended is None:
            self._ended = self._now()

    # -- wrappers for the code under test

    def writer(self, writer: Any) -> Any:
        """Wrap an `asyncio.StreamWriter`; each write to it counts as a flush."""
        return _Wrapped(
            writer, write=self._record_flushed_write, writelines=self._record_flushed_writes
        )

    def file(self, file: Any) -> Any:
        """Wrap a file, or another object with `write` and `flush` methods."""
        return _Wrapped(
            file,
            write=self._record_write,
            writelines=self._record_writes,
            flush=self._record_flush,
            close=self._record_flush,
        )

    def send(self, send: Send) -> Send:
        """Wrap an ASGI `send`; each body or WebSocket message counts as a flush."""

        async def counted(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.body" and message.get("body"):
                self._record_flushed_write(message["body"])
            elif message["type"] == "websocket.send":
                self._record_flushed_write(message.get("bytes") or message.get("text") or b"")
            await send(message)

        return counted

    def call(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a sync or async callable that pushes its first argument."""

        def counted(data: Any, *args: Any, **kwargs: Any) -> Any:
            self._record_flushed_write(data)
            return function(data, *args, **kwargs)

        return counted

    def _record_write(self, data: Any) -> None:
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogatepass")
        elif not isinstance(data, bytes | bytearray | memoryview):
            data = json.dumps(data, default=str).encode("ascii")
        self._pending.append(bytes(data))

    def _record_writes(self, data: Iterable[Any]) -> None:
        for line in data:
            self._record_write(line)

    def _record_flushed_write(self, data: Any) -> None:
        self._record_write(data)
        self._record_flush()

    def _record_flushed_writes(self, data: Iterable[Any]) -> None:
        self._record_writes(data)
        self._record_flush()

    def _record_flush(self) -> None:
        if self._pending:
            flush = Flush(
                self._now(), next(self._order), len(self._pending), b"".join(self._pending)
            )
            self._flushes.append(flush)
            self._pending.clear()

    def _now(self) -> float:
        if not self._arrivals and not self._flushes:
            self._clock = virtual_clock_here()
        return time.monotonic() if self._clock is None else float(self._clock.monotonic)

    # -- results

    @property
    def record(self) -> FlushRecord:
        """The deltas and flushes so far, as plain values."""
        return FlushRecord(
            arrivals=tuple(self._arrivals),
            texts=tuple(self._texts),
            flushes=tuple(self._flushes),
            unflushed=sum(map(len, self._pending)),
            ended=self._ended,
            of=self._of is not None,
        )

    def assert_coalesced(
        self,
        *,
        per_second: Rate | None = None,
        bytes_per_flush: float | Bytes | None = None,
        max_held: Seconds = 0.25,
        tolerance: Seconds = 1e-6,
    ) -> CoalescingResult:
        """Fail if flushes are too many or too small, or if a delta is held back too long.

        `per_second` limits the flushes in any second: a number, or a text such as "20/s".
        `bytes_per_flush` is the least average size of a flush, in bytes or as "1kB". `max_held`
        limits how long a delta waits for the flush that carries it: seconds, or a text such as
        "250ms". Every delta must be flushed when the stream has ended. `tolerance`, in seconds or
        as "5ms", allows for jitter in real time.

        Raises `ThrottlingExceeded` where a limit is exceeded, and `ThrottlingInconclusive` if the
        counter has no stream to compare the flushes with. Raises `NothingMeasured` if nothing was
        written, and `ValueError` or `TypeError` for bad arguments.

        >>> def test_flushes(flush_counter, token_stream):
        ...     stream = token_stream(tokens=500, every=0.02)
        ...     flushes = flush_counter(of=stream)
        ...     respond(stream, flushes.file(file))
        ...     flushes.assert_coalesced(per_second=20)
        """
        self.asserted = True
        limits = FlushLimits(
            optional_argument("per_second", rate_of, per_second),
            optional_argument("bytes_per_flush", mean_bytes_of, bytes_per_flush),
            argument("max_held", seconds_of, max_held),
            argument("tolerance", seconds_of, tolerance),
        )
        if not self._flushes and not self._pending:
            advice = "write to what flushes.writer, .send, .file or .call returns"
            raise nothing_measured("throttling", "nothing was written to the flush counter", advice)
        result = check_flushes(self.record, limits)
        conclude(result, ThrottlingExceeded, ThrottlingInconclusive, stacklevel=2)
        return result


class _Wrapped:
    """Forwards every attribute to a wrapped object, and calls a recorder before some methods."""

    def __init__(self, wrapped: Any, **recorders: Callable[..., None]) -> None:
        self.__wrapped = wrapped
        self.__recorders = recorders

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.__wrapped, name)
        recorder = self.__recorders.get(name)
        if recorder is None:
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            recorder(*args, **kwargs)
            return attribute(*args, **kwargs)

        return call

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
