"""`streamperf init`: a first test and a budget for the code that it is pointed at."""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pytest_streamperf.onboarding.candidate import Candidate
from pytest_streamperf.onboarding.candidates import candidates
from pytest_streamperf.onboarding.consumers import ENOUGH
from pytest_streamperf.onboarding.project import (
    Place,
    Project,
    found_by_name,
    place_of,
    project_of,
    sources_in,
)
from pytest_streamperf.onboarding.proposals import Proposal, chosen, proposal
from pytest_streamperf.onboarding.source import Unreadable, read
from pytest_streamperf.onboarding.templates import TEMPLATES
from pytest_streamperf.onboarding.writing import (
    Unwritable,
    appended,
    has_table,
    put_in_place,
    text_of,
)

_MOST_SHOWN = 20
_REFUSED, _MISTAKE = 1, 2


class _Found(NamedTuple):
    """A candidate, and the file that it is in."""

    file: Path
    candidate: Candidate


class _Looked(NamedTuple):
    """What is to be tested of a file, where that is in its project, and all else that was found."""

    file: Path
    project: Project
    place: Place
    picked: Sequence[Candidate]
    others: Sequence[_Found]
    unread: Sequence[str]


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
        looked = _look(options.target)
        proposed = proposal(looked.place.module, looked.picked, looked.place.doubts)
        test = looked.project.root / "tests" / f"test_{_stem(looked.place.module)}_streaming.py"
        _print(_listed(looked))
        if options.write and not proposed.doubts:
            _print(_write(looked, proposed, test))
            return 0
        _print(_shown(looked, proposed, test, options.target))
    except (Unreadable, Unwritable) as error:
        print(f"streamperf init: {error}", file=sys.stderr)  # noqa: T201 - it is a command
        return _REFUSED if isinstance(error, Unwritable) else _MISTAKE
    return _REFUSED if options.write else 0


# -- reading


def _look(target: str) -> _Looked:
    path, name = _resolved(target)
    files = sources_in(path) if path.is_dir() else [path]
    if not files:
        msg = f"{target} has no Python in it that is not a test"
        raise Unreadable(msg)
    found, unread = [], []
    for file in files:
        try:
            found += [_Found(file, each) for each in _candidates(file)]
        except Unreadable as error:
            if len(files) == 1:
                raise
            unread.append(str(error))
    asked = [each for each in found if each.candidate.is_asked_for(name)]
    if not name:
        asked = [each for each in asked if each.candidate.score >= ENOUGH]
    if not asked:
        raise Unreadable(_nothing(target, name, found))
    asked.sort(key=lambda each: (not each.candidate.sure, -each.candidate.score))
    best = asked[0].file
    project = project_of(best.resolve())
    # What is first on the path of a command is where the command is.
    place = place_of(best.resolve(), project, sys.path[1:])
    of_best = [each.candidate for each in asked if each.file == best]
    if path.is_dir():
        of_best = [each for each in of_best if each.is_asked_for(of_best[0].name.split(".")[0])]
    picked = chosen(of_best)
    others = [each for each in asked if each.candidate not in picked]
    return _Looked(best, project, place, picked, others, unread)


def _resolved(target: str) -> tuple[Path, str]:
    """The file or folder that is meant, and the name in it."""
    where, _, name = target.partition("::")
    path = Path(where)
    if path.exists():
        if path.is_file() and path.suffix != ".py":
            msg = f"{where} is no Python file"
            raise Unreadable(msg)
        return path, name.replace("::", ".")
    if not name and re.fullmatch(r"[^\W\d][\w.]*(:[^\W\d][\w.]*)?", target):
        module, _, name = target.partition(":")
        here = Path.cwd()
        file = found_by_name(module, project_of(here), sys.path[1:])
        if file is not None:
            file = Path(os.path.relpath(file)) if file.is_relative_to(here) else file
            return (file.parent, "") if file.name == "__init__.py" and not name else (file, name)
    msg = f"{where} is no file, no folder and no module that is found from here"
    raise Unreadable(msg)


