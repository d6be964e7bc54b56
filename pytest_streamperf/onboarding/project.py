"""Where things are in a project, and how files of it are written: whole, all or none."""

import keyword
import os
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pytest_streamperf.onboarding.source import Unreadable

_MARKS = ("pyproject.toml", "setup.cfg", "setup.py", ".git")
_SKIPPED = {"node_modules", "__pycache__", "tests", "test", "testing", "docs", "build", "dist"}
_LARGEST = 2 * 2**20


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
        msg = f"{root / 'pyproject.toml'} is no TOML that can be read: {error}"
        raise Unreadable(msg) from None


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
        if top.is_relative_to(base) and (
            base.is_dir() and _importable(parts := _parts(file, base))
        ):
            where = os.path.relpath(base, project.root).replace(os.sep, "/")
            how = f'pythonpath = ["{where}"] in [tool.pytest.ini_options] would say where it is'
            doubt = f"pytest may not find {parts[0]}: {how}"
            return Place(".".join(parts), () if base in known else [doubt])
    return Place(file.stem, [f"{file.name} has no name to import it by"])


def sources_in(folder: Path) -> Iterator[Path]:
    """Python files below a folder that may hold code to test, in order."""
    for here, folders, files in os.walk(folder):
        inside = Path(here)
        folders[:] = sorted(each for each in folders if _is_code(inside / each))
        yield from (inside / each for each in sorted(files) if _may_be_tested(inside / each))


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
    """The parts of a module's name, as seen from a folder above its file."""
    parts = [*file.relative_to(base).with_suffix("").parts]
    return parts[:-1] if parts[-1] == "__init__" else parts


def _importable(parts: Sequence[str]) -> bool:
    return bool(parts) and all(
        each.isidentifier() and not keyword.iskeyword(each) for each in parts
    )


def _is_code(folder: Path) -> bool:
    environment = (folder / "pyvenv.cfg").exists()
    return folder.name not in _SKIPPED and not folder.name.startswith(".") and not environment


def _may_be_tested(file: Path) -> bool:
    test = file.name.startswith("test_") or file.name.endswith("_test.py")
    none = test or file.suffix != ".py" or file.name in {"conftest.py", "setup.py"}
    return not none and file.is_file() and file.stat().st_size <= _LARGEST


# -- writing


def appended(text: str, table: str) -> str:
    r"""Append a table to a TOML document, whose own lines stay as they are.

    Raises `Unwritable` where the document would mean something else by it.

    >>> appended("[tool.a]\nx = 1", "[tool.b]\ny = 2\n")
    '[tool.a]\nx = 1\n\n[tool.b]\ny = 2\n'
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    end = "" if not text or text.endswith("\n") else newline
    whole = text + end + (newline if text else "") + table.replace("\n", newline)
    try:
        before, after = tomllib.loads(text), tomllib.loads(whole)
        before["tool"] = {**before.get("tool", {}), **tomllib.loads(table)["tool"]}
    except (ValueError, TypeError, RecursionError) as error:
        msg = f"the table cannot be appended: {error}"
        raise Unwritable(msg) from None
    if not _same(before, after):
        msg = "the table cannot be appended without changing what is there"
        raise Unwritable(msg)
    return whole


def put_in_place(test: Path, text: str, pyproject: Path, settings: str) -> None:
    """Write a test that is not there yet, and change settings, unless empty: both, or none.

    Raises `Unwritable` for a test that is there, and for what the system refuses.
    """
    made: list[Path] = []
    target = pyproject.resolve()
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    path = pyproject
    try:
        if settings:
            with aside.open("x", encoding="utf-8", newline="") as file:
                file.write(settings)
            shutil.copymode(target, aside)
        path = test
        if not test.parent.exists():
            test.parent.mkdir()
            made.append(test.parent)
        with test.open("x", encoding="utf-8") as file:
            made.append(test)
            file.write(text)
        path = pyproject
        if settings:
            aside.replace(target)
    except OSError as error:
        for each in reversed(made):
            with suppress(OSError):
                each.rmdir() if each.is_dir() else each.unlink()
        msg = f"{path} is not written: {error.strerror}"
        raise Unwritable(msg) from None
    finally:
        aside.unlink(missing_ok=True)


def _same(one: object, other: object) -> bool:
    """Whether two documents are equal: numbers that are none, too."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return repr(one) == repr(other)
