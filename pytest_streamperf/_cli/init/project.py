"""Where things are in a project, and how files of it are written: whole, all or none."""

import keyword
import os
import re
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from pytest_streamperf._cli.init.source import Unreadable

_MARKS = ("pyproject.toml", "setup.cfg", "setup.py", ".git")
_SKIPPED = {"node_modules", "__pycache__", "tests", "test", "testing", "docs", "build", "dist"}
_CODE = re.compile(r"(?!test_|conftest\.|setup\.).*(?<!_test)\.py")


class Unwritable(ValueError):  # noqa: N818 - what is wrong, as an adjective: it is shown to people
    """A file is not written: the text names it, and says why."""


class Project(NamedTuple):
    """The root of a project, and its `pyproject.toml` as it is read; empty where there is none."""

    root: Path
    settings: dict[str, Any]

    @property
    def pyproject(self) -> Path:
        """Where its settings are, or would be."""
        return self.root / "pyproject.toml"

    @property
    def ours(self) -> bool:
        """Whether there are settings of ours already."""
        return "streamperf" in _table(self.settings, "tool")

    @property
    def bases(self) -> list[Path]:
        """Where its modules are imported from; each is sure, as tests would find it."""
        pytest = _table(self.settings, "tool", "pytest")
        told = {**pytest, **_table(pytest, "ini_options")}.get("pythonpath", [])
        bases = [
            self.root / str(each)
            for each in (told if isinstance(told, list) else str(told).split())
        ]
        if self.settings.keys() & {"project", "build-system"}:  # it is there to be installed
            bases += [self.root / "src", self.root]
        elif (self.root / "conftest.py").is_file() and "importlib" not in str(pytest):
            bases.append(self.root)
        return bases


class Place(NamedTuple):
    """The module that a file is, and what is not sure of importing it."""

    module: str
    doubts: Sequence[str]


def project_of(file: Path) -> Project:
    """Find the project that a file belongs to.

    Raises `Unreadable` for a `pyproject.toml` that is none.
    """
    folder = file if file.is_dir() else file.parent
    above = (folder, *folder.parents)
    root = next((each for each in above if any((each / m).exists() for m in _MARKS)), folder)
    try:
        return Project(root, tomllib.loads((root / "pyproject.toml").read_bytes().decode()))
    except FileNotFoundError:
        return Project(root, {})
    except (OSError, ValueError, RecursionError) as error:
        raise Unreadable(
            f"{root / 'pyproject.toml'} is no TOML that can be read: {error}"
        ) from None


def place_of(file: Path, project: Project, path: Sequence[str]) -> Place:
    """Tell by what name a file is imported; `path` is what this interpreter looks in.

    Nothing is imported to find out.
    """
    known = [each.resolve() for each in (*project.bases, *map(Path, filter(None, path)))]
    known.sort(key=lambda each: -len(each.parts))
    top = file.parent
    while (top / "__init__.py").is_file() and top != project.root:
        top = top.parent
    for base in (*known, top):
        # A package is imported as a whole.
        parts = _parts(file, base) if base.is_dir() and top.is_relative_to(base) else []
        if parts:
            where = os.path.relpath(base, project.root).replace(os.sep, "/")
            how = f'pythonpath = ["{where}"] in [tool.pytest.ini_options] would say where it is'
            doubt = f"pytest may not find {parts[0]}: {how}"
            return Place(".".join(parts), () if base in known else [doubt])
    return Place(file.stem, [f"{file.name} has no name to import it by"])


def sources_in(folder: Path) -> Iterator[Path]:
    """Python files below a folder that may hold code to test, in order."""
    for here, folders, files in os.walk(folder):
        inside = Path(here)
        folders[:] = sorted(
            each
            for each in folders
            if each not in _SKIPPED
            and not each.startswith(".")
            and not (inside / each / "pyvenv.cfg").exists()
        )
        yield from (inside / each for each in sorted(files) if _CODE.fullmatch(each))


def found_by_name(module: str, project: Project, path: Sequence[str]) -> Path | None:
    """The file of a module, by its dotted name; None where there is none."""
    inside = module.replace(".", "/")
    for base in (*project.bases, project.root, *map(Path, filter(None, path))):
        for file in (base / f"{inside}.py", base / inside / "__init__.py"):
            if file.is_file():
                return file
    return None


def _table(settings: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """A table of settings; empty where it is none."""
    found: object = settings
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _parts(file: Path, base: Path) -> list[str]:
    """The parts of a module's name, as seen from a folder above its file; none if it has none."""
    parts = [*file.relative_to(base).with_suffix("").parts]
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    names = all(each.isidentifier() and not keyword.iskeyword(each) for each in parts)
    return parts if names else []


# -- writing


def appended(text: str, table: str) -> str:
    r"""Append a table of ours to a TOML document, whose own lines stay as they are.

    Raises `Unwritable` where that would say something else.

    >>> appended("[tool.a]\nx = 1", "[tool.streamperf]\ny = 2\n")
    '[tool.a]\nx = 1\n\n[tool.streamperf]\ny = 2\n'
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    end = "" if not text or text.endswith("\n") else newline
    whole = text + end + (newline if text else "") + table.replace("\n", newline)
    try:
        ours, asked = (tomllib.loads(each)["tool"]["streamperf"] for each in (whole, table))
    except (ValueError, TypeError, RecursionError) as error:
        raise Unwritable(f"the table cannot be appended: {error}") from None
    if ours != asked:
        raise Unwritable("the table cannot be appended to one that is there")
    return whole


def put_in_place(test: Path, text: str, pyproject: Path, settings: str) -> None:
    """Write a test that is not there yet, and change settings, unless empty: both, or none.

    Raises `Unwritable` for a test that is there, and for what the system refuses.
    """
    target = pyproject.resolve()
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with ExitStack() as undone:
            if settings:
                undone.callback(aside.unlink, missing_ok=True)
                aside.write_bytes(settings.encode())
                shutil.copymode(target, aside)
            if not test.parent.exists():
                test.parent.mkdir()
                undone.callback(test.parent.rmdir)
            with test.open("x", encoding="utf-8") as file:
                undone.callback(test.unlink)
                file.write(text)
            if settings:
                aside.replace(target)
            undone.pop_all()
    except OSError as error:
        raise Unwritable(f"nothing is written: {error.filename}: {error.strerror}") from None
