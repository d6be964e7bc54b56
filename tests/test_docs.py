"""What is written for people: every block of code runs, and every argument is told."""

import ast
import inspect
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from ruamel.yaml import YAML

import pytest_streamperf
from examples import demo
from pytest_streamperf import _cli, server
from pytest_streamperf.budgets.declaration import read_policy
from pytest_streamperf.growth import chunking_invariance
from pytest_streamperf.growth.options import GrowthArguments

ROOT = Path(demo.HERE.parent)
LESSON = Path(demo.HERE, "02_throttling", "test_throttling_good.py").read_text(encoding="utf-8")
COMMANDS = set(_cli._COMMANDS)


class Block(NamedTuple):
    """A block of code in a page: where it is, by the number of its first line, and what it says."""

    where: str
    code: str


def _blocks(page, language):
    """The blocks of a page that are in one language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(f"{page}:{text.count(chr(10), 0, found.start(1)) + 1}", found[1])
        for found in re.finditer(
            rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL
        )
    ]


PAGES = [
    "README.md",
    *(page.relative_to(ROOT).as_posix() for page in sorted((ROOT / "docs").rglob("*.md"))),
]
MESSAGE = _blocks("README.md", "python")[0]


def _all(language):
    return [block for page in PAGES for block in _blocks(page, language)]


def _where(block):
    return block.where


def _is_test(code):
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        for node in ast.parse(code).body
    )


def test_the_readme_opens_with_what_really_happens(pytester, run_alone):
    """Its first test, on a quadratic Reply, fails with the message it shows; figures float."""
    shown = _blocks("README.md", "text")[0]
    reply = "class Reply:\n    def __init__(self):\n        self.text = ''\n\n"
    reply += "    def feed(self, delta):\n        self.text += delta\n"
    pytester.makepyfile(test_reply=MESSAGE.code, agent=reply)
    printed = run_alone().stdout.str()
    expected = [
        re.sub(
            r"[\d.]+ kB",
            "<0..1000> kB",
            re.sub(r"[\d.]+ (us|ms|s)\b", "<0..90 s>", line[1:].strip()),
        )
        for line in shown.code.splitlines()
    ]
    assert list(demo.differences(expected, printed)) == []
    assert len(list(filter(str.strip, MESSAGE.code.splitlines()))) < 10


@pytest.mark.parametrize(
    "block",
    [each for each in _all("python") if each != MESSAGE and _is_test(each.code)],
    ids=_where,
)
def test_every_test_that_is_shown_passes(block, pytester, run_alone):
    """In a project of its own; the `Reply` that it asks for is the lesson's."""
    pytester.makepyfile(block.code, agent=LESSON)
    outcomes = run_alone("-W", "error").parseoutcomes()
    assert outcomes.pop("passed") >= 1
    assert not outcomes


@pytest.mark.parametrize(
    "block", [each for each in _all("python") if not _is_test(each.code)], ids=_where
)
def test_everything_else_that_is_shown_runs(block, pytester):
    """As a script, in a folder of its own."""
    script = pytester.makepyfile(shown=block.code)
    assert pytester.run(sys.executable, "-W", "error", script).ret == 0


def test_the_readme_is_short():
    """Under 200 lines."""
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("\n") < 200


@pytest.mark.parametrize("block", _all("toml"), ids=_where)
def test_settings_that_are_shown_are_settings(block, tmp_path):
    """What is in `[tool.streamperf]` is read without a complaint."""
    assert "tool" in tomllib.loads(block.code)
    file = tmp_path / "pyproject.toml"
    file.write_text(block.code, encoding="utf-8")
    read_policy(file)


def test_warnings_can_be_errors_but_for_ours(pytester, run_alone):
    """By the filter that is shown."""
    (shown,) = [each for each in _blocks("docs/budgets.md", "toml") if "filterw" in each.code]
    pytester.makepyprojecttoml(f'[tool.streamperf]\nmode = "warn"\n{shown.code}')
    pytester.makepyfile("""
        def test_too_often(update_counter):
            show = update_counter()
            show("a")
            show("ab")
            show.assert_throttled(every=100)
        """)
    run_alone().assert_outcomes(passed=1, warnings=1)


# -- recipes


def _recipes():
    """Each with the schema that it is held to: GitLab's files have stages, GitHub's have none."""
    return [
        pytest.param(
            block.code,
            "gitlab-ci" if block.code.startswith("stages:") else "github-workflows",
            id=block.where,
        )
        for block in _all("yaml")
    ]


@pytest.mark.parametrize(("code", "schema"), _recipes())
def test_a_recipe_is_what_its_service_takes(code, schema, tmp_path):
    """By the schema of the service; and a job waits only for jobs that there are."""
    file = tmp_path / "recipe.yml"
    file.write_text(code, encoding="utf-8")
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    found = subprocess.run([*check, str(file)], check=False, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
    recipe = YAML(typ="safe").load(code)
    jobs = recipe.get("jobs", recipe)
    needed = [
        need
        for job in jobs.values()
        if isinstance(job, dict)
        for need in ([job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", []))
    ]
    assert set(needed) <= set(jobs)


def test_both_services_have_a_recipe_with_and_without_shards():
    """Two for each."""
    schemas = [recipe.values[1] for recipe in _recipes()]
    assert schemas == ["github-workflows"] * 2 + ["gitlab-ci"] * 2


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_are_shown_are_commands(page):
    """Of `streamperf ...`, whatever is typed, in a recipe or in a sentence."""
    text = (ROOT / page).read_text(encoding="utf-8")
    typed = re.findall(r"(?:^\s*(?:- )?|`)streamperf ([^`\n]*)", text, flags=re.MULTILINE)
    assert {words.split()[0] for words in typed if words} <= COMMANDS
    assert all(shlex.split(words) for words in typed)


# -- arguments

# The page that tells of it, and what is told of.
TOLD = [
    ("growth", pytest_streamperf.assert_linear),
    ("growth", pytest_streamperf.measure_growth),
    ("throttling", pytest_streamperf.UpdateCounter),
    ("throttling", pytest_streamperf.UpdateCounter.assert_throttled),
    ("throttling", pytest_streamperf.FlushCounter),
    ("throttling", pytest_streamperf.FlushCounter.assert_coalesced),
    ("throttling", pytest_streamperf.assert_test_detects),
    ("responsiveness", pytest_streamperf.StallWatch),
    ("responsiveness", pytest_streamperf.StallWatch.assert_smooth),
    ("network", pytest_streamperf.FetchGuard),
    ("network", pytest_streamperf.assert_fetch_is_gated),
    ("network", pytest_streamperf.assert_same_requests),
    ("network", pytest_streamperf.assert_order_independent),
    ("streams", pytest_streamperf.TokenStream),
    ("streams", pytest_streamperf.TokenStream.tool_call),
    ("streams", chunking_invariance.assert_chunking_invariant),
    *(
        ("server", getattr(server, name))
        for name in sorted(vars(server))
        if name.startswith("assert_")
    ),
]
# They are what is checked, and are told of in sentences.
SUBJECTS = {"self", "consume", "server", "test", "arguments"}


@pytest.mark.parametrize(
    ("page", "told"), [pytest.param(*each, id=each[1].__qualname__) for each in TOLD]
)
def test_every_argument_is_told(page, told):
    """On the page of its stem, in code."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    said = {word for code in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"\w+", code)}
    names = set(inspect.signature(told).parameters)
    if "arguments" in names:
        names |= GrowthArguments.__annotations__.keys()
    assert names - SUBJECTS <= said
