"""`streamperf compare`: list the checks that got worse between two reports.

The base and the head report go in. The comparison comes out as a table for a terminal, as Markdown
for a review comment, or as JSON for a program. Text from a report is printable and short, because
anyone may have written the report. The table and the comment leave out what people do not read.
"""

import json
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import groupby
from typing import Any

from pytest_streamperf._report.compare import Change, ChangedCheck, Comparison, Refusal, compare
from pytest_streamperf._report.document import Key, read
from pytest_streamperf._report.presentation import printable
from pytest_streamperf._report.terminal import say
from pytest_streamperf._results.units import percent
from pytest_streamperf.exceptions import ReportError

# A GitHub comment holds 65,536 characters. These limits keep the Markdown of any report below that
# (tests/report/test_compare.py, test_a_hostile_report_in_a_comment).
_MAX_CHECKS, _MAX_FIGURES, _MAX_NAMES, _MAX_CHARACTERS = 20, 5, 10, 160
# Not measured: below twice the base count, both counts say as much as "(1.4 times)".
_MIN_SHOWN_FACTOR = 2

_WORSE_TITLE = "Worse"
_SECONDS_NOTE = "Seconds are never compared: they are those of one machine."


def arguments(parser: ArgumentParser) -> None:
    """Add both reports, `--fail` and the output format to the parser."""
    parser.add_argument("base", help="the earlier report, or a baseline")
    parser.add_argument("head", help="the report that is compared with base")
    parser.add_argument(
        "--fail", action="store_true", help="exit with 1 if a check got worse or was lost"
    )
    parser.add_argument("--format", choices=_FORMATS, default="table")


def run(options: Namespace) -> int:
    """Print the comparison, and return the exit status.

    It is 1 with `--fail` if a check got worse or was lost, and 0 otherwise. Two reports without a
    comparable check raise `ReportError`.
    """
    comparison = compare(read(options.base), read(options.head))
    if not comparison.compared:
        reasons = [refused.reason for refused in comparison.refused]
        why = f"none can be compared: {reasons[0]}" if reasons else "they have no check in common"
        msg = f"{options.base} and {options.head}: {why}"
        raise ReportError(msg)
    say(_FORMATS[options.format](comparison))
    return 1 if options.fail and not comparison.green else 0


# -- the content: sections of entries, and an entry has rows of a label and a text

_Entry = tuple[str, list[tuple[str, str]]]


def _headline(comparison: Comparison) -> str:
    worse, better, lost = map(len, (comparison.worse, comparison.better, comparison.lost))
    parts = [f"{worse or 'None'} of {comparison.compared:,} checks got worse"]
    if lost and not worse:
        rest = f"none of the other {comparison.compared:,} checks got worse"
        parts = [f"Incomplete, {lost:,} lost; {rest}"]
    same = comparison.compared - worse - better
    refused = sum(refusal.what == "check" for refusal in comparison.refused)
    counts = {
        "lost": lost * bool(worse),
        "better": better,
        "the same": same * bool(worse or better),
        "not compared": refused,
        "gone": len(comparison.gone),
        "new": len(comparison.new),
    }
    return ", ".join(parts + [f"{count:,} {word}" for word, count in counts.items() if count])


def _sections(comparison: Comparison) -> Iterator[tuple[str, list[_Entry]]]:
    """Yield the title and the entries of each section that has entries, worse checks first."""
    lost = "Lost: base has these checks, and the head run did not complete them"
    gone = "Gone: base has these checks; they were removed, renamed or not selected"
    groups = groupby(sorted(comparison.refused, key=_refusal_text), key=_refusal_text)
    refused = [(_shorten(text), _name_entries(r.key for r in group)) for text, group in groups]
    sections: dict[str, list[_Entry]] = {
        _WORSE_TITLE: _limit_entries(
            [_changed_entry(check) for check in comparison.worse], _MAX_CHECKS
        ),
        lost: _name_entries(comparison.lost),
        "Better": _limit_entries(
            [_changed_entry(check) for check in comparison.better], _MAX_CHECKS
        ),
        "Not compared": _limit_entries(
            [(text, [(name, "") for name, _ in entries]) for text, entries in refused], _MAX_NAMES
        ),
        gone: _name_entries(comparison.gone),
        "New": _name_entries(comparison.new),
    }
    yield from ((title, entries) for title, entries in sections.items() if entries)


