"""A server in a process of its own, so that what it spends is not the client's.

Run as a program, with the name of a dialect, it prints its URL and serves until its input ends;
then it prints, as JSON, how many streams were taken to their end, and the path asked for last. The
first part of a path is how many deltas are asked for.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from subprocess import PIPE, Popen

from pytest_streamperf._results.conclusion import nothing_measured
from pytest_streamperf.exceptions import NothingMeasured
from pytest_streamperf.streams.messages import Turn, Usage
from pytest_streamperf.streams.token_stream import TokenStream
from pytest_streamperf.wire.dialects import dialect
from pytest_streamperf.wire.server import Request, serve
from pytest_streamperf.wire.wire_stream import WireStream

# A process that serves is given this many seconds to stop when it is asked to.
_PATIENCE = 10


@contextmanager
def served_elsewhere(name: str) -> Iterator[Callable[[int], str]]:
    """Serve turns in this dialect, and yield what gives the base URL for so many deltas.

    Raises `ValueError` for a dialect that there is not, `RuntimeError` where the server does not
    start, and `NothingMeasured` where in the end nobody has taken a stream.
    """
    asked_at = dialect(name).PATH
    command = [sys.executable, "-m", __name__, name]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:  # noqa: S603 - our own module
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            url = process.stdout.readline().strip()
            if not url:
                msg = f"{' '.join(command)} did not start; its output is on standard error"
                raise RuntimeError(msg)
            yield lambda deltas: f"{url}/{deltas}"
            told, _ = process.communicate(timeout=_PATIENCE)  # its input ends
        finally:
            process.kill()
    if not told:
        msg = f"{' '.join(command)} ended before its check did"
        raise RuntimeError(msg)
    if not json.loads(told)["whole"]:
        raise _nothing_taken(name, asked_at, json.loads(told)["asked"])


def _nothing_taken(name: str, asked_at: str, asked: str) -> NothingMeasured:
    what = f"it asked for {asked}" if asked else "it asked the server for nothing"
    advice = f"{name} is at the URL that consume is called with, and {asked_at} after that"
    return nothing_measured("growth", f"consume took no stream to its end: {what}", advice)


class _Last:
    """Counts the last chunks that are handed out: clients leave with them, and see no end."""

    def __init__(self) -> None:
        self.count = 0
        self._chunks: list[bytes] = []

    def of(self, stream: WireStream) -> WireStream:
        self._chunks.append(stream.deltas[-1])
        stream.listeners.append(self)
        return stream

    def arrived(self, chunk: bytes) -> None:
        self.count += any(chunk is last for last in self._chunks)

    def ended(self) -> None:
        pass


def main(name: str) -> None:
    """Serve, and say where, until there is nobody any more to serve for."""
    last = _Last()

    @lru_cache(maxsize=8)
    def stream(deltas: int) -> WireStream:
        usage = Usage(input_tokens=1, output_tokens=deltas)
        return last.of(WireStream(Turn.of(TokenStream(deltas), usage=usage), name))

    def answer(request: Request) -> WireStream:
        return stream(int(request.path.split("/")[1]))

    with serve(answer) as script:
        print(script.url, flush=True)  # noqa: T201 - that is how it is found
        sys.stdin.read()
        asked = script.requests[-1].path if script.requests else ""
        print(json.dumps({"whole": last.count, "asked": asked}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
