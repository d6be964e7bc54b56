"""`streamperf init`: propose a first test and a budget for existing code.

A file, a folder or a module name goes in; proposals come out, and `--write` puts them into the
project. Code is parsed with `ast`, and never imported or run. Only this module and `project`
touch files.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pytest_streamperf._cli.init.consumers import MINIMUM_SCORE, find_consumers
from pytest_streamperf._cli.init.outside import find_apps, find_fetches
from pytest_streamperf._cli.init.project import (
    ModulePlace,
    Project,
    Unwritable,
    append_table,
    find_module,
    place_of,
    project_of,
    put_in_place,
    source_files,
)
from pytest_streamperf._cli.init.proposal import (
    CHECKS,
    Candidate,
    Proposal,
    best_candidates,
    proposal,
)
from pytest_streamperf._cli.init.source import Source, Unreadable, read
from pytest_streamperf._report.terminal import say

# Not measured: no reason is on record. It bounds the lists that the command prints.
_MAX_LISTED = 20
# Exit statuses.
_NOT_WRITTEN, _INVALID_TARGET = 1, 2


class _Selection(NamedTuple):
    """The candidates for the proposed test, their file and module, and all other candidates."""

    file: Path
    project: Project
    module: str
    picked: Sequence[Candidate]
    rest: Sequence[tuple[Path, Candidate]]
    unread: Sequence[str]

    @property
    def test(self) -> Path:
        """The path of the proposed test file, which may not exist."""
        name = self.module.rsplit(".", 1)[-1]
        return self.project.root / "tests" / f"test_{name}_streaming.py"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the target and `--write` to the parser."""
    parser.add_argument(
        "target",
        help="a file, a name in it (app/agent.py::Reply.feed), package.module:name, or a folder",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="write the test and its budgets, unless a value has to be filled in",
    )


def run(options: argparse.Namespace) -> int:
    """Print the proposal, write it with `--write`, and return the exit status.

    It is 1 if `--write` wrote nothing, and 2 if the target is unreadable or has no code to test.
    """
    try:
        selection, proposed = _select(options.target)
        say(_candidate_lines(selection))
        if options.write and not proposed.doubts:
            say(_write(selection, proposed))
            return 0
        say(_proposal_lines(selection, proposed, options.target))
    except (Unreadable, Unwritable) as error:
        say([f"streamperf init: {error}"], sys.stderr)
        return _NOT_WRITTEN if isinstance(error, Unwritable) else _INVALID_TARGET
    return _NOT_WRITTEN if options.write else 0


# -- selection


def candidates(source: Source, module: str) -> list[Candidate]:
    """Return all candidates for checks in a module, the best first.

    Raises `Unreadable` if the code is nested too deep.

    >>> candidates(read("a.py", b"x = 1"), "a")
    []
    """
    try:
        results = [*find_consumers(source), *find_apps(source), *find_fetches(source, module)]
    except RecursionError:
        raise Unreadable(f"{module} is nested too deep to be read") from None
    return sorted(results, key=_sort_key)


def _sort_key(candidate: Candidate) -> tuple[bool, int, int]:
    return bool(candidate.doubts), -candidate.score, candidate.line


def _select(target: str) -> tuple[_Selection, Proposal]:
    path, name = _resolve(target)
    results: list[tuple[Path, Candidate]] = []
    unread = []
    for file in source_files(path) if path.is_dir() else [path]:
        try:
            source, module = read(str(file), file.read_bytes()), _find_place(file)[1].module
            results += [(file, candidate) for candidate in candidates(source, module)]
        except (Unreadable, OSError) as error:
            unread.append(str(error))
    if unread and not results:
        raise Unreadable(unread[0])
    matches = [(file, match) for file, match in results if match.matches(name)]
    # A name asks for the candidate whatever its score is.
    matches = [pair for pair in matches if name or pair[1].score >= MINIMUM_SCORE]
    if not matches:
        names = list(dict.fromkeys(match.name for _, match in results if match.name))[:_MAX_LISTED]
        by_name = f"; possible names: {', '.join(names)}" if names else ""
        raise Unreadable(
            f"{target} has no code that takes a stream, serves one or fetches{by_name}"
        )
    matches.sort(key=lambda pair: _sort_key(pair[1]))
    best, first = matches[0]
    owner = first.name.split(".")[0] if path.is_dir() else ""
    picked = best_candidates([m for file, m in matches if file == best and m.matches(owner)])
    rest = [pair for pair in matches if pair[1] not in picked]
    project, place = _find_place(best)
    selection = _Selection(best, project, place.module, picked, rest, unread)
    return selection, proposal(place.module, picked, place.doubts)


