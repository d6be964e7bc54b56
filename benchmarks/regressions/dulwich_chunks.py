"""dulwich: a chunked request body. Every chunk counted the bytes of all that were buffered."""

import sys

from dulwich.web import ChunkReader

from benchmarks.regressions.wire import chunked, readable


def one_read(stream):
    """Read the body at once; it comes in one small chunk a delta."""
    body = ChunkReader(readable(chunked(stream)))
    return body.read(sys.maxsize)
