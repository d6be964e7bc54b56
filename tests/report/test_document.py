"""Tests of reports as files: read, validate, write and merge them.

A report is the JSON document of one run, and `schema.json` is its JSON Schema. An invalid report
raises `ReportError`. A shard is the report of one part of a CI job.
"""

import contextlib
import copy
import json
import os
import sys
from functools import reduce
from itertools import chain
from pathlib import Path

import jsonschema
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pytest_streamperf._report.document import key_of, merge, read, write
from pytest_streamperf._report.schema import _RULES, SCHEMA, violation
from pytest_streamperf.exceptions import ReportError
from tests.report_builders import ENVIRONMENT, a_check, a_report, reports

VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    """Return the path of a report in a folder of its own, for tests that write many reports."""
    return tmp_path_factory.mktemp("reports") / "run.json"


def _error_text(file, data):
    """Write `data` to the file, and return the error text of reading it, without the path."""
    file.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    with pytest.raises(ReportError) as raised:
        read(file)
    assert str(raised.value).startswith(f"{file}: ")
    return str(raised.value).removeprefix(f"{file}: ")


@given(report=reports)
def test_what_is_written_is_what_is_read(file, report):
    """A report that was written reads back equal, whatever texts it holds."""
    write(report, file)
    assert read(file) == report


def test_one_line_for_each_check(file):
    """A report file has one line for each check, so that its diff reads well."""
    one, other = a_check(number=1), a_check(number=2, headline="2\n3")
    write(a_report(one, other), file)
    lines = file.read_text(encoding="utf-8").split("\n")
    assert [json.loads(line.rstrip(",")) for line in lines if "test_reply" in line] == [one, other]
    assert '"tests": 500,' in lines


def test_a_report_that_is_cut_short(file):
    """A report file that is cut at any byte raises `ReportError` and no other exception."""
    write(a_report(a_check()), file)
    whole = file.read_bytes().rstrip()
    for end in range(len(whole)):
        _error_text(file, whole[:end])


@given(at=st.integers(0), byte=st.integers(0, 255))
def test_a_report_with_a_byte_that_is_another(file, at, byte):
    """A report with one changed byte is either valid or raises `ReportError`."""
    write(a_report(a_check()), file)
    data = bytearray(file.read_bytes())
    data[at % len(data)] = byte
    file.write_bytes(data)
    with contextlib.suppress(ReportError):
        assert VALIDATOR.is_valid(read(file))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "it is not JSON, or was cut short: Expecting value at line 1, column 1"),
        (b'{"a": "\xff"}', "it is not UTF-8: byte 7 is invalid"),
        (b"[" * 100_000, "it is nested more deeply than any report is"),
        (b"1" * 5000, "it has a number with too many digits: "),
        (
            [],
            "it is not a report of pytest-streamperf: $.format must be 'pytest-streamperf report'",
        ),
        ({"version": 1, "runs": []}, "it is not a report of pytest-streamperf"),
        (a_report(version=2), "$.version is 2, and this pytest-streamperf reads 1: update it"),
        (a_report(version=True), "$.version is True; it must be integer"),
        (a_report(took=float("nan")), "$.took is nan; it must be number"),
        (a_report(took=10**400), "$.took is 1000000"),
        (a_report(commit={"id": "HEAD", "dirty": False}), "$.commit.id is 'HEAD'; it must be text"),
        (a_report(a_check(number=0)), "$.checks[0].number is 0; it must be at least 1"),
        (
            a_report(a_check(verdict="fine")),
            "$.checks[0].verdict is 'fine'; it must be within or ex",
        ),
        (
            a_report(a_check(counts={"a b": "x"})),
            "$.checks[0].counts['a b'] is 'x'; it must be num",
        ),
        (a_report(a_check(speed=1)), "$.checks[0] has 'speed'; it can have test, stem, number"),
        (a_report({}), "$.checks[0] has no 'test'; it must have one"),
        (
            a_report(a_check(series={"allocated_bytes": [[1, 2]] * 65})),
            "$.checks[0].series.allocated_bytes is [[1",
        ),
        (
            a_report(a_check(), a_check()),
            "$.checks[1] has the test, stem and number of $.checks[0]",
        ),
    ],
)
def test_what_is_no_report(file, data, text):
    """The error for an invalid report names the file, the place, the value and the allowed ones."""
    assert _error_text(file, data).startswith(text)


