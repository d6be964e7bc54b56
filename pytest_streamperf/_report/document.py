"""Read, write and merge reports; a report is one JSON document with all checks of a run.

`read` and `write` accept only documents that follow `schema.json`, and raise `ReportError` for
others. `merge` makes one report of several, such as those of the shards of a CI job.
Reports come from other machines and versions: a file may be cut short or hostile.
"""

import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_streamperf._report.schema import SCHEMA, violation
from pytest_streamperf.exceptions import ReportError

FORMAT = "pytest-streamperf report"
VERSION = 1
# Not measured: no source is on record. The limit bounds the memory that a hostile file can take.
MAX_REPORT_BYTES = 64_000_000

_CHECK_KEYS = list(SCHEMA["$defs"]["check"]["properties"])

Document = dict[str, Any]
Key = tuple[str, str, int]


def key_of(check: Mapping[str, Any]) -> Key:
    """Return the test, stem and number of a check, which identify it within its run.

    >>> key_of({"test": "test_a.py::test_b", "stem": "growth", "number": 1})
    ('test_a.py::test_b', 'growth', 1)
    """
    return check["test"], check["stem"], check["number"]


def interpreter(document: Document) -> str:
    """Return the implementation and minor version of Python that made a report.

    The counts of growth checks depend on both.

    >>> interpreter({"environment": {"implementation": "CPython", "python": "3.11.7"}})
    'CPython 3.11'
    """
    environment = document["environment"]
    return f"{environment['implementation']} {'.'.join(environment['python'].split('.')[:2])}"


def read(path: str | os.PathLike[str]) -> Document:
    """Return the report in a file of at most 64 MB, after validation against the schema.

    Raises `ReportError` for a file that is no report of this version, and `OSError` for a file that
    cannot be opened. The texts of a valid report may still be hostile. They may hold markup,
    control characters and lone surrogates, which the caller must escape before showing them.

    >>> read("report.json")["complete"]
    True
    """
    with Path(path).open("rb") as file:
        data = file.read(MAX_REPORT_BYTES + 1)
    try:
        return _validated(_parse(data))
    except ReportError as error:
        msg = f"{os.fspath(path)}: {error}"
        raise ReportError(msg) from None


def _parse(data: bytes) -> Any:
    """Return the JSON value in `data`, or raise `ReportError`."""
    if len(data) > MAX_REPORT_BYTES:
        msg = f"it has more than {MAX_REPORT_BYTES // 10**6} MB, the limit for a report"
        raise ReportError(msg)
    try:
        return json.loads(data.decode())
    except RecursionError:
        msg = "it is nested more deeply than any report is"
    except UnicodeDecodeError as error:
        msg = f"it is not UTF-8: byte {error.start:,} is invalid"
    except json.JSONDecodeError as error:
        position = f"line {error.lineno:,}, column {error.colno:,}"
        msg = f"it is not JSON, or was cut short: {error.msg} at {position}"
    except ValueError as error:  # from int(), for a number with thousands of digits
        msg = f"it has a number with too many digits: {error}"
    raise ReportError(msg)


