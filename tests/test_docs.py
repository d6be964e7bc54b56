"""The documentation: every block of code works, and every argument is on its page.

The tests cover README.md and all pages in docs/: blocks of Python, TOML and YAML, command lines,
and the arguments of public functions.
"""

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
# Blocks of code in pages import this lesson as `agent`, for its `Reply`.
LESSON = Path(demo.HERE, "02_throttling", "test_throttling_good.py").read_text(encoding="utf-8")
COMMANDS = set(_cli._COMMANDS)


class Block(NamedTuple):
    """A block of code in a page; `where` is the page and the number of the block's first line."""

    where: str
    code: str


def _blocks(page, language):
    """Return the blocks of code of a page that are in one language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(f"{page}:{text.count(chr(10), 0, match.start(1)) + 1}", match[1])
        for match in re.finditer(
            rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL
        )
    ]


PAGES = [
    "README.md",
    *(page.relative_to(ROOT).as_posix() for page in sorted((ROOT / "docs").rglob("*.md"))),
]
# The first test in the README, which fails on purpose.
README_TEST = _blocks("README.md", "python")[0]


def _all_blocks(language):
    return [block for page in PAGES for block in _blocks(page, language)]


def _place(block):
    return block.where


def _is_test(code):
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        for node in ast.parse(code).body
    )


def test_the_readme_opens_with_what_really_happens(pytester, run_alone):
    """The README's first test fails on a quadratic `Reply` with the message that the README shows.

    Memory sizes and times may differ.
    """
    shown = _blocks("README.md", "text")[0]
    reply = "class Reply:\n    def __init__(self):\n        self.text = ''\n\n"
    reply += "    def feed(self, delta):\n        self.text += delta\n"
    pytester.makepyfile(test_reply=README_TEST.code, agent=reply)
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
    assert len(list(filter(str.strip, README_TEST.code.splitlines()))) < 10


@pytest.mark.parametrize(
    "block",
    [block for block in _all_blocks("python") if block != README_TEST and _is_test(block.code)],
    ids=_place,
)
def test_every_test_that_is_shown_passes(block, pytester, run_alone):
    """Every test in the documentation passes without warnings, with the lesson's `Reply`."""
    pytester.makepyfile(block.code, agent=LESSON)
    outcomes = run_alone("-W", "error").parseoutcomes()
    assert outcomes.pop("passed") >= 1
    assert not outcomes


@pytest.mark.parametrize(
    "block", [block for block in _all_blocks("python") if not _is_test(block.code)], ids=_place
)
def test_everything_else_that_is_shown_runs(block, pytester):
    """Every other block of Python in the documentation runs as a script, without warnings."""
    script = pytester.makepyfile(shown=block.code)
    assert pytester.run(sys.executable, "-W", "error", script).ret == 0


def test_the_readme_is_short():
    """The README has fewer than 200 lines."""
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("\n") < 200


@pytest.mark.parametrize("block", _all_blocks("toml"), ids=_place)
def test_settings_that_are_shown_are_settings(block, tmp_path):
    """Every block of TOML in the documentation has valid settings for `[tool.streamperf]`."""
    assert "tool" in tomllib.loads(block.code)
    file = tmp_path / "pyproject.toml"
    file.write_text(block.code, encoding="utf-8")
    read_policy(file)


def test_warnings_can_be_errors_but_for_ours(pytester, run_alone):
    """The filter in docs/budgets.md makes warnings errors, except those of the plugin."""
    (shown,) = [block for block in _blocks("docs/budgets.md", "toml") if "filterw" in block.code]
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
    """Return each YAML block with its schema's name; only GitLab's files begin with `stages:`."""
    return [
        pytest.param(
            block.code,
            "gitlab-ci" if block.code.startswith("stages:") else "github-workflows",
            id=block.where,
        )
        for block in _all_blocks("yaml")
    ]


@pytest.mark.parametrize(("code", "schema"), _recipes())
def test_a_recipe_is_what_its_service_takes(code, schema, tmp_path):
    """A CI recipe follows the schema of its service, and its jobs need only jobs that exist."""
    file = tmp_path / "recipe.yml"
    file.write_text(code, encoding="utf-8")
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    result = subprocess.run([*check, str(file)], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
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
    """GitHub and GitLab have two recipes each."""
    schemas = [recipe.values[1] for recipe in _recipes()]
    assert schemas == ["github-workflows"] * 2 + ["gitlab-ci"] * 2


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_are_shown_are_commands(page):
    """Every `streamperf` command line in the documentation starts with an existing command."""
    text = (ROOT / page).read_text(encoding="utf-8")
    typed = re.findall(r"(?:^\s*(?:- )?|`)streamperf ([^`\n]*)", text, flags=re.MULTILINE)
    assert {words.split()[0] for words in typed if words} <= COMMANDS
    assert all(shlex.split(words) for words in typed)


# -- arguments

# Each page in docs/, with a function or class that it documents.
DOCUMENTED = [
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
# Pages describe these arguments in sentences, not in code style.
ARGUMENTS_IN_SENTENCES = {"self", "consume", "server", "test", "arguments"}


@pytest.mark.parametrize(
    ("page", "function"),
    [pytest.param(page, function, id=function.__qualname__) for page, function in DOCUMENTED],
)
def test_every_argument_is_told(page, function):
    """The page of a public function has each of its arguments in code style."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    codes = re.findall(r"`([^`\n]+)`", text)
    code_words = {word for code in codes for word in re.findall(r"\w+", code)}
    names = set(inspect.signature(function).parameters)
    if "arguments" in names:
        names |= GrowthArguments.__annotations__.keys()
    assert names - ARGUMENTS_IN_SENTENCES <= code_words