def _refusal_text(refusal: Refusal) -> str:
    return refusal.reason if refusal.what == "check" else f"{refusal.what}: {refusal.reason}"


def _check_name(key: Key) -> str:
    test, stem, number = key
    return f"{_shorten(test)}  {stem}{f' {number}' if number > 1 else ''}"


def _name_entries(keys: Iterable[Key]) -> list[_Entry]:
    return _limit_entries([(_check_name(key), []) for key in keys], _MAX_NAMES)


def _limit_entries(entries: list[_Entry], limit: int) -> list[_Entry]:
    if len(entries) <= limit:
        return entries
    return [*entries[:limit], (f"and {len(entries) - limit:,} more: see --format json", [])]


def _changed_entry(changed: ChangedCheck) -> _Entry:
    changes = sorted(changed.changes, key=lambda change: change.worse != changed.worse)
    rows = [
        (_shorten(change.name), _change_text(change, changed)) for change in changes[:_MAX_FIGURES]
    ]
    if len(changes) > _MAX_FIGURES:
        rows.append(("and", f"{len(changes) - _MAX_FIGURES:,} more figures"))
    if changed.worse:
        rows.append(("where", ": ".join(filter(None, (changed.place, changed.source)))))
        rows.append(("says", changed.headline))
    return _check_name(changed.key), [(label, _shorten(text)) for label, text in rows if text]


def _change_text(change: Change, changed: ChangedCheck) -> str:
    figure = _FIGURES[change.kind]
    text = f"{figure(change.base)} -> {figure(change.head)}"
    if change.limit is not None:
        text += f", limit {figure(change.limit)}"
    if change.kind == "count" and change.head >= _MIN_SHOWN_FACTOR * change.base > 0:
        text += f" ({change.head / change.base:,.0f} times)"
    opposite = f", which is {'worse' if change.worse else 'better'}"
    return text + (opposite if change.worse != changed.worse else "")


def _count_text(count: float) -> str:
    return f"{int(count) if isinstance(count, int) or count.is_integer() else count:,}"


_FIGURES: dict[str, Callable[[Any], str]] = {"verdict": str, "count": _count_text, "share": percent}


def _shorten(text: str) -> str:
    """Return printable text of at most 160 characters; its middle gives way to dots."""
    text, half = printable(text), _MAX_CHARACTERS // 2
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: half - 3]}...{text[-half:]}"


def _run_descriptions(comparison: Comparison) -> Iterator[tuple[str, str]]:
    for name, run in (("base", comparison.base), ("head", comparison.head)):
        commit = f"{run.commit[:10]}{' with changes' if run.dirty else ''}" if run.commit else ""
        started = f"{run.started[:16].replace('T', ' ')} UTC"
        facts = (commit, started, _shorten(run.python), "" if run.complete else "incomplete")
        yield name, ", ".join(filter(None, facts))


# -- the formats


def lines(comparison: Comparison) -> Iterator[str]:
    """Yield the lines of the table for a terminal, worse checks first."""
    yield _headline(comparison)
    for title, entries in _sections(comparison):
        yield from ("", title)
        for index, (name, rows) in enumerate(entries):
            if index and rows and title == _WORSE_TITLE:
                yield ""
            yield f"  {name}"
            width = max((len(label) for label, _ in rows), default=0)
            yield from (f"    {label.ljust(width)}  {text}".rstrip() for label, text in rows)
    yield ""
    yield from (f"{name}  {run}" for name, run in _run_descriptions(comparison))
    yield _SECONDS_NOTE


def _markdown(comparison: Comparison) -> Iterator[str]:
    """Yield the lines of a review comment; text from a report stands between backticks."""
    yield f"### {_headline(comparison)}"
    for title, entries in _sections(comparison):
        yield from ("", f"**{title}**", "")
        for name, rows in entries:
            yield f"- {_code_span(name)}"
            yield from (f"  - {' '.join(map(_code_span, filter(None, row)))}" for row in rows)
    yield ""
    yield from (f"- {name} {_code_span(run)}" for name, run in _run_descriptions(comparison))
    yield from ("", _SECONDS_NOTE)


def _code_span(text: str) -> str:
    """Return the text as a code span, with more backticks than it has in a row."""
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
