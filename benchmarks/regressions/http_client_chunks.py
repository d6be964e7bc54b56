"""http.client: a chunked response, read as it comes. Linear."""

from http.client import HTTPResponse
from itertools import chain
from types import SimpleNamespace

from benchmarks.regressions.wire import HEAD, chunked, readable


def pieces(stream):
    """Read what there is until there is no more."""
    file = readable(chain([HEAD], chunked(stream)))
    response = HTTPResponse(SimpleNamespace(makefile=lambda _mode: file))
    response.begin()
    return b"".join(iter(response.read1, b""))