def _resolve(target: str) -> tuple[Path, str]:
    """Return the file or folder of a target, and the name in it."""
    location, _, name = target.partition("::")
    path = Path(location)
    if path.is_dir() or (path.is_file() and path.suffix == ".py"):
        return path, name.replace("::", ".")
    if path.exists():
        raise Unreadable(f"{location} is not a Python file")
    if re.fullmatch(r"[^\W\d][\w.]*(:[^\W\d][\w.]*)?", target):
        module, _, name = target.partition(":")
        file = find_module(module, project_of(Path.cwd()), sys.path[1:])
        if file is not None:
            return Path(_relative(file)), name
    raise Unreadable(f"{location} is not a file, a folder or a module on the import path")


def _find_place(file: Path) -> tuple[Project, ModulePlace]:
    project = project_of(file.resolve())
    # The first entry of sys.path is the folder of the command itself.
    return project, place_of(file.resolve(), project, sys.path[1:])


# -- output


def _candidate_lines(selection: _Selection) -> Iterator[str]:
    """Yield the selected candidates, and the command for each of the rest."""
    for candidate in selection.picked:
        where = f"{_relative(selection.file)}:{candidate.line}"
        yield f"{where} {candidate.name or selection.module}: {candidate.why}"
        yield f"    {candidate.check}: {CHECKS[candidate.check].question}"
    if selection.rest:
        yield "also found:"
    for file, match in selection.rest[:_MAX_LISTED]:
        name = f"::{match.name}" if match.name else ""
        mark = " (not sure)" if match.doubts else ""
        yield f"    streamperf init {_relative(file)}{name}  # {match.check}{mark}: {match.why}"
    if len(selection.rest) > _MAX_LISTED:
        yield f"    and {len(selection.rest) - _MAX_LISTED} more"
    yield from (f"not read: {error}" for error in selection.unread)


def _proposal_lines(selection: _Selection, proposed: Proposal, target: str) -> Iterator[str]:
    yield from ["", f"# {_relative(selection.test)}", "", *proposed.test.split("\n")]
    yield from [f"# {_relative(selection.project.pyproject)}", "", *proposed.table.split("\n")]
    yield from _required_extras(selection)
    yield from (f"not sure: {doubt}" for doubt in proposed.doubts)
    if not proposed.doubts:
        yield f"next: streamperf init {target} --write"


def _write(selection: _Selection, proposed: Proposal) -> Iterator[str]:
    """Write the proposal, and yield lines that name the written files.

    Raises `Unwritable` before anything is written if the test file cannot be created.
    """
    test, pyproject = selection.test, selection.project.pyproject
    if "site-packages" in test.parts:
        raise Unwritable(f"{selection.file} is an installed file, not part of a project with tests")
    if test.exists():
        raise Unwritable(f"{_relative(test)} exists already and is not overwritten")
    reason = "" if pyproject.is_file() else "there is no pyproject.toml; add this budget to one:"
    if selection.project.has_streamperf_table:
        reason = "pyproject.toml has [tool.streamperf] already; add this budget to it:"
    settings = "" if reason else append_table(pyproject.read_bytes().decode(), proposed.table)
    put_in_place(test, proposed.test, pyproject, settings)
    yield f"wrote {_relative(test)}"
    if reason:
        yield from [reason, "", *proposed.table.split("\n")]
    else:
        yield f'wrote [tool.streamperf] to {_relative(pyproject)}: mode = "warn" fails nothing yet'
    yield from _required_extras(selection)
    yield f"next: pytest -p streamperf {_relative(test)}"


def _required_extras(selection: _Selection) -> Iterator[str]:
    extras = filter(None, (CHECKS[c.check].extra for c in selection.picked))
    return (f"needs: pip install '{extra}'" for extra in extras)


def _relative(path: Path) -> str:
    """Return the path as a user types it in the working directory."""
    shown = os.path.relpath(path)
    return str(path) if shown.startswith(os.pardir) else shown
