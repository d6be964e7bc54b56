"""`streamperf compare`: what got worse, for a terminal, for a review, for a machine."""

import json
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import groupby
from typing import Any

from pytest_streamperf._report.compare import Change, Changed, Comparison, Refused, compare
from pytest_streamperf._report.document import Key, read
from pytest_streamperf._report.presentation import printable
from pytest_streamperf._report.terminal import say
from pytest_streamperf._results.units import percent
from pytest_streamperf.exceptions import ReportError

# A report may be anybody's, and a comment on a review holds 65,536 characters: so much is shown.
_MOST_CHECKS, _MOST_FIGURES, _MOST_NAMED, _MOST_LETTERS = 20, 5, 10, 160
_WORTH_A_FACTOR = 2

_WORSE = "Worse"
_SECONDS = "Seconds are never compared: they are those of one machine."


def arguments(parser: ArgumentParser) -> None:
    """Take two reports, and what to say of them."""
    parser.add_argument("base", help="the report, or the baseline, to compare with")
    parser.add_argument("head", help="the report that is in question")
    parser.add_argument(
        "--fail", action="store_true", help="exit with 1 if a check got worse or was lost"
    )
    parser.add_argument("--format", choices=_FORMATS, default="table")


def run(options: Namespace) -> int:
    """Say what got worse: 0, or 1 with `--fail` if anything did."""
    comparison = compare(read(options.base), read(options.head))
    if not comparison.compared:
        reasons = [each.reason for each in comparison.refused]
        why = f"none can be compared: {reasons[0]}" if reasons else "they have no check in common"
        msg = f"{options.base} and {options.head}: {why}"
        raise ReportError(msg)
    say(_FORMATS[options.format](comparison))
    return 1 if options.fail and not comparison.green else 0


# -- what there is to say: sections of entries, each with rows of a label and a text

_Entry = tuple[str, list[tuple[str, str]]]


def _headline(comparison: Comparison) -> str:
    worse, better, lost = map(len, (comparison.worse, comparison.better, comparison.lost))
    said = [f"{worse or 'None'} of {comparison.compared:,} checks got worse"]
    if lost and not worse:
        others = f"none of the other {comparison.compared:,} checks got worse"
        said = [f"Incomplete, {lost:,} lost; {others}"]
    same = comparison.compared - worse - better
    refused = sum(each.what == "check" for each in comparison.refused)
    rest = {
        "lost": lost * bool(worse),
        "better": better,
        "the same": same * bool(worse or better),
        "not compared": refused,
        "gone": len(comparison.gone),
        "new": len(comparison.new),
    }
    return ", ".join(said + [f"{count:,} {word}" for word, count in rest.items() if count])


def _sections(comparison: Comparison) -> Iterator[tuple[str, list[_Entry]]]:
    """All that has something in it, what matters first, and no more of it than people read."""
    lost = "Lost: these were checked before, and the run in question did not get so far"
    gone = "Gone: these were checked before; they were removed, renamed or not selected"
    groups = groupby(sorted(comparison.refused, key=_reason), key=_reason)
    refused = [(_cut(reason), _named(each.key for each in group)) for reason, group in groups]
    sections: dict[str, list[_Entry]] = {
        _WORSE: _limited([_entry(each) for each in comparison.worse], _MOST_CHECKS),
        lost: _named(comparison.lost),
        "Better": _limited([_entry(each) for each in comparison.better], _MOST_CHECKS),
        "Not compared": _limited(
            [(why, [(name, "") for name, _ in named]) for why, named in refused], _MOST_NAMED
        ),
        gone: _named(comparison.gone),
        "New": _named(comparison.new),
    }
    yield from ((title, entries) for title, entries in sections.items() if entries)


def _reason(refused: Refused) -> str:
    return refused.reason if refused.what == "check" else f"{refused.what}: {refused.reason}"


def _name(key: Key) -> str:
    test, stem, number = key
    return f"{_cut(test)}  {stem}{f' {number}' if number > 1 else ''}"


def _named(keys: Iterable[Key]) -> list[_Entry]:
    return _limited([(_name(key), []) for key in keys], _MOST_NAMED)


