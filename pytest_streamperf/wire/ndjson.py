"""Encode and decode newline-delimited JSON: one JSON document in each line, as UTF-8.

https://github.com/ndjson/ndjson-spec

A line ends with LF, or with CR LF. The decoder skips empty lines. It takes chunks that are cut
anywhere, returns lines as text, and leaves the parsing of the JSON to the dialect.
"""

from collections.abc import Iterator

from pytest_streamperf.exceptions import WireError
from pytest_streamperf.wire.dialects import LONGEST_LINE, to_json


def encode(value: object) -> bytes:
    r"""Return `value` as one line of JSON, with its line end.

    >>> encode({"done": True})
    b'{"done":true}\n'
    """
    return to_json(value).encode() + b"\n"


class Decoder:
    r"""A decoder that splits the chunks of one stream into lines of text.

    `offset` is where the current line begins, in bytes from the start of the stream. `number` is
    the count of lines before it; empty lines do not count. A line of more than `longest` bytes, or
    with bytes that are not UTF-8, raises `WireError`.

    >>> list(Decoder().iter_events(b'{"done"')), list(Decoder().iter_events(b"7\n8\n9"))
    ([], ['7', '8'])
    """

    def __init__(self, *, longest: int = LONGEST_LINE) -> None:
        self.offset = self.number = 0
        self._longest = longest
        self._line_parts: list[bytes] = []
        self._line_bytes = 0

    def iter_events(self, piece: bytes) -> Iterator[str]:
        """Yield the lines that `piece`, the next chunk of the stream, completes.

        The caller must exhaust the iterator before it passes the next chunk.
        """
        for part in piece.splitlines(keepends=True):
            self._line_parts.append(part)
            self._line_bytes += len(part)
            if self._line_bytes > self._longest:
                self._line_parts.clear()
                raise self._error(f"a line of more than {self._longest:,} bytes")
            if part.endswith(b"\n"):
                line = b"".join(self._line_parts).strip(b"\r\n")
                if line:
                    yield self._text(line)
                    self.number += 1
                self._line_parts.clear()
                self.offset += self._line_bytes
                self._line_bytes = 0

    def _text(self, line: bytes) -> str:
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            msg = f"a line must be UTF-8, but decoding fails at its byte {error.start}"
            raise self._error(msg) from None

    def _error(self, msg: str) -> WireError:
        return WireError(msg, offset=self.offset, number=self.number)