def _candidates(file: Path) -> list[Candidate]:
    try:
        source = read(str(file), file.read_bytes())
    except OSError as error:
        msg = f"{file} cannot be read: {error.strerror}"
        raise Unreadable(msg) from None
    resolved = file.resolve()
    place = place_of(resolved, project_of(resolved), sys.path[1:])
    return candidates(source, place.module)


def _nothing(target: str, name: str, found: Sequence[_Found]) -> str:
    names = list(dict.fromkeys(each.candidate.name for each in found if each.candidate.name))
    if name:
        has = f"it has {', '.join(names[:_MOST_SHOWN])}" if names else "nor has anything else there"
        return f"{target} has no loop over a parameter, and takes no deltas; {has}"
    if names:
        return f"{target} has nothing that looks like a stream's; by name there is {names[0]}"
    return f"{target} has nothing that takes a stream, serves one, or fetches"


# -- saying


def _listed(looked: _Looked) -> Iterator[str]:
    """What was found, the best first, with the command for each of the others."""
    here = _relative(looked.file)
    for each in looked.picked:
        template = TEMPLATES[each.kind]
        yield f"{here}:{each.line} {each.name or looked.place.module}: {each.why}"
        yield f"    {template.stem}: {template.about}"
    if looked.others:
        yield "also found:"
    for file, each in looked.others[:_MOST_SHOWN]:
        name = f"::{each.name}" if each.name else ""
        sure = "" if each.sure else " (not sure)"
        command = f"streamperf init {_relative(file)}{name}"
        yield f"    {command}  # {TEMPLATES[each.kind].stem}{sure}: {each.why}"
    if len(looked.others) > _MOST_SHOWN:
        yield f"    and {len(looked.others) - _MOST_SHOWN} more"
    yield from (f"not read: {each}" for each in looked.unread)


def _shown(looked: _Looked, proposed: Proposal, test: Path, target: str) -> Iterator[str]:
    yield from ["", f"# {_relative(test)}", "", proposed.test]
    yield from [f"# {_relative(looked.project.pyproject)}", "", proposed.table]
    yield from _extras(proposed)
    yield from (f"not sure: {each}" for each in proposed.doubts)
    if not proposed.doubts:
        yield f"next: streamperf init {target} --write"


def _write(looked: _Looked, proposed: Proposal, test: Path) -> Iterator[str]:
    """Check all that can be checked, write, and say what was written."""
    if "site-packages" in test.parts:
        msg = f"{looked.file} is installed, and not part of a project that has tests here"
        raise Unwritable(msg)
    if test.exists():
        msg = f"{_relative(test)} is there already, and is not overwritten"
        raise Unwritable(msg)
    pyproject, changed, kept = looked.project.pyproject, {}, ""
    if not pyproject.is_file():
        kept = "there is no pyproject.toml; the budget would be"
    elif has_table(looked.project.settings):
        kept = "pyproject.toml has [tool.streamperf] already; the budget would be"
    else:
        changed = {pyproject.resolve(): appended(text_of(pyproject), proposed.table)}
    put_in_place({test: proposed.test}, changed)
    yield f"wrote {_relative(test)}"
    if changed:
        yield f'wrote [tool.streamperf] to {_relative(pyproject)}: mode = "warn" fails nothing yet'
    else:
        yield from [kept, "", proposed.table]
    yield from _extras(proposed)
    yield f"next: pytest -p streamperf {_relative(test)}"


def _extras(proposed: Proposal) -> Iterator[str]:
    for each in proposed.extras:
        yield f"needs: pip install 'pytest-streamperf[{each}]'"


def _stem(module: str) -> str:
    return module.rsplit(".", 1)[-1]


def _relative(path: Path) -> str:
    """As people would type it from here."""
    shown = os.path.relpath(path)
    return str(path) if shown.startswith(os.pardir) else shown


def _print(lines: Iterator[str]) -> None:
    encoding = sys.stdout.encoding or "ascii"
    for line in lines:
        print(line.encode(encoding, "backslashreplace").decode(encoding))  # noqa: T201 - it is a command
