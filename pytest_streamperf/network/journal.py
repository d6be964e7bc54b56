"""A journal: a file of JSON lines that several processes append to and one reads as it grows.

The test process, its forked children and the supervisor of the kernel layer write attempts to it.
An entry stays readable after its writer has ended.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self


class Journal:
    """A file of JSON lines. Without a `path`, the journal creates a temporary file.

    Close it in the process that created it: only that process removes the file.

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
        self._creator = os.getpid()
        self._read = 0
        self._rest = b""

    def write(self, entry: dict[str, Any]) -> None:
        """Append an entry, in one write, so that entries of several processes do not mix."""
        os.write(self.fd, json.dumps(entry, separators=(",", ":")).encode() + b"\n")

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the entries that any process has written since the last call."""
        while data := os.pread(self.fd, 2**16, self._read):
            self._read += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            yield from map(json.loads, lines)

    def close(self) -> None:
        """Close the file, and remove it in the process that created it."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        if self._folder and os.getpid() == self._creator:
            with suppress(OSError):
                Path(self.path).unlink()
                Path(self._folder).rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
