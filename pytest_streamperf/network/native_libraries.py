"""Find loaded native libraries that can reach the network without Python's `socket` module.

`networking_libraries` reads the memory map of this process, and the symbol table of each library in
it. A library that imports both `connect` and `socket` from the C library may connect by itself.
"""

import functools
import mmap
import os
import struct
from pathlib import Path

# Libraries that come with Python, or that only Python's own modules call.
_HARMLESS = (
    *(
        "libc.",
        "libc-",
        "ld-",
        "libpthread",
        "libresolv",
        "libnss",
        "libanl",
        "libpython",
        "python",
    ),
    *("_socket.", "_ssl.", "libssl", "libcrypto", "libuuid."),
)
# Packages whose libraries import `connect` and never call it under test: cryptography uses OpenSSL
# for its ciphers, and memray's copy of libcurl downloads symbols when a profile is displayed.
_OFFLINE_PACKAGES = tuple(
    f"{os.sep}{package}{os.sep}" for package in ("cryptography", "memray", "memray.libs")
)
# A library imports these from the C library if it connects to anything.
_SYMBOLS = b"connect", b"socket"
_ELF = b"\x7fELF"
# The ELF format's header (from the offset of the section headers on), section header and symbol,
# 64 bits, in this machine's byte order; the kind of section that dynamic symbols are in.
_HEADER, _SECTION, _SYMBOL = struct.Struct("=40xQ10xHHH"), struct.Struct("=IIQQQQIIQQ"), "=IBBHQQ"
_DYNAMIC_SYMBOLS = 11


def networking_libraries() -> list[str]:
    """Return the names of the native libraries in this process that can connect by themselves.

    The list is empty without Linux's `/proc`, which holds the memory map.
    """
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    files = {line.split(maxsplit=5)[-1] for line in lines if " r-xp " in line and "/" in line}
    return sorted(_name(file) for file in files if _connects(file))


def _name(file: str) -> str:
    """Return the path of a library below its site-packages, such as "uvloop/loop.so"."""
    package = file.rpartition("-packages/")[2]
    return Path(file).name if package == file else package


@functools.cache
def _connects(file: str) -> bool:
    name = Path(file).name
    if name.startswith(_HARMLESS) or any(package in file for package in _OFFLINE_PACKAGES):
        return False
    try:
        with (
            Path(file).open("rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as all_,
        ):
            if all_[: len(_ELF)] != _ELF:
                return False
            try:
                return _imported_symbols(all_) == {*_SYMBOLS}
            except (LookupError, OverflowError, ValueError, struct.error):  # stripped, or broken
                return all(all_.find(symbol + b"\0") >= 0 for symbol in _SYMBOLS)
    except (OSError, ValueError):
        return False


def _imported_symbols(file: mmap.mmap) -> set[bytes]:
    """Return the symbols of `_SYMBOLS` that an ELF file imports from other libraries.

    Names share their tails in the table: "connect" may be the end of "tcp_connect". Raises
    `LookupError`, `OverflowError`, `ValueError` or `struct.error` for a file without the table.
    """
    start, size, count, _ = _HEADER.unpack_from(file)
    sections = [_SECTION.unpack_from(file, start + index * size) for index in range(count)]
    kinds = [kind for _, kind, *_ in sections]
    _, _, _, _, at, length, names, *_ = sections[kinds.index(_DYNAMIC_SYMBOLS)]
    _, _, _, _, table, table_length, *_ = sections[names]
    texts = file[table : table + table_length]
    undefined = {
        name
        for name, _, _, section, _, _ in struct.iter_unpack(_SYMBOL, file[at : at + length])
        if not section
    }
    return {
        symbol
        for symbol in _SYMBOLS
        if any(texts.startswith(symbol + b"\0", name) for name in undefined)
    }
