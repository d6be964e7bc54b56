"""`streamperf init`: a first test and a budget for the code that it is pointed at.

Source text goes in, proposals come out; code is read with `ast`, and never imported or run. Only
this module and `project` touch files.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pytest_streamperf._cli.init.consumers import ENOUGH, streamed
from pytest_streamperf._cli.init.outside import apps, fetches
from pytest_streamperf._cli.init.project import (
    Place,
    Project,
    Unwritable,
    append_table,
    find_module,
    place_of,
    project_of,
    put_in_place,
    source_files,
)
from pytest_streamperf._cli.init.proposal import CHECKS, Candidate, Proposal, chosen, proposal
from pytest_streamperf._cli.init.source import Source, Unreadable, read
from pytest_streamperf._report.terminal import say

_MOST_SHOWN = 20
_REFUSED, _MISTAKE = 1, 2


class _Looked(NamedTuple):
    """What is to be tested of a file, the module that it is, and all else that was found."""

    file: Path
    project: Project
    module: str
    picked: Sequence[Candidate]
    others: Sequence[tuple[Path, Candidate]]
    unread: Sequence[str]

    @property
    def test(self) -> Path:
        """Where the test is, or would be."""
        name = self.module.rsplit(".", 1)[-1]
        return self.project.root / "tests" / f"test_{name}_streaming.py"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument(
        "target",
        help="a file, a name in it (app/agent.py::Reply.feed), package.module:name, or a folder",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="write the test, and the budget into pyproject.toml, where nothing is left to fill in",
    )


def run(options: argparse.Namespace) -> int:
    """Print what is proposed, and write it if asked to; the exit status.

    It is 1 where something is not written, 2 where the target cannot be read or has nothing.
    """
    try:
        looked, proposed = _look(options.target)
        say(_listed(looked))
        if options.write and not proposed.doubts:
            say(_write(looked, proposed))
            return 0
        say(_shown(looked, proposed, options.target))
    except (Unreadable, Unwritable) as error:
        say([f"streamperf init: {error}"], sys.stderr)
        return _REFUSED if isinstance(error, Unwritable) else _MISTAKE
    return _REFUSED if options.write else 0


# -- reading


def candidates(source: Source, module: str) -> list[Candidate]:
    """Find all there is to test in a module, the best first.

    Raises `Unreadable` where it is nested too deep.

    >>> candidates(read("a.py", b"x = 1"), "a")
    []
    """
    try:
        found = [*streamed(source), *apps(source), *fetches(source, module)]
    except RecursionError:
        raise Unreadable(f"{module} is nested too deep to be read") from None
    return sorted(found, key=_order)


def _order(each: Candidate) -> tuple[bool, int, int]:
    return bool(each.doubts), -each.score, each.line


def _look(target: str) -> tuple[_Looked, Proposal]:
    path, name = _resolved(target)
    found: list[tuple[Path, Candidate]] = []
    unread = []
    for file in source_files(path) if path.is_dir() else [path]:
        try:
            source, module = read(str(file), file.read_bytes()), _place(file)[1].module
            found += [(file, each) for each in candidates(source, module)]
        except (Unreadable, OSError) as error:
            unread.append(str(error))
    if unread and not found:
        raise Unreadable(unread[0])
    asked = [each for each in found if each[1].matches(name)]
    asked = [each for each in asked if name or each[1].score >= ENOUGH]
    if not asked:
        names = list(dict.fromkeys(each.name for _, each in found if each.name))[:_MOST_SHOWN]
        by_name = f"; by name there is {', '.join(names)}" if names else ""
        raise Unreadable(
            f"{target} has nothing that takes a stream, serves one, or fetches{by_name}"
        )
    asked.sort(key=lambda each: _order(each[1]))
    best, first = asked[0]
    about = first.name.split(".")[0] if path.is_dir() else ""
    picked = chosen([each for file, each in asked if file == best and each.matches(about)])
    others = [each for each in asked if each[1] not in picked]
    project, place = _place(best)
    looked = _Looked(best, project, place.module, picked, others, unread)
    return looked, proposal(place.module, picked, place.doubts)


def _resolved(target: str) -> tuple[Path, str]:
    """The file or folder that is meant, and the name in it."""
    where, _, name = target.partition("::")
    path = Path(where)
    if path.is_dir() or (path.is_file() and path.suffix == ".py"):
        return path, name.replace("::", ".")
    if path.exists():
        raise Unreadable(f"{where} is no Python file")
    if re.fullmatch(r"[^\W\d][\w.]*(:[^\W\d][\w.]*)?", target):
        module, _, name = target.partition(":")
        file = find_module(module, project_of(Path.cwd()), sys.path[1:])
        if file is not None:
            return Path(_relative(file)), name
    raise Unreadable(f"{where} is no file, no folder and no module that is found from here")


def _place(file: Path) -> tuple[Project, Place]:
    project = project_of(file.resolve())
    # What is first on the path of a command is where the command is.
    return project, place_of(file.resolve(), project, sys.path[1:])


# -- saying


def _listed(looked: _Looked) -> Iterator[str]:
    """What was found, the best first, with the command for each of the others."""
    for each in looked.picked:
        where = f"{_relative(looked.file)}:{each.line}"
        yield f"{where} {each.name or looked.module}: {each.why}"
        yield f"    {each.check}: {CHECKS[each.check].question}"
    if looked.others:
        yield "also found:"
    for file, each in looked.others[:_MOST_SHOWN]:
        name = f"::{each.name}" if each.name else ""
        sure = " (not sure)" if each.doubts else ""
        yield f"    streamperf init {_relative(file)}{name}  # {each.check}{sure}: {each.why}"
    if len(looked.others) > _MOST_SHOWN:
        yield f"    and {len(looked.others) - _MOST_SHOWN} more"
    yield from (f"not read: {each}" for each in looked.unread)


def _shown(looked: _Looked, proposed: Proposal, target: str) -> Iterator[str]:
    yield from ["", f"# {_relative(looked.test)}", "", *proposed.test.split("\n")]
    yield from [f"# {_relative(looked.project.pyproject)}", "", *proposed.table.split("\n")]
    yield from _needed(looked)
    yield from (f"not sure: {each}" for each in proposed.doubts)
    if not proposed.doubts:
        yield f"next: streamperf init {target} --write"


def _write(looked: _Looked, proposed: Proposal) -> Iterator[str]:
    """Check all that can be checked, write, and say what was written."""
    test, pyproject = looked.test, looked.project.pyproject
    if "site-packages" in test.parts:
        raise Unwritable(f"{looked.file} is installed, and no part of a project with tests here")
    if test.exists():
        raise Unwritable(f"{_relative(test)} is there already, and is not overwritten")
    kept = "" if pyproject.is_file() else "there is no pyproject.toml; the budget would be"
    if looked.project.has_streamperf_table:
        kept = "pyproject.toml has [tool.streamperf] already; the budget would be"
    settings = "" if kept else append_table(pyproject.read_bytes().decode(), proposed.table)
    put_in_place(test, proposed.test, pyproject, settings)
    yield f"wrote {_relative(test)}"
    if kept:
        yield from [kept, "", *proposed.table.split("\n")]
    else:
        yield f'wrote [tool.streamperf] to {_relative(pyproject)}: mode = "warn" fails nothing yet'
    yield from _needed(looked)
    yield f"next: pytest -p streamperf {_relative(test)}"


def _needed(looked: _Looked) -> Iterator[str]:
    needs = filter(None, (CHECKS[each.check].extra for each in looked.picked))
    return (f"needs: pip install '{each}'" for each in needs)


def _relative(path: Path) -> str:
    """As people would type it from here."""
    shown = os.path.relpath(path)
    return str(path) if shown.startswith(os.pardir) else shown