def _validated(document: Any) -> Document:
    """Return the document if it is a valid report, or raise `ReportError`."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        msg = f"it is not a report of pytest-streamperf: $.format must be {FORMAT!r}"
        raise ReportError(msg)
    version = document.get("version")
    if isinstance(version, int) and version > VERSION:
        msg = f"$.version is {version}, and this pytest-streamperf reads {VERSION}: update it"
        raise ReportError(msg)
    first_violation = violation(document)
    if first_violation:
        place, problem = first_violation
        msg = f"${place} {problem}"
        raise ReportError(msg)
    indexes: dict[Key, int] = {}
    for index, check in enumerate(document["checks"]):
        first = indexes.setdefault(key_of(check), index)
        if first != index:
            msg = (
                f"$.checks[{index}] has the test, stem and number of $.checks[{first}]; "
                "a report can hold a check only once"
            )
            raise ReportError(msg)
    return document


def write(document: Document, path: str | os.PathLike[str]) -> None:
    """Write a report to a file, with one line for each check, in a form that `read` accepts.

    A failure leaves an existing file unchanged. Missing folders are created, as pytest does for its
    other reports. A pipe or a device, such as `/dev/stdout`, is written to, not replaced. Raises
    `ReportError` for an invalid report, and `OSError`.

    >>> write(document, "streamperf.json")
    """
    try:
        # UTF-8 has no lone surrogates; this error handler writes them as JSON escapes.
        data = _json_text(_validated(document)).encode("utf-8", "backslashreplace")
    except ReportError as error:
        msg = f"{os.fspath(path)} was not written: {error}"
        raise ReportError(msg) from None
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        target.write_bytes(data)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".streamperf-{secrets.token_hex(8)}")
    try:
        temporary.write_bytes(data)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _json_text(document: Document) -> str:
    def dumps(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    entries = [f"{dumps(key)}: {dumps(document[key])}" for key in document if key != "checks"]
    checks = [dumps({key: check[key] for key in _CHECK_KEYS}) for check in document["checks"]]
    entries.append('"checks": [' + "".join(f"\n{check}," for check in checks)[:-1] + "\n]")
    return "{\n" + ",\n".join(entries) + "\n}\n"


def merge(documents: Iterable[Document]) -> Document:
    """Return one report for several runs of one commit on one Python, such as CI shards.

    Tests and durations add up. The result is complete if every report is. A report that is given
    twice counts once. A check in two reports must be equal in both: only the user knows which run
    of a repeated shard is valid, so the user must leave the other report out. The environment is
    that of the earliest run; its `differs` names the facts that are not the same in all runs.
    Raises `ReportError`.

    >>> merge([first_half, second_half])["tests"]
    500
    """
    runs: list[Document] = []
    for document in documents:
        if document not in runs:
            runs.append(document)
    if not runs:
        msg = "there is no report to merge"
        raise ReportError(msg)
    _require_same(runs, "on", interpreter)
    commits = [run["commit"] for run in runs if run["commit"]]
    _require_same([run for run in runs if run["commit"]], "of", lambda run: run["commit"]["id"])
    return {
        "format": FORMAT,
        "version": VERSION,
        "complete": all(run["complete"] for run in runs),
        "started": min(run["started"] for run in runs),
        "took": sum(run["took"] for run in runs),
        "commit": {"id": commits[0]["id"], "dirty": any(commit["dirty"] for commit in commits)}
        if commits
        else None,
        "environment": _merged_environment(runs),
        "noise": {
            "waited": _combine_known(max, [run["noise"]["waited"] for run in runs]),
            "page_faults": _combine_known(sum, [run["noise"]["page_faults"] for run in runs]),
        },
        "tests": sum(run["tests"] for run in runs),
        "lost": sorted({test for run in runs for test in run["lost"]}),
        "checks": _merged_checks(runs),
    }


def _require_same(runs: Sequence[Document], word: str, fact: Callable[[Document], str]) -> None:
    """Raise `ReportError` if a fact differs between runs; `word` stands before it in the text."""
    for run in runs:
        if fact(run) != fact(runs[0]):
            first_text, other_text = (
                f"{word} {fact(document)} (begun {document['started']})"
                for document in (runs[0], run)
            )
            msg = f"one run is {first_text}, another {other_text}; these cannot be merged"
            raise ReportError(msg)


def _merged_environment(runs: Sequence[Document]) -> dict[str, Any]:
    def facts(run: Document) -> dict[str, Any]:
        return {key: value for key, value in run["environment"].items() if key != "differs"}

    first = min(runs, key=lambda run: (run["started"], json.dumps(facts(run), sort_keys=True)))
    differs = {
        key for run in runs for key, value in facts(run).items() if value != facts(first)[key]
    }
    for run in runs:
        differs |= set(filter(None, run["environment"].get("differs", "").split(", ")))
    return facts(first) | ({"differs": ", ".join(sorted(differs))} if differs else {})


def _combine_known(combine: Callable[..., float], values: Sequence[float | None]) -> float | None:
    known_values = [value for value in values if value is not None]
    return combine(known_values) if known_values else None


def _merged_checks(runs: Sequence[Document]) -> list[dict[str, Any]]:
    """Return the checks of all runs in the order of their keys, or raise `ReportError`."""
    merged: dict[Key, tuple[Document, dict[str, Any]]] = {}
    for run in runs:
        for check in run["checks"]:
            earlier_run, earlier_check = merged.setdefault(key_of(check), (run, check))
            if earlier_check != check:
                test, stem, number = key_of(check)
                msg = (
                    f"{test}: {stem} {number} differs between two runs, begun "
                    f"{earlier_run['started']} and {run['started']}; leave one of the reports out"
                )
                raise ReportError(msg)
    return [merged[key][1] for key in sorted(merged)]
