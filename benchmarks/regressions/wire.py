"""What a server sends and where a client reads it from, made of a stream and without a socket."""

import io
from collections.abc import Iterable, Iterator

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(stream: Iterable[str]) -> Iterator[bytes]:
    """One HTTP chunk a delta, as a server with a chunked body sends them."""
    for delta in stream:
        data = delta.encode()
        yield b"%x\r\n%b\r\n" % (len(data), data)
    yield b"0\r\n\r\n"


def readable(pieces: Iterator[bytes]) -> io.BufferedReader:
    """Make a file to read as one reads from a socket: what has arrived is there, no more."""
    return io.BufferedReader(_Pieces(pieces))


class _Pieces(io.RawIOBase):
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        piece = next(self._pieces, b"")
        buffer[: len(piece)] = piece
        return len(piece)
