"""The report of a run as one JSON document: read, written, and made of several.

`schema.json` says what is in it, key by key.
"""

import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_streamperf._report.schema import SCHEMA, fault
from pytest_streamperf.exceptions import ReportError

FORMAT = "pytest-streamperf report"
VERSION = 1
MOST_BYTES = 64_000_000

_KEYS_OF_A_CHECK = list(SCHEMA["$defs"]["check"]["properties"])

Document = dict[str, Any]
Key = tuple[str, str, int]


def key_of(check: Mapping[str, Any]) -> Key:
    """Tell one check from all others of its run: by test, stem and number.

    >>> key_of({"test": "test_a.py::test_b", "stem": "growth", "number": 1})
    ('test_a.py::test_b', 'growth', 1)
    """
    return check["test"], check["stem"], check["number"]


def interpreter(document: Document) -> str:
    """What counts of growth depend on: the implementation and minor version of Python.

    >>> interpreter({"environment": {"implementation": "CPython", "python": "3.11.7"}})
    'CPython 3.11'
    """
    environment = document["environment"]
    return f"{environment['implementation']} {'.'.join(environment['python'].split('.')[:2])}"


def read(path: str | os.PathLike[str]) -> Document:
    """Read a report of at most 64 MB, and hold it to the schema.

    Raises `ReportError` for what is no report of this version, and `OSError` for what cannot be
    opened. What a valid report says may still be hostile: texts hold markup, control characters
    and lone surrogates, which whoever shows them escapes.

    >>> read("report.json")["complete"]
    True
    """
    with Path(path).open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    try:
        return _checked(_parsed(data))
    except ReportError as error:
        msg = f"{os.fspath(path)}: {error}"
        raise ReportError(msg) from None


def _parsed(data: bytes) -> Any:
    if len(data) > MOST_BYTES:
        msg = f"it has more than {MOST_BYTES // 10**6} MB, which is the most that is read"
        raise ReportError(msg)
    try:
        return json.loads(data.decode())
    except RecursionError:
        msg = "it is nested more deeply than any report is"
    except UnicodeDecodeError as error:
        msg = f"it must be UTF-8, and is not from byte {error.start:,} on"
    except json.JSONDecodeError as error:
        at = f"line {error.lineno:,}, column {error.colno:,}"
        msg = f"it must be JSON, and is not, or was cut short: {error.msg} at {at}"
    except ValueError as error:  # of a number with thousands of digits
        msg = f"it must be JSON of ordinary numbers: {error}"
    raise ReportError(msg)


def _checked(document: Any) -> Document:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        msg = f"it is not a report of pytest-streamperf: $.format must be {FORMAT!r}"
        raise ReportError(msg)
    version = document.get("version")
    if isinstance(version, int) and version > VERSION:
        msg = f"$.version is {version}, and this pytest-streamperf reads {VERSION}: update it"
        raise ReportError(msg)
    found = fault(document)
    if found:
        place, wrong = found
        msg = f"${place} {wrong}"
        raise ReportError(msg)
    seen: dict[Key, int] = {}
    for index, check in enumerate(document["checks"]):
        first = seen.setdefault(key_of(check), index)
        if first != index:
            msg = (
                f"$.checks[{index}] has the test, stem and number of $.checks[{first}]; "
                "a check must be there once"
            )
            raise ReportError(msg)
    return document


def write(document: Document, path: str | os.PathLike[str]) -> None:
    """Write a report that `read` can read, whole or not at all, one line for each check.

    The folder is made where there is none, as pytest does for its other reports. What is no file
    (a pipe, `/dev/stdout`) is written to as it is. Raises `ReportError` for what is no valid
    report, and `OSError`.

    >>> write(document, "streamperf.json")
    """
    try:
        data = _text(_checked(document)).encode("utf-8", "backslashreplace")  # a surrogate, as JSON
    except ReportError as error:
        msg = f"{os.fspath(path)} was not written: {error}"
        raise ReportError(msg) from None
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        target.write_bytes(data)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".streamperf-{secrets.token_hex(8)}")
    try:
        beside.write_bytes(data)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _text(document: Document) -> str:
    def dumps(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    entries = [f"{dumps(key)}: {dumps(document[key])}" for key in document if key != "checks"]
    checks = [dumps({key: check[key] for key in _KEYS_OF_A_CHECK}) for check in document["checks"]]
    entries.append('"checks": [' + "".join(f"\n{check}," for check in checks)[:-1] + "\n]")
    return "{\n" + ",\n".join(entries) + "\n}\n"


def merge(documents: Iterable[Document]) -> Document:
    """Make one report of several runs of one commit on one Python: the shards of a CI job.

    What ran adds up, and all has to be complete for the whole to be. A report that is given twice
    counts once. A check that is in two reports has to be the same in both: of a shard that ran
    again, nobody but its owner knows which run is to count, so one has to be left out. The
    environment is that of the run that began first; `differs` names what is not the same in all.
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
    _same_in_all(runs, "on", interpreter)
    commits = [run["commit"] for run in runs if run["commit"]]
    _same_in_all([run for run in runs if run["commit"]], "of", lambda run: run["commit"]["id"])
    return {
        "format": FORMAT,
        "version": VERSION,
        "complete": all(run["complete"] for run in runs),
        "started": min(run["started"] for run in runs),
        "took": sum(run["took"] for run in runs),
        "commit": {"id": commits[0]["id"], "dirty": any(commit["dirty"] for commit in commits)}
        if commits
        else None,
        "environment": _environment(runs),
        "noise": {
            "waited": _of_those_known(max, [run["noise"]["waited"] for run in runs]),
            "page_faults": _of_those_known(sum, [run["noise"]["page_faults"] for run in runs]),
        },
        "tests": sum(run["tests"] for run in runs),
        "lost": sorted({test for run in runs for test in run["lost"]}),
        "checks": _checks(runs),
    }


def _same_in_all(runs: Sequence[Document], word: str, fact: Callable[[Document], str]) -> None:
    for run in runs:
        if fact(run) != fact(runs[0]):
            one, other = (
                f"{word} {fact(each)} (begun {each['started']})" for each in (runs[0], run)
            )
            msg = f"one run is {one}, another {other}; these cannot be merged"
            raise ReportError(msg)


def _environment(runs: Sequence[Document]) -> dict[str, Any]:
    def plain(run: Document) -> dict[str, Any]:
        return {key: value for key, value in run["environment"].items() if key != "differs"}

    first = min(runs, key=lambda run: (run["started"], json.dumps(plain(run), sort_keys=True)))
    differs = {
        key for run in runs for key, value in plain(run).items() if value != plain(first)[key]
    }
    for run in runs:
        differs |= set(filter(None, run["environment"].get("differs", "").split(", ")))
    return plain(first) | ({"differs": ", ".join(sorted(differs))} if differs else {})


def _of_those_known(come_to: Callable[..., float], values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return come_to(known) if known else None


def _checks(runs: Sequence[Document]) -> list[dict[str, Any]]:
    found: dict[Key, tuple[Document, dict[str, Any]]] = {}
    for run in runs:
        for check in run["checks"]:
            earlier, same = found.setdefault(key_of(check), (run, check))
            if same != check:
                test, stem, number = key_of(check)
                msg = (
                    f"{test}: {stem} {number} is in two runs, begun {earlier['started']} and "
                    f"{run['started']}, and not the same in both; leave one of them out"
                )
                raise ReportError(msg)
    return [found[key][1] for key in sorted(found)]
