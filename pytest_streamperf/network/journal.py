"""Where attempts are taken down: a file that processes append to, and that is read as it grows.

Forked children write to it too, and so does the supervisor of the exact layer; what it holds is
there after any of them is gone.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self


class Journal:
    """Lines of JSON in a file of its own, to be closed by whoever made it.

    >>> with Journal() as journal:
    ...     journal.write({"port": 443})
    ...     list(journal.read())
    [{'port': 443}]
    """

    def __init__(self, path: str | None = None) -> None:
        self.is_shared = path is not None
        self._folder = None if path else tempfile.mkdtemp(prefix="streamperf-")
        self.path = path or str(Path(self._folder or "", "journal"))
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self.fd = os.open(self.path, flags, 0o600)
        self._maker = os.getpid()
        self._read = 0
        self._rest = b""

    def write(self, entry: dict[str, Any]) -> None:
        """Append an entry."""
        os.write(self.fd, json.dumps(entry, separators=(",", ":")).encode() + b"\n")

    def read(self) -> Iterator[dict[str, Any]]:
        """Give what has been written since the last time, by anybody."""
        while data := os.pread(self.fd, 2**16, self._read):
            self._read += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            yield from map(json.loads, lines)

    def close(self) -> None:
        """Remove the file, in the process that made it."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        if self._folder and os.getpid() == self._maker:
            with suppress(OSError):
                Path(self.path).unlink()
                Path(self._folder).rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
