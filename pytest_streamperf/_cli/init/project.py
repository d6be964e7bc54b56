"""Find the root, the modules and the settings of a project, and write its two files.

Nothing is imported to find a module. `put_in_place` writes both files or neither of them.
"""

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

_ROOT_MARKERS = ("pyproject.toml", "setup.cfg", "setup.py", ".git")
_SKIPPED_FOLDERS = {
    "node_modules",
    "__pycache__",
    "tests",
    "test",
    "testing",
    "docs",
    "build",
    "dist",
}
# Test and packaging files hold no code to test.
_SOURCE_FILE = re.compile(r"(?!test_|conftest\.|setup\.).*(?<!_test)\.py")


class Unwritable(ValueError):  # noqa: N818 - an adjective, as users see it
    """A file cannot be written: the text names the file and the reason."""


class Project(NamedTuple):
    """The root of a project, and the parsed `pyproject.toml`, which is empty without a file."""

    root: Path
    settings: dict[str, Any]

    @property
    def pyproject(self) -> Path:
        """The path of `pyproject.toml`, which may not exist."""
        return self.root / "pyproject.toml"

    @property
    def has_streamperf_table(self) -> bool:
        """True if `pyproject.toml` has a table [tool.streamperf] already."""
        return "streamperf" in _table(self.settings, "tool")

    @property
    def bases(self) -> list[Path]:
        """The folders that tests are certain to import the modules of the project from."""
        pytest = _table(self.settings, "tool", "pytest")
        folders = {**pytest, **_table(pytest, "ini_options")}.get("pythonpath", [])
        bases = [
            self.root / str(folder)
            for folder in (folders if isinstance(folders, list) else str(folders).split())
        ]
        if self.settings.keys() & {"project", "build-system"}:  # the project is installable
            bases += [self.root / "src", self.root]
        elif (self.root / "conftest.py").is_file() and "importlib" not in str(pytest):
            bases.append(self.root)
        return bases


class ModulePlace(NamedTuple):
    """The dotted name of a module, and the doubts about importing it."""

    module: str
    doubts: Sequence[str]


def project_of(file: Path) -> Project:
    """Return the project that a file or folder belongs to.

    Raises `Unreadable` for an invalid `pyproject.toml`.
    """
    folder = file if file.is_dir() else file.parent
    above = (folder, *folder.parents)
    root = next(
        (f for f in above if any((f / marker).exists() for marker in _ROOT_MARKERS)), folder
    )
    try:
        return Project(root, tomllib.loads((root / "pyproject.toml").read_bytes().decode()))
    except FileNotFoundError:
        return Project(root, {})
    except (OSError, ValueError, RecursionError) as error:
        raise Unreadable(f"{root / 'pyproject.toml'} cannot be read as TOML: {error}") from None


def place_of(file: Path, project: Project, path: Sequence[str]) -> ModulePlace:
    """Return the dotted name under which tests import a file.

    `path` is the import path of this interpreter. Nothing is imported.
    """
    roots = [root.resolve() for root in (*project.bases, *map(Path, filter(None, path)))]
    roots.sort(key=lambda root: -len(root.parts))
    top = file.parent
    while (top / "__init__.py").is_file() and top != project.root:
        top = top.parent
    for base in (*roots, top):
        # A root inside a package would import a part of the package under a second name.
        parts = _module_parts(file, base) if base.is_dir() and top.is_relative_to(base) else []
        if parts:
            where = os.path.relpath(base, project.root).replace(os.sep, "/")
            how = f'add pythonpath = ["{where}"] to [tool.pytest.ini_options]'
            doubt = f"pytest may not find {parts[0]}: {how}"
            return ModulePlace(".".join(parts), () if base in roots else [doubt])
    return ModulePlace(
        file.stem, [f"{file.name} cannot be imported: its path is not a valid module name"]
    )


def source_files(folder: Path) -> Iterator[Path]:
    """Yield the Python files below a folder that may hold code to test, in order."""
    for path, folders, files in os.walk(folder):
        inside = Path(path)
        folders[:] = sorted(
            name
            for name in folders
            if name not in _SKIPPED_FOLDERS
            and not name.startswith(".")
            and not (inside / name / "pyvenv.cfg").exists()
        )
        yield from (inside / name for name in sorted(files) if _SOURCE_FILE.fullmatch(name))


def find_module(module: str, project: Project, path: Sequence[str]) -> Path | None:
    """Return the file of a module by its dotted name, or None if no folder has it."""
    inside = module.replace(".", "/")
    for base in (*project.bases, project.root, *map(Path, filter(None, path))):
        for file in (base / f"{inside}.py", base / inside / "__init__.py"):
            if file.is_file():
                return file
    return None


def _table(settings: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """Return a nested table of the settings, or an empty one if no table has this name."""
    value: object = settings
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _module_parts(file: Path, base: Path) -> list[str]:
    """Return the parts of a module's name below `base`, or [] if a part is not a valid name."""
    parts = [*file.relative_to(base).with_suffix("").parts]
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    names = all(part.isidentifier() and not keyword.iskeyword(part) for part in parts)
    return parts if names else []


# -- writing


def append_table(text: str, table: str) -> str:
    r"""Return a TOML document with the table appended; its own lines do not change.

    Raises `Unwritable` if the result is invalid or has other values than the table.

    >>> append_table("[tool.a]\nx = 1", "[tool.streamperf]\ny = 2\n")
    '[tool.a]\nx = 1\n\n[tool.streamperf]\ny = 2\n'
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    end = "" if not text or text.endswith("\n") else newline
    whole = text + end + (newline if text else "") + table.replace("\n", newline)
    try:
        actual, expected = (tomllib.loads(t)["tool"]["streamperf"] for t in (whole, table))
    except (ValueError, TypeError, RecursionError) as error:
        raise Unwritable(f"the table cannot be appended: {error}") from None
    if actual != expected:
        raise Unwritable("the table cannot be appended: [tool.streamperf] exists already")
    return whole


def put_in_place(test: Path, text: str, pyproject: Path, settings: str) -> None:
    """Write a new test file, and replace `pyproject.toml` unless `settings` is empty.

    Either both files are written or none. Raises `Unwritable` if the test file exists, and for an
    error of the operating system.
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
        raise Unwritable(f"nothing was written: {error.filename}: {error.strerror}") from None
