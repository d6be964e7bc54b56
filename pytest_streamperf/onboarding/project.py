"""Where things are in a project: the modules of its files, and the settings that say so."""

import keyword
import os
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pytest_streamperf.onboarding.source import Unreadable

_MARKS = ("pyproject.toml", "setup.cfg", "setup.py", ".git")
_SKIPPED = {"node_modules", "__pycache__", "tests", "test", "testing", "docs", "build", "dist"}
_LARGEST = 2 * 2**20


class Project(NamedTuple):
    """The root of a project, and its `pyproject.toml` as it is read; empty where there is none."""

    root: Path
    settings: dict[str, Any]

    @property
    def pyproject(self) -> Path:
        """Where its settings are, or would be."""
        return self.root / "pyproject.toml"


class Place(NamedTuple):
    """The module that a file is, and what is not sure of importing it."""

    module: str
    doubts: Sequence[str]


def project_of(file: Path) -> Project:
    """Find the project that a file belongs to.

    Raises `Unreadable` for a `pyproject.toml` that is none.
    """
    folder = file if file.is_dir() else file.parent
    marked = (
        each for each in (folder, *folder.parents) if any((each / m).exists() for m in _MARKS)
    )
    root = next(marked, _top(folder))
    pyproject = root / "pyproject.toml"
    if not pyproject.is_file():
        return Project(root, {})
    try:
        return Project(root, tomllib.loads(pyproject.read_bytes().decode()))
    except (ValueError, RecursionError) as error:
        msg = f"{pyproject} is no TOML that can be read: {error}"
        raise Unreadable(msg) from None


def place_of(file: Path, project: Project, path: Sequence[str]) -> Place:
    """Tell by what name a file is imported; `path` is what this interpreter looks in, files apart.

    Nothing is imported to find out.
    """
    top = _top(file.parent)
    told = [(project.root / each).resolve() for each in _pythonpath(project.settings)]
    installed = [Path(each).resolve() for each in path if each]
    known = {*told, *installed}
    if _is_package(project):
        known |= {project.root / "src", project.root}
    known |= {each for each in (top, project.root) if _put_on_path(each, project)}
    likely = [*known, project.root / "src", project.root]
    above = [each for each in likely if top.is_relative_to(each) and each.is_dir()]
    above.sort(key=lambda each: len(each.parts), reverse=True)
    # A folder whose name is none, such as 01_growth, is not part of a module's.
    named = (each for each in (*above, top) if _importable(_parts(file, each)))
    base = next(named, top)
    parts = _parts(file, base)
    if not _importable(parts):
        return Place(".".join(parts) or base.name, [f"{file.name} has no name to import it by"])
    if base in known:
        return Place(".".join(parts), ())
    where = os.path.relpath(base, project.root).replace(os.sep, "/")
    how = f'pythonpath = ["{where}"] in [tool.pytest.ini_options] would say where it is'
    return Place(".".join(parts), [f"pytest may not find {parts[0]}: {how}"])


def sources_in(folder: Path) -> list[Path]:
    """Python files below a folder that may hold code to test, in order."""
    found = []
    for here, folders, files in os.walk(folder):
        inside = Path(here)
        folders[:] = sorted(each for each in folders if _is_code(inside / each))
        found += [inside / each for each in sorted(files) if _may_be_tested(inside / each)]
    return found


def found_by_name(module: str, project: Project, path: Sequence[str]) -> Path | None:
    """The file of a module, by its dotted name; None where there is none."""
    bases = [*(project.root / each for each in _pythonpath(project.settings))]
    bases += [project.root / "src", project.root, *(Path(each) for each in path if each)]
    parts = module.split(".")
    for base in bases:
        plain = base.joinpath(*parts[:-1], f"{parts[-1]}.py")
        whole = base.joinpath(*parts, "__init__.py")
        for file in (plain, whole):
            if file.is_file():
                return file
    return None


def _parts(file: Path, base: Path) -> list[str]:
    """The parts of a module's name, as seen from a folder above its file."""
    parts = [*file.relative_to(base).with_suffix("").parts]
    return parts[:-1] if parts[-1] == "__init__" else parts


def _importable(parts: Sequence[str]) -> bool:
    return bool(parts) and all(
        each.isidentifier() and not keyword.iskeyword(each) for each in parts
    )


def _top(folder: Path) -> Path:
    """The folder that the outermost package of a folder is in."""
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _pythonpath(settings: dict[str, Any]) -> Iterator[str]:
    """What pytest is told to import from, in either form of its table."""
    for names in (("tool", "pytest", "ini_options"), ("tool", "pytest")):
        told: Any = settings
        for name in names:
            told = told.get(name) if isinstance(told, dict) else None
        value = told.get("pythonpath", ()) if isinstance(told, dict) else ()
        yield from value.split() if isinstance(value, str) else map(str, value)


def _is_package(project: Project) -> bool:
    """Whether a project is there to be installed, with what is in it."""
    return "project" in project.settings or "build-system" in project.settings


def _put_on_path(folder: Path, project: Project) -> bool:
    """Whether pytest puts a folder on the path by itself."""
    if "importlib" in str(project.settings.get("tool", {}).get("pytest", "")):
        return False
    in_tests = folder == project.root and (folder / "tests" / "__init__.py").is_file()
    return not (folder / "__init__.py").exists() and (
        in_tests or (folder / "conftest.py").is_file()
    )


def _is_code(folder: Path) -> bool:
    environment = (folder / "pyvenv.cfg").exists()
    return folder.name not in _SKIPPED and not folder.name.startswith(".") and not environment


def _may_be_tested(file: Path) -> bool:
    name = file.name
    test = (
        name.startswith("test_") or name.endswith("_test.py") or name in {"conftest.py", "setup.py"}
    )
    return file.suffix == ".py" and not test and file.is_file() and file.stat().st_size <= _LARGEST