def test_a_report_that_is_too_large(file):
    """A file of a terabyte raises an error that names the limit, and is not read to its end."""
    with file.open("wb") as large:
        large.truncate(10**12)
    with pytest.raises(ReportError, match="it has more than 64 MB, the limit"):
        read(file)
    file.unlink()


def test_an_error_is_short(file):
    """An error stays short, however long the wrong key and value in the report are."""
    text = _error_text(file, a_report(a_check(counts={"x" * 10**6: "y" * 10**6})))
    assert len(text) < 300


def _places(value, place=()):
    """Yield the path of a JSON value and of all values in it, as tuples of keys and indexes."""
    yield place
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        yield from chain.from_iterable(_places(part, (*place, key)) for key, part in parts)


PLACES = [place for place in _places(a_report(a_check(), a_check(number=2))) if place]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(
    place=st.sampled_from(PLACES),
    change=st.sampled_from(["replace", "remove", "double", "add"]),
    key=st.sampled_from(["differs", "test", "x"]) | st.text(max_size=3),
    value=ANYTHING,
)
@example(place=("checks", 0, "series", "allocated_bytes"), change="double", key="", value=[1, 2])
@example(place=("checks", 1, "series", "allocated_bytes", 0), change="add", key="", value=1)
@settings(max_examples=200)
def test_what_the_schema_says_is_what_a_library_says_it_does(place, change, key, value):
    """The validator agrees with the `jsonschema` package on reports with one random change."""
    report = copy.deepcopy(a_report(a_check(), a_check(number=2)))
    *parents, last = place
    inside = reduce(lambda value, step: value[step], parents, report)
    if change == "replace":
        inside[last] = value
    elif change == "remove":
        del inside[last]
    elif isinstance(inside[last], list):
        inside[last] *= 65 if change == "double" else 1
        inside[last].append(value)
    else:
        assume(isinstance(inside[last], dict))
        inside[last][key] = value
    first = violation(report)
    expected = {_path_text(error.absolute_path) for error in VALIDATOR.iter_errors(report)}
    assert (first is None) == (not expected)
    if first:
        assert first[0] in expected


def _path_text(path):
    return "".join(
        f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{step!r}]"
        for step in path
    )


