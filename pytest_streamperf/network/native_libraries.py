"""Native code that is loaded here and may reach the network without Python's `socket` module."""

import functools
import mmap
import os
import struct
from pathlib import Path

# These come with Python, or do what Python's own modules ask of them.
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
# Packages that use nothing of theirs that needs a network: OpenSSL for its ciphers, and a copy of
# libcurl, behind elfutils, that asks for other people's symbols once a profile is looked at.
_OF_OTHERS = tuple(
    f"{os.sep}{package}{os.sep}" for package in ("cryptography", "memray", "memray.libs")
)
# What a library asks of the C library if it connects to anything.
_SYMBOLS = b"connect", b"socket"
_ELF = b"\x7fELF"
# The ELF format's header (from the offset of the section headers on), section header and symbol,
# 64 bits, in this machine's byte order; the kind of section that dynamic symbols are in.
_HEADER, _SECTION, _SYMBOL = struct.Struct("=40xQ10xHHH"), struct.Struct("=IIQQQQIIQQ"), "=IBBHQQ"
_DYNAMIC_SYMBOLS = 11


def networking_libraries() -> list[str]:
    """Names of the native libraries loaded in this process that can connect by themselves.

    Empty where the system does not tell what is loaded (it is Linux's `/proc`).
    """
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    files = {line.split(maxsplit=5)[-1] for line in lines if " r-xp " in line and "/" in line}
    return sorted(_name(file) for file in files if _connects(file))


def _name(file: str) -> str:
    """A package's library by its path there, as "uvloop/loop.so" is clearer than "loop.so"."""
    package = file.rpartition("-packages/")[2]
    return Path(file).name if package == file else package


@functools.cache
def _connects(file: str) -> bool:
    name = Path(file).name
    if name.startswith(_HARMLESS) or any(part in file for part in _OF_OTHERS):
        return False
    try:
        with (
            Path(file).open("rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as all_,
        ):
            if all_[: len(_ELF)] != _ELF:
                return False
            try:
                return _asked_for(all_) == {*_SYMBOLS}
            except (LookupError, OverflowError, ValueError, struct.error):  # stripped, or broken
                return all(all_.find(symbol + b"\0") >= 0 for symbol in _SYMBOLS)
    except (OSError, ValueError):
        return False


def _asked_for(file: mmap.mmap) -> set[bytes]:
    """Which of the symbols an ELF file leaves to others to define.

    Names share their tails: "connect" may be the end of "tcp_connect". Raises what a file raises
    that has no such table, or is broken.
    """
    start, size, count, _ = _HEADER.unpack_from(file)
    sections = [_SECTION.unpack_from(file, start + each * size) for each in range(count)]
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
