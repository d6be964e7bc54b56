"""Serve scripted turns from a child process, so that the server's work is not measured.

`served_elsewhere` starts the process and yields a function that returns base URLs. The first part
of a request's path is the number of deltas of the turn.

The child process runs this module as a program, with the name of a dialect. It prints its URL and
serves until its standard input ends. Then it prints a JSON object: the count of streams that a
client took to their end, and the path of the latest request.
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

# Time limit for the child process to stop after its input ends. Not measured.
_STOP_TIMEOUT_SECONDS = 10


@contextmanager
def served_elsewhere(name: str) -> Iterator[Callable[[int], str]]:
    """Serve turns in the dialect `name` from a child process.

    Yields a function from a number of deltas to the base URL that serves a turn of that length.

    Raises `ValueError` for an unknown dialect, and `RuntimeError` if the server does not start or
    ends early. If no client took a stream to its end, the end of the block raises
    `NothingMeasured`.
    """
    dialect_path = dialect(name).PATH
    command = [sys.executable, "-m", __name__, name]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:  # noqa: S603 - our own module
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            url = process.stdout.readline().strip()
            if not url:
                msg = f"{' '.join(command)} did not start; its error is on standard error"
                raise RuntimeError(msg)
            yield lambda deltas: f"{url}/{deltas}"
            report, _ = process.communicate(timeout=_STOP_TIMEOUT_SECONDS)  # closes its input
        finally:
            process.kill()
    if not report:
        msg = f"{' '.join(command)} ended before its check did"
        raise RuntimeError(msg)
    if not json.loads(report)["complete_streams"]:
        raise _no_complete_stream(name, dialect_path, json.loads(report)["latest_path"])


def _no_complete_stream(name: str, dialect_path: str, latest_path: str) -> NothingMeasured:
    request = f"it asked for {latest_path}" if latest_path else "it asked the server for nothing"
    advice = f"send requests for {name} to the URL that consume gets, plus {dialect_path}"
    return nothing_measured("growth", f"consume took no stream to its end: {request}", advice)


class _LastChunkCounter:
    """A listener that counts the streams whose last chunk was sent.

    It cannot count the ends of streams: a client may disconnect as soon as it has the last chunk.
    """

    def __init__(self) -> None:
        self.count = 0
        self._last_chunks: list[bytes] = []

    def observe(self, stream: WireStream) -> WireStream:
        self._last_chunks.append(stream.deltas[-1])
        stream.listeners.append(self)
        return stream

    def arrived(self, chunk: bytes) -> None:
        self.count += any(chunk is last_chunk for last_chunk in self._last_chunks)

    def ended(self) -> None:
        pass


def main(name: str) -> None:
    """Print the URL, serve turns in the dialect `name` until standard input ends, and report."""
    counter = _LastChunkCounter()

    @lru_cache(maxsize=8)
    def stream(deltas: int) -> WireStream:
        usage = Usage(input_tokens=1, output_tokens=deltas)
        return counter.observe(WireStream(Turn.of(TokenStream(deltas), usage=usage), name))

    def answer(request: Request) -> WireStream:
        return stream(int(request.path.split("/")[1]))

    with serve(answer) as script:
        print(script.url, flush=True)  # noqa: T201 - the parent process reads it
        sys.stdin.read()
        latest_path = script.requests[-1].path if script.requests else ""
        report = {"complete_streams": counter.count, "latest_path": latest_path}
        print(json.dumps(report))  # noqa: T201 - the parent process reads it


if __name__ == "__main__":
    main(sys.argv[1])
