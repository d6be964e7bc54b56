"""Test the files, the output and the exit status of the commands of `streamperf`."""

import io
import json
import sys
from pathlib import Path

import pytest

from pytest_streamperf._cli import main
from pytest_streamperf._report.document import read, write
from tests.report_builders import a_check, a_report


@pytest.fixture(autouse=True)
def _somewhere(tmp_path, monkeypatch):
    """Change to a folder with two reports; one check of the second got worse."""
    monkeypatch.chdir(tmp_path)
    write(a_report(a_check(), a_check("test_b")), "base.json")
    worse = a_check("test_b", counts={"copied": 10**6, "calls": 40_000})
    write(a_report(a_check(), worse), "head.json")


@pytest.mark.parametrize("kind", ["table", "markdown", "json"])
def test_compare_says_what_got_worse(kind, capsys):
    """Each format shows the check that got worse, and only `--fail` makes the status 1."""
    assert main(["compare", "base.json", "head.json", "--format", kind]) == 0
    assert main(["compare", "base.json", "head.json", "--format", kind, "--fail"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("test_b") == 2
    assert ("1 of 2 checks got worse" in printed) == (kind != "json")


def test_compare_where_nothing_got_worse(capsys):
    """A lower count is better, so `compare --fail` exits with 0."""
    assert main(["compare", "head.json", "base.json", "--fail"]) == 0
    assert capsys.readouterr().out.startswith("None of 2 checks got worse, 1 better, 1 the same")


def test_compare_with_a_run_that_lost_a_check():
    """A lost check makes `compare --fail` exit with 1, and `compare` with 0."""
    write(a_report(a_check(), complete=False), "head.json")
    assert main(["compare", "base.json", "head.json"]) == 0
    assert main(["compare", "base.json", "head.json", "--fail"]) == 1


@pytest.mark.parametrize(
    ("checks", "why"),
    [
        ([], "they have no check in common"),
        ([a_check("test_other")], "they have no check in common"),
        ([a_check(given={"up_to": 5})], "none can be compared: up_to was 20000 and is 5"),
    ],
)
def test_compare_what_cannot_be(checks, why, capsys):
    """Two reports without a comparable check make `compare` exit with 2."""
    write(a_report(*checks), "head.json")
    assert main(["compare", "base.json", "head.json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"streamperf compare: base.json and head.json: {why}\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["compare", "gone.json", "head.json"], "gone.json: No such file or directory"),
        (["compare", "base.json", "."], ".: Is a directory"),
        (["compare", "base.json", "bad.json"], "bad.json: it is not a report of pytest-stream"),
        (["merge", "base.json", "bad.json", "--out", "all.json"], "bad.json: it is not a report"),
        (
            ["merge", "base.json", "head.json", "--out", "all.json"],
            "test_b: growth 1 differs between two",
        ),
        (["baseline", "bad.json"], "bad.json: it is not a report of pytest-streamperf"),
        (["baseline", "base.json", "--file", "bad.json"], "bad.json: it is not a report"),
        (["baseline", "half.json"], "half.json: the report is incomplete; a baseline from"),
        (["baseline", "none.json"], "none.json: the report has no checks; a baseline"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX says so")
def test_what_is_wrong_with_a_file_is_one_line(words, why, capsys):
    """An invalid file gives a one-line error and the exit status 2, and no file is written."""
    Path("bad.json").write_text("{}", encoding="utf-8")
    write(a_report(complete=False), "half.json")
    write(a_report(), "none.json")
    before = sorted(Path().iterdir())
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"streamperf {words[0]}: {why}")
    assert captured.err.count("\n") == 1
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("words", [["compare"], ["compare", "a", "b", "--format", "xml"], ["x"]])
def test_how_it_was_called(words, capsys):
    """An invalid command line prints the usage and exits with 2."""
    with pytest.raises(SystemExit) as exit_info:
        main(words)
    assert exit_info.value.code == 2
    assert "usage: streamperf" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["compare", "merge", "baseline"])
def test_every_command_says_how_it_is_called(command, capsys):
    """The option --help of each command prints its usage and exits with 0."""
    with pytest.raises(SystemExit) as exit_info:
        main([command, "--help"])
    assert exit_info.value.code == 0
    assert f"usage: streamperf {command}" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["table", "markdown", "json"])
def test_control_characters_do_not_reach_the_terminal(kind, capsys):
    """Control characters in reports and file names are printed as escapes."""
    test = "test_\x1b[2J\r\n\u202e\ud800"
    write(a_report(a_check(test)), "base.json")
    write(a_report(a_check(test, verdict="exceeded", headline="\x07\x1b]0;\x9b")), "head.json")
    assert main(["compare", "base.json", "head.json", "--format", kind]) == 0
    assert main(["compare", "base.json", "\x1b[31m"]) == 2
    captured = capsys.readouterr()
    assert all(line.isprintable() for line in (captured.out + captured.err).split("\n"))
    assert "test_\\" in captured.out


@pytest.mark.parametrize("words", [["compare", "base.json", "head.json"], ["report", "head.json"]])
def test_a_terminal_that_shows_ascii_only(words, monkeypatch):
    """A terminal with an ASCII encoding gets escapes for other characters."""
    for name, updates in (("base.json", 1), ("head.json", 2)):
        write(a_report(a_check("test_\N{SNOWMAN}", counts={"updates": updates})), name)
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(words) == 0
    stdout.flush()
    assert b"\\u2603" in stdout.buffer.getvalue()


def test_merge_makes_one_report(capsys):
    """The command merge writes the checks of all reports, and counts a repeated report once."""
    write(a_report(a_check("test_c"), complete=False, tests=7), "more.json")
    assert main(["merge", "base.json", "more.json", "base.json", "--out", "new/all.json"]) == 0
    merged = read("new/all.json")
    assert [check["test"] for check in merged["checks"]] == sorted(
        ["test_b", "test_c", a_check()["test"]]
    )
    assert capsys.readouterr().out == (
        "new/all.json: 3 checks of 507 tests, from 3 reports; "
        "incomplete, because a run did not finish\n"
    )


def test_a_baseline_is_made_kept_and_updated(capsys):
    """The command baseline prints changes, and leaves the file alone if no check changed."""
    assert main(["baseline", "base.json"]) == 0
    file = Path("streamperf-baseline.json")
    first = file.read_text(encoding="utf-8")
    assert json.loads(first)["checks"][0]["picture"] == []
    write(a_report(a_check(), a_check("test_b"), started="2027-01-01T00:00:00+00:00"), "base.json")
    assert main(["baseline", "base.json"]) == 0
    assert file.read_text(encoding="utf-8") == first
    assert main(["baseline", "head.json"]) == 0
    second = file.read_text(encoding="utf-8")
    lines = zip(first.splitlines(), second.splitlines(), strict=True)
    assert [one.split('"')[3] for one, other in lines if one != other] == ["test_b"]
    printed = capsys.readouterr().out
    assert printed.startswith(
        "streamperf-baseline.json: created, 2 checks\n"
        "streamperf-baseline.json: unchanged, 2 checks\n"
        "streamperf-baseline.json: updated, 2 checks\n"
    )
    assert "copied  51,200 -> 1,000,000" in printed
