"""A server in a process of its own, so that what it spends is not the client's.

Run as a program, with the name of a dialect, it prints its URL and serves until its input ends.
The first part of a path is how many deltas are asked for.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from subprocess import PIPE, Popen

from pytest_streamperf.streams import TokenStream
from pytest_streamperf.turns import Turn, Usage
from pytest_streamperf.wire import dialect
from pytest_streamperf.wire.serve import Request, serve
from pytest_streamperf.wire.stream import WireStream

# A process that serves is given this many seconds to stop when it is asked to.
_PATIENCE = 10


@contextmanager
def served_elsewhere(name: str) -> Iterator[Callable[[int], str]]:
    """Serve turns in this dialect, and yield what gives the base URL for so many deltas.

    Raises `ValueError` for a dialect that there is not, and `RuntimeError` where the server does
    not start.
    """
    dialect(name)
    command = [sys.executable, "-m", __name__, name]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:  # noqa: S603 - our own module
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            url = process.stdout.readline().strip()
            if not url:
                msg = f"{' '.join(command)} did not start; what it said is on standard error"
                raise RuntimeError(msg)
            yield lambda deltas: f"{url}/{deltas}"
            process.communicate(timeout=_PATIENCE)  # its input ends
        finally:
            process.kill()


def main(name: str) -> None:
    """Serve, and say where, until there is nobody any more to serve for."""

    @lru_cache(maxsize=8)
    def stream(deltas: int) -> WireStream:
        usage = Usage(input_tokens=1, output_tokens=deltas)
        return WireStream(Turn.of(TokenStream(deltas), usage=usage), name)

    def answer(request: Request) -> WireStream:
        return stream(int(request.path.split("/")[1]))

    with serve(answer) as script:
        print(script.url, flush=True)  # noqa: T201 - that is how it is found
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