def _limited(entries: list[_Entry], most: int) -> list[_Entry]:
    if len(entries) <= most:
        return entries
    return [*entries[:most], (f"and {len(entries) - most:,} more, which --format json has", [])]


def _entry(changed: Changed) -> _Entry:
    changes = sorted(changed.changes, key=lambda change: change.worse != changed.worse)
    rows = [(_cut(change.name), _said(change, changed)) for change in changes[:_MOST_FIGURES]]
    if len(changes) > _MOST_FIGURES:
        rows.append(("and", f"{len(changes) - _MOST_FIGURES:,} more figures"))
    if changed.worse:
        rows.append(("where", ": ".join(filter(None, (changed.place, changed.source)))))
        rows.append(("says", changed.headline))
    return _name(changed.key), [(label, _cut(text)) for label, text in rows if text]


def _said(change: Change, changed: Changed) -> str:
    figure = _FIGURES[change.kind]
    said = f"{figure(change.base)} -> {figure(change.head)}"
    if change.limit is not None:
        said += f", limit {figure(change.limit)}"
    if change.kind == "count" and change.head >= _WORTH_A_FACTOR * change.base > 0:
        said += f" ({change.head / change.base:,.0f} times)"
    opposite = f", which is {'worse' if change.worse else 'better'}"
    return said + (opposite if change.worse != changed.worse else "")


def _count(count: float) -> str:
    return f"{int(count) if isinstance(count, int) or count.is_integer() else count:,}"


_FIGURES: dict[str, Callable[[Any], str]] = {"verdict": str, "count": _count, "share": percent}


def _cut(text: str) -> str:
    """Leave out the middle of what is too long, once it can be shown."""
    text, half = printable(text), _MOST_LETTERS // 2
    return text if len(text) <= _MOST_LETTERS else f"{text[: half - 3]}...{text[-half:]}"


def _runs(comparison: Comparison) -> Iterator[tuple[str, str]]:
    for name, each in (("base", comparison.base), ("head", comparison.head)):
        commit = f"{each.commit[:10]}{' with changes' if each.dirty else ''}" if each.commit else ""
        begun = f"{each.started[:16].replace('T', ' ')} UTC"
        facts = (commit, begun, _cut(each.python), "" if each.complete else "incomplete")
        yield name, ", ".join(filter(None, facts))


# -- how it is laid out


def lines(comparison: Comparison) -> Iterator[str]:
    """Lay it out for a terminal, what got worse first."""
    yield _headline(comparison)
    for title, entries in _sections(comparison):
        yield from ("", title)
        for index, (name, rows) in enumerate(entries):
            if index and rows and title == _WORSE:
                yield ""
            yield f"  {name}"
            width = max((len(label) for label, _ in rows), default=0)
            yield from (f"    {label.ljust(width)}  {text}".rstrip() for label, text in rows)
    yield ""
    yield from (f"{name}  {run}" for name, run in _runs(comparison))
    yield _SECONDS


def _markdown(comparison: Comparison) -> Iterator[str]:
    """Lay it out for a comment: whatever is in a report stands between backticks."""
    yield f"### {_headline(comparison)}"
    for title, entries in _sections(comparison):
        yield from ("", f"**{title}**", "")
        for name, rows in entries:
            yield f"- {_code(name)}"
            yield from (f"  - {' '.join(map(_code, filter(None, row)))}" for row in rows)
    yield ""
    yield from (f"- {name} {_code(run)}" for name, run in _runs(comparison))
    yield from ("", _SECONDS)


def _code(text: str) -> str:
    """Put text between more backticks than it has in a row."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    room = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{room}{text}{room}{fence}"


def _json(comparison: Comparison) -> Iterator[str]:
    yield from json.dumps(
        {"format": "pytest-streamperf comparison", "version": 1, "green": comparison.green}
        | asdict(comparison),
        indent=1,
    ).splitlines()


_FORMATS: dict[str, Callable[[Comparison], Iterable[str]]] = {
    "table": lines,
    "markdown": _markdown,
    "json": _json,
}
