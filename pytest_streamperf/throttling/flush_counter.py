"""How often is something flushed? A transport is counted, beside the stream that it carries.

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
    FlushRecord,
    Promise,
    judged,
)
from pytest_streamperf.throttling.record import Arrival, read_again

__tracebackhide__ = True  # pytest shows the user's own frames

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class FlushCounter:
    """Counts what is pushed to a transport: wrap it in `writer`, `send`, `file` or `call`.

    `of` is the stream that is carried. Every write to an `asyncio.StreamWriter`, every body message
    of an ASGI app and every call is a flush; a file's is when it is flushed, or closed.

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
        self._over = self.asserted = False
        self._ended: float | None = None
        self._clock: Any = None
        listen(of, self)

    # -- what the stream says

    def arrived(self, delta: Any) -> None:
        """A delta is handed out."""
        if self._over:
            raise read_again()
        text = text_of(delta)
        if not text:
            return  # nothing carries it
        self._texts.append(text)
        self._arrivals.append(Arrival(self._now(), next(self._order), None, len(text)))

    def ended(self) -> None:
        """The stream has no more."""
        self._over = True
        self.end()

    def end(self) -> None:
        """Note that it is the end: everything has to be out by now, or at this same instant."""
        if self._ended is None:
            self._ended = self._now()

    # -- what the code under test writes to

    def writer(self, writer: Any) -> Any:
        """Wrap an `asyncio.StreamWriter`: it pushes what is written at once."""
        return _Wrapped(writer, write=self._pushes, writelines=self._pushes_all)

    def file(self, file: Any) -> Any:
        """Wrap a file, or something that has `write` and `flush`."""
        return _Wrapped(
            file,
            write=self._writes,
            writelines=self._writes_all,
            flush=self._pushed,
            close=self._pushed,
        )

    def send(self, send: Send) -> Send:
        """Wrap an ASGI `send`."""

        async def counted(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.body" and message.get("body"):
                self._pushes(message["body"])
            elif message["type"] == "websocket.send":
                self._pushes(message.get("bytes") or message.get("text") or b"")
            await send(message)

        return counted

    def call(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap any callable, sync or async, that is handed what it pushes as its first argument."""

        def counted(data: Any, *args: Any, **kwargs: Any) -> Any:
            self._pushes(data)
            return function(data, *args, **kwargs)

        return counted

    def _writes(self, data: Any) -> None:
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogatepass")
        elif not isinstance(data, bytes | bytearray | memoryview):
            data = json.dumps(data, default=str).encode("ascii")
        self._pending.append(bytes(data))

    def _writes_all(self, data: Iterable[Any]) -> None:
        for each in data:
            self._writes(each)

    def _pushes(self, data: Any) -> None:
        self._writes(data)
        self._pushed()

    def _pushes_all(self, data: Iterable[Any]) -> None:
        self._writes_all(data)
        self._pushed()

    def _pushed(self) -> None:
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

    # -- what came of it

    @property
    def record(self) -> FlushRecord:
        """Everything so far, as plain values."""
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
        """Fail unless flushes are few enough, and yet nothing is held back for long.

        At most `per_second` in any second, a number or a text such as "20/s", and on average at
        least `bytes_per_flush` in each, in bytes or as "1kB". No delta waits longer than `max_held`
        for the flush that carries it: seconds, or a text such as "250ms". Everything is out when
        the stream has ended. `tolerance`, in seconds or as "5ms", is for real time.

        Raises `ThrottlingExceeded`, `ThrottlingInconclusive` if there is no stream to hold the
        flushes against, `NothingMeasured` if nothing was written, and `ValueError` or `TypeError`
        for bad arguments.

        >>> def test_flushes(flush_counter, token_stream):
        ...     stream = token_stream(tokens=500, every=0.02)
        ...     flushes = flush_counter(of=stream)
        ...     respond(stream, flushes.file(file))
        ...     flushes.assert_coalesced(per_second=20)
        """
        self.asserted = True
        promise = Promise(
            optional_argument("per_second", rate_of, per_second),
            optional_argument("bytes_per_flush", mean_bytes_of, bytes_per_flush),
            argument("max_held", seconds_of, max_held),
            argument("tolerance", seconds_of, tolerance),
        )
        if not self._flushes and not self._pending:
            advice = "write to what flushes.writer, .send, .file or .call returns"
            raise nothing_measured("throttling", "nothing was written to the flush counter", advice)
        found = judged(self.record, promise)
        conclude(found, ThrottlingExceeded, ThrottlingInconclusive, stacklevel=2)
        return found


class _Wrapped:
    """Passes everything on, and tells of some of it first."""

    def __init__(self, wrapped: Any, **told: Callable[..., None]) -> None:
        self.__wrapped = wrapped
        self.__told = told

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.__wrapped, name)
        tell = self.__told.get(name)
        if tell is None:
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            tell(*args, **kwargs)
            return attribute(*args, **kwargs)

        return call

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
