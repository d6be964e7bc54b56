"""Files are put in place whole, all or none: nothing is overwritten or reformatted."""

import os
import shutil
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytest_streamperf.onboarding.source import Unreadable


class Unwritable(ValueError):  # noqa: N818 - what is wrong, as an adjective: it is shown to people
    """A file is not written: the text names it, and says why."""


def appended(text: str, table: str) -> str:
    r"""Append a table to a TOML document, whose own lines stay as they are.

    Raises `Unwritable` where the document would mean something else by it.

    >>> appended("[tool.a]\nx = 1", "[tool.b]\ny = 2\n")
    '[tool.a]\nx = 1\n\n[tool.b]\ny = 2\n'
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    end = "" if not text or text.endswith("\n") else newline
    between = newline if text else ""
    whole = text + end + between + table.replace("\n", newline)
    try:
        before, after = tomllib.loads(text), tomllib.loads(whole)
        added = tomllib.loads(table)["tool"]
    except (ValueError, RecursionError) as error:
        msg = f"the table cannot be appended: {error}"
        raise Unwritable(msg) from None
    before["tool"] = {**before.get("tool", {}), **added}
    if not _same(before, after):
        msg = "the table cannot be appended without changing what is there"
        raise Unwritable(msg)
    return whole


def has_table(settings: Mapping[str, Any]) -> bool:
    """Whether there are settings of ours already."""
    tools = settings.get("tool", {})
    return isinstance(tools, dict) and "streamperf" in tools


def put_in_place(new: Mapping[Path, str], changed: Mapping[Path, str]) -> None:
    """Write files that are not there yet, and replace some that are: all of them, or none.

    Raises `Unwritable` for a new file that is there, and for what the system refuses.
    """
    made: list[Path] = []
    aside: dict[Path, Path] = {}
    path = Path()
    try:
        for path, text in (*new.items(), *changed.items()):
            made += _make_folders(path.parent)
            aside[path] = _aside(path, text)
        for path in new:
            path.open("x").close()  # from now on it is ours
            made.append(path)
            aside[path].replace(path)
        for path in changed:
            shutil.copymode(path, aside[path])
            aside[path].replace(path)
    except OSError as error:
        for each in reversed(made):
            _take_away(each)
        msg = f"{path} is not written: {error.strerror}"
        raise Unwritable(msg) from None
    finally:
        for each in aside.values():
            each.unlink(missing_ok=True)


def text_of(file: Path) -> str:
    """The text of a file, its ends of lines as they are. Raises `Unreadable`."""
    try:
        return file.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{file} cannot be read: {error}"
        raise Unreadable(msg) from None


def _make_folders(folder: Path) -> list[Path]:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir()
    return missing[::-1]


def _aside(path: Path, text: str) -> Path:
    """A file beside `path` that holds this text."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("x", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return aside


def _take_away(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()


def _same(one: object, other: object) -> bool:
    """Whether two documents are equal: numbers that are none, too."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return repr(one) == repr(other)
