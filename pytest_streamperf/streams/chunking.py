r"""Cut a stream of bytes into chunks, as a network or a proxy does.

A cut is a function from pieces of bytes, usually one for each event, to chunks. The chunks hold
the same bytes in the same order, and none is empty. A cut keeps only the chunk in progress in
memory.

>>> list(fixed(3)([b"data: 1\n\n"]))
[b'dat', b'a: ', b'1\n\n']
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, pairwise, repeat
from random import Random

from pytest_streamperf._results.units import Bytes, argument, bytes_of

Cut = Callable[[Iterable[bytes]], Iterator[bytes]]

# No stream reaches this size, so a chunk of this size holds the rest of the stream.
_UNREACHABLE_BYTES = 2**62
# The pattern matches the places where decoders are known to fail:
# - between CR and LF, between two LF and between two CR;
# - inside a character of more than one byte, and on both sides of a zero-width joiner (ZWJ);
# - inside a JSON escape, and between the two escapes of a surrogate pair;
# - between the name of a field and its colon.
_WORST_PLACES = re.compile(
    rb"(?<=\r)(?=\n)|(?<=\n)(?=\n)|(?<=\r)(?=\r)|(?=[\x80-\xbf])|(?=\xe2\x80\x8d)|(?<=\xe2\x80\x8d)"
    rb"|(?<=\\)|(?<=\\u[0-9a-fA-F]{2})|(?<=\\u[0-9a-fA-F]{4})|(?<=[a-z])(?=:)"
)


def per_event(pieces: Iterable[bytes]) -> Iterator[bytes]:
    r"""Make one chunk of each event.

    >>> list(per_event([b"data: 1\n\n", b"data: 2\n\n"]))
    [b'data: 1\n\n', b'data: 2\n\n']
    """
    return filter(None, pieces)


def fixed(size: Bytes) -> Cut:
    """Return a cut into chunks of `size`; the last chunk may be shorter.

    `size` is in bytes, or a text such as "8KiB". A size of 8,192 acts like a buffering proxy.
    """
    length = _positive_bytes("size", size)
    return partial(_chunks_of_sizes, lambda: repeat(length))


def per_byte(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Make one chunk of each byte.

    >>> list(per_byte([b"da"]))
    [b'd', b'a']
    """
    return (bytes((byte,)) for piece in pieces for byte in piece)


def at(*offsets: int) -> Cut:
    """Return a cut at these offsets, in bytes from the start of the stream.

    >>> list(at(1, 4)([b"data: 1"]))
    [b'd', b'ata', b': 1']
    """
    sizes = [after - before for before, after in pairwise((0, *offsets))]
    if any(size < 1 for size in sizes):
        msg = f"offsets must be 1 or more and increase, not {offsets!r}"
        raise ValueError(msg)
    return partial(_chunks_of_sizes, lambda: chain(sizes, repeat(_UNREACHABLE_BYTES)))


def at_random(seed: int = 0, *, most: Bytes = 64) -> Cut:
    """Return a cut into chunks of random sizes, from 1 byte to `most`, evenly distributed.

    `most` is in bytes, or a text such as "1KiB". Equal seeds give equal sizes.

    >>> b"".join(at_random(seed=1)([b"data: 1"]))
    b'data: 1'
    """
    longest = _positive_bytes("most", most)

    def sizes() -> Iterator[int]:
        random = Random(seed)  # noqa: S311 - no secret
        return (random.randint(1, longest) for _ in repeat(None))

    return partial(_chunks_of_sizes, sizes)


def worst_case(pieces: Iterable[bytes]) -> Iterator[bytes]:
    r"""Cut at every place where a decoder may fail, so that events begin and end inside chunks.

    The places are inside characters, CR LF, empty lines and JSON escapes, around a zero-width
    joiner (ZWJ), and before a colon.

    >>> list(worst_case([b'data: "\\n"\n\n', b"data: 2\n\n"]))
    [b'data', b': "\\', b'n"\n', b'\ndata', b': 2\n', b'\n']
    """
    rest = b""
    for piece in pieces:
        data = rest + piece
        edges = [0, *(place.start() for place in _WORST_PLACES.finditer(data)), len(data)]
        *chunks, rest = (data[start:end] for start, end in pairwise(edges))
        if not chunks:  # no cut in this piece, so hand it on at once
            chunks, rest = [rest], b""
        yield from filter(None, chunks)
    yield from filter(None, [rest])


def _positive_bytes(name: str, size: Bytes) -> int:
    length = argument(name, bytes_of, size)
    if length < 1:
        msg = f"{name} must be at least 1 byte, not {size!r}"
        raise ValueError(msg)
    return length


def _chunks_of_sizes(
    sizes: Callable[[], Iterator[int]], pieces: Iterable[bytes]
) -> Iterator[bytes]:
    """Cut the bytes into chunks of these sizes; the last chunk may be shorter."""
    next_sizes, length = sizes(), 0
    size = next(next_sizes)
    chunk: list[bytes] = []
    for piece in pieces:
        start = 0
        while length + len(piece) - start >= size:
            end = start + size - length
            yield b"".join([*chunk, piece[start:end]])
            chunk, length, start, size = [], 0, end, next(next_sizes)
        if start < len(piece):
            chunk.append(piece[start:])
            length += len(piece) - start
    if chunk:
        yield b"".join(chunk)