def test_the_schema_has_only_keywords_that_are_checked():
    """The schema uses only keywords that the validator checks, or that have no effect."""
    VALIDATOR.check_schema(SCHEMA)
    checked = {*_RULES, "$ref", "items", "properties", "additionalProperties", "required"}
    without_effect = {"$schema", "$defs", "title", "description"}

    def schemas(schema):
        yield schema
        inner = [schema.get("items"), schema.get("additionalProperties")]
        inner += [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
        for subschema in inner:
            if isinstance(subschema, dict):
                yield from schemas(subschema)

    assert {keyword for schema in schemas(SCHEMA) for keyword in schema} <= checked | without_effect


# -- writing


def test_what_is_no_report_is_not_written(file):
    """A refused report leaves the existing file unchanged, and no other file."""
    write(a_report(), file)
    before = file.read_bytes()
    with pytest.raises(
        ReportError, match=r"run.json was not written: \$.tests is -1; it must be at"
    ):
        write(a_report(tests=-1), file)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_a_disk_that_fails(file, monkeypatch):
    """A full disk leaves the existing file unchanged, and no other file."""
    write(a_report(), file)
    before = file.read_bytes()

    def failing(path, data):
        with path.open("wb") as half:
            half.write(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", failing)
    with pytest.raises(OSError, match="No space left"):
        write(a_report(tests=1), file)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_a_folder_that_is_not_there(tmp_path):
    """A missing folder is created, so that the report of a long run is not lost."""
    write(a_report(), tmp_path / "reports" / "today" / "run.json")
    assert read(tmp_path / "reports" / "today" / "run.json") == a_report()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX has these")
def test_what_is_no_file_is_not_replaced_by_one(tmp_path):
    """A link stays a link to its target, and a pipe receives the report."""
    (tmp_path / "link.json").symlink_to(tmp_path / "there.json")
    write(a_report(), tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write(a_report(), tmp_path / "pipe")
    assert os.read(reader, 10**5) == (tmp_path / "there.json").read_bytes()
    os.close(reader)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX has these")
def test_who_may_read_a_report(tmp_path):
    """A report file has the same permissions as any new file of the user."""
    (tmp_path / "any").touch()
    write(a_report(), tmp_path / "run.json")
    assert (tmp_path / "run.json").stat().st_mode == (tmp_path / "any").stat().st_mode


# -- merging


def _keys(report):
    return [key_of(check) for check in report["checks"]]


@st.composite
def _shards(draw):
    """Return reports without a common check."""
    used_keys, shards = set(), []
    for index, report in enumerate(draw(st.lists(reports, min_size=1, max_size=4))):
        own_checks = [check for check in report["checks"] if key_of(check) not in used_keys]
        used_keys.update(map(key_of, own_checks))
        shards.append(report | {"checks": own_checks, "tests": 10_000 * index + report["tests"]})
    return shards


@given(shards=_shards())
def test_merging_loses_and_doubles_nothing(shards):
    """A merged report has every check once, in order, and the sums of tests and durations."""
    merged = merge(shards)
    assert violation(merged) is None
    assert _keys(merged) == sorted(key for shard in shards for key in _keys(shard))
    assert all(check in merged["checks"] for shard in shards for check in shard["checks"])
    assert merged["tests"] == sum(shard["tests"] for shard in shards)
    assert merged["took"] == sum(shard["took"] for shard in shards)
    assert merged["complete"] == all(shard["complete"] for shard in shards)
    assert set(merged["lost"]) == {test for shard in shards for test in shard["lost"]}


@given(shards=_shards(), data=st.data())
def test_merging_in_any_order_and_in_any_groups(shards, data):
    """Reports merge into the same report in any order and in any groups."""
    shuffled = data.draw(st.permutations(shards))
    cut = data.draw(st.integers(1, len(shuffled)))
    groups = [merge(shuffled[:cut]), *([merge(shuffled[cut:])] if shuffled[cut:] else [])]
    assert merge(groups) == merge(shards)


def test_a_report_that_is_given_twice():
    """A report that is given twice counts once: two patterns may match the same file."""
    assert merge([a_report(a_check()), a_report(a_check())]) == a_report(a_check())


def test_a_check_that_two_runs_have():
    """An equal check of two runs is merged; a different one is an error that names both runs."""
    later = a_report(a_check(), started="2026-11-22T20:00:00+00:00")
    assert merge([a_report(a_check()), later])["checks"] == [a_check()]
    later["checks"][0]["seconds"] = {"longest gap": 0.3}
    with pytest.raises(ReportError) as raised:
        merge([a_report(a_check()), later])
    assert str(raised.value) == (
        "tests/test_chat.py::test_reply: growth 1 differs between two runs, begun "
        "2026-11-22T19:40:00+00:00 and 2026-11-22T20:00:00+00:00; leave one of the reports out"
    )


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (a_report(commit={"id": "ab" * 20, "dirty": False}), "one run is of 1234567890.* of abab"),
        (a_report(python="3.12.1"), "one run is on CPython 3.11 .*, another on CPython 3.12 "),
    ],
)
def test_runs_that_cannot_be_merged(other, text):
    """Runs of two commits or of two Python versions cannot be merged, and neither can no runs."""
    with pytest.raises(ReportError, match=text):
        merge([a_report(), other])
    with pytest.raises(ReportError, match="there is no report to merge"):
        merge([])


def test_runs_on_different_machines():
    """A merged report has the environment of the first run, and names the facts that differ."""
    later = a_report(environment=ENVIRONMENT | {"cores": 8, "machine": "arm64"})
    later["started"] = "2026-11-22T20:00:00+00:00"
    assert merge([later, a_report()])["environment"] == ENVIRONMENT | {"differs": "cores, machine"}


def test_what_is_not_known_of_every_run():
    """A merged report takes a commit and noise from the runs that know them.

    One run with changed files makes the merged report dirty.
    """
    commit = {"id": "ab" * 20, "dirty": False}
    runs = [
        a_report(commit=None, noise={"waited": None, "page_faults": None}),
        a_report(commit=commit, noise={"waited": 0.1, "page_faults": 5}),
        a_report(commit=commit | {"dirty": True}, noise={"waited": 0.3, "page_faults": 6}),
    ]
    merged = merge(runs)
    assert merged["commit"] == commit | {"dirty": True}
    assert merged["noise"] == {"waited": 0.3, "page_faults": 11}
    assert merge(runs[:1])["noise"] == {"waited": None, "page_faults": None}
