"""Newline-delimited JSON: a document in each line.

https://github.com/ndjson/ndjson-spec

A line ends with LF, with or without a CR before it; one that is empty is passed over. The text is
UTF-8.
"""

from collections.abc import Iterator

from pytest_streamperf.exceptions import WireError
from pytest_streamperf.wire.dialects import LONGEST_LINE, to_json


def encode(value: object) -> bytes:
    r"""Give the line of one document.

    >>> encode({"done": True})
    b'{"done":true}\n'
    """
    return to_json(value).encode() + b"\n"


class Decoder:
    r"""Gives the lines of a stream, piece by piece, as text.

    `offset` is where the line begins that is being read, `number` how many were read before. Raises
    `WireError` for a line of more than `longest` bytes, and for bytes that are not UTF-8.

    >>> list(Decoder().each(b'{"done"')), list(Decoder().each(b"7\n8\n9"))
    ([], ['7', '8'])
    """

    def __init__(self, *, longest: int = LONGEST_LINE) -> None:
        self.offset = self.number = 0
        self._longest = longest
        self._line: list[bytes] = []  # the pieces of a line that is not complete
        self._length = 0

    def each(self, piece: bytes) -> Iterator[str]:
        """Give the lines that this piece completes, one by one, to be taken to the end."""
        for part in piece.splitlines(keepends=True):
            self._line.append(part)
            self._length += len(part)
            if self._length > self._longest:
                self._line.clear()
                raise self._error(f"a line of more than {self._longest:,} bytes")
            if part.endswith(b"\n"):
                line = b"".join(self._line).strip(b"\r\n")
                if line:
                    yield self._text(line)
                    self.number += 1
                self._line.clear()
                self.offset += self._length
                self._length = 0

    def _text(self, line: bytes) -> str:
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            what = f"a line must be UTF-8, which it is not from its byte {error.start} on"
            raise self._error(what) from None

    def _error(self, what: str) -> WireError:
        return WireError(what, offset=self.offset, number=self.number)
