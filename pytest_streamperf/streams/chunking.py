r"""Where a stream of bytes is cut: chunks end anywhere, and say nothing of what is in them.

A cut takes the bytes in the pieces they were made in, an event each as a rule, and gives them in
others: the same bytes in the same order, none of the chunks empty. No cut looks at more than a
piece, so that streams of any length can be cut.

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

# All the rest, in one chunk.
_REST = 2**62
# Between CR and LF, and between two of a kind; before every byte of a character but its first; on
# both sides of a ZWJ; in every JSON escape, also between the two halves of one that is a pair; and
# between the name of a field and its colon.
_WORST = re.compile(
    rb"(?<=\r)(?=\n)|(?<=\n)(?=\n)|(?<=\r)(?=\r)|(?=[\x80-\xbf])|(?=\xe2\x80\x8d)|(?<=\xe2\x80\x8d)"
    rb"|(?<=\\)|(?<=\\u[0-9a-fA-F]{2})|(?<=\\u[0-9a-fA-F]{4})|(?<=[a-z])(?=:)"
)


def per_event(pieces: Iterable[bytes]) -> Iterator[bytes]:
    r"""Give a chunk for each event.

    >>> list(per_event([b"data: 1\n\n", b"data: 2\n\n"]))
    [b'data: 1\n\n', b'data: 2\n\n']
    """
    return filter(None, pieces)


def fixed(size: Bytes) -> Cut:
    """Chunks of `size` each, but for the last: 8,192 is how a proxy that buffers does it.

    `size` is in bytes, or a text such as "8KiB".
    """
    length = _at_least_one("size", size)
    return partial(_sized, lambda: repeat(length))


def per_byte(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Give a chunk for each byte.

    >>> list(per_byte([b"da"]))
    [b'd', b'a']
    """
    return (bytes((byte,)) for piece in pieces for byte in piece)


def at(*offsets: int) -> Cut:
    """Chunks that end at these offsets, in bytes from the start of the stream, and a last one.

    >>> list(at(1, 4)([b"data: 1"]))
    [b'd', b'ata', b': 1']
    """
    sizes = [after - before for before, after in pairwise((0, *offsets))]
    if any(size < 1 for size in sizes):
        msg = f"offsets must rise, from 1 on, which {offsets!r} do not"
        raise ValueError(msg)
    return partial(_sized, lambda: chain(sizes, repeat(_REST)))


def at_random(seed: int = 0, *, most: Bytes = 64) -> Cut:
    """Chunks of 1 byte to `most`, each size as likely as any other.

    `most` is in bytes, or a text such as "1KiB".

    >>> b"".join(at_random(seed=1)([b"data: 1"]))
    b'data: 1'
    """
    longest = _at_least_one("most", most)

    def sizes() -> Iterator[int]:
        random = Random(seed)  # noqa: S311 - no secret
        return (random.randint(1, longest) for _ in repeat(None))

    return partial(_sized, sizes)


def worst_case(pieces: Iterable[bytes]) -> Iterator[bytes]:
    r"""Cut wherever a decoder may trip, and so that events begin and end within chunks.

    That is within characters and what is joined to one by ZWJ, within CR LF, empty lines and JSON
    escapes, and before a colon.

    >>> list(worst_case([b'data: "\\n"\n\n', b"data: 2\n\n"]))
    [b'data', b': "\\', b'n"\n', b'\ndata', b': 2\n', b'\n']
    """
    rest = b""
    for piece in pieces:
        data = rest + piece
        edges = [0, *(found.start() for found in _WORST.finditer(data)), len(data)]
        *chunks, rest = (data[start:end] for start, end in pairwise(edges))
        if not chunks:  # nothing to trip over: it need not wait for what comes next
            chunks, rest = [rest], b""
        yield from filter(None, chunks)
    yield from filter(None, [rest])


def _at_least_one(name: str, size: Bytes) -> int:
    length = argument(name, bytes_of, size)
    if length < 1:
        msg = f"{name} must be at least 1 byte, not {size!r}"
        raise ValueError(msg)
    return length


def _sized(sizes: Callable[[], Iterator[int]], pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Give chunks of these sizes; the last may be shorter."""
    wanted, length = sizes(), 0
    size = next(wanted)
    chunk: list[bytes] = []
    for piece in pieces:
        start = 0
        while length + len(piece) - start >= size:
            end = start + size - length
            yield b"".join([*chunk, piece[start:end]])
            chunk, length, start, size = [], 0, end, next(wanted)
        if start < len(piece):
            chunk.append(piece[start:])
            length += len(piece) - start
    if chunk:
        yield b"".join(chunk)
