"""httpx: one long line, read with `iter_lines`. Every chunk copied the line so far."""

from collections.abc import Iterable, Iterator

import httpx


class Body(httpx.SyncByteStream):
    """A response body whose chunks come from the stream."""

    def __init__(self, stream: Iterable[str]) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[bytes]:
        for delta in self.stream:
            yield delta.encode()


def we_pull(stream):
    """Our transport pulls the stream, so the guilty line is ours: the one that wants lines."""
    response = httpx.Response(200, stream=Body(stream))
    return list(response.iter_lines())


def httpx_pulls(stream):
    """The library pulls the stream, so the guilty line is its own."""
    response = httpx.Response(200, content=stream)
    return list(response.iter_lines())
