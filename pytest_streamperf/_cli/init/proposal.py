"""Write the text of a first test file and of its budgets.

Candidates of one module go in; a `Proposal` comes out. A candidate with doubts gets TODO comments
in its test. The proposed table sets `mode = "warn"`, so that adopting it fails no test.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import wrap
from typing import NamedTuple


class _Check(NamedTuple):
    """A kind of check: its question, the ending of a test's name, and the extra that it needs."""

    question: str
    test_suffix: str
    extra: str = ""


CHECKS = {
    "growth": _Check("is the work linear?", "is_linear"),
    "throttling": _Check("how often does the callback run?", "is_throttled"),
    "responsiveness": _Check("does the event loop stay free?", "leaves_the_loop_free"),
    "server": _Check(
        "does the app survive disconnects and bad requests?", "survives", "pytest-streamperf[serve]"
    ),
    "network": _Check("does the code attempt network access?", "fetches_nothing_under_test"),
}
IGNORES, IGNORES_ASYNC = "lambda *_: None", "ignore_it"
"""Stubs that a test passes as a callback; the proposed test file defines `ignore_it`."""

_IGNORE_IT = "async def ignore_it(*_):\n    pass"
# Text in a test, and the import line that it needs. isort keeps the two groups apart.
_STANDARD_IMPORTS = {"asyncio.": "import asyncio"}
_OTHER_IMPORTS = {
    "@pytest.": "import pytest",
    "assert_fetch_is_gated(": "from pytest_streamperf import assert_fetch_is_gated",
    "assert_survives(": "from pytest_streamperf.server import Request, assert_survives",
}
# Names that the proposed tests use themselves; an import of the same name gets a prefix.
_RESERVED_NAMES = {
    "stream",
    "delta",
    "show",
    "flushes",
    "consume",
    "main",
    "watch",
    "subject",
    "ignore_it",
}
_RESERVED_NAMES |= {
    "asyncio",
    "pytest",
    "Request",
    "assert_survives",
    "assert_fetch_is_gated",
    "assert_linear",
}
_RESERVED_NAMES |= {
    "virtual_clock",
    "token_stream",
    "update_counter",
    "flush_counter",
    "stall_watch",
}
# Not measured: no reason is on record. It bounds the name of the code in the name of a test.
_MAX_NAME_CHARACTERS = 40
# A TODO comment, indented by 4, ends before column 80.
_COMMENT_COLUMNS = 71


class Candidate(NamedTuple):
    """A check that a module can get, with the body of its test and its budgets.

    `doubts` list the gaps that the user has to fill; without doubts the test is complete. `name` is
    the qualified name of the code, and empty for the module itself. `uses` is the name that the
    test imports from the module, and `mark` is the decorator of the test.
    """

    check: str
    name: str
    line: int
    score: int
    why: str
    body: Sequence[str]
    doubts: Sequence[str]
    fixtures: Sequence[str] = ()
    uses: str = ""
    budgets: Mapping[str, str] = {}
    mark: str = ""

    def matches(self, name: str) -> bool:
        """Return whether the candidate has this name or is a member of it; "" matches all."""
        return not name or self.name == name or self.name.startswith(f"{name}.")


class Proposal(NamedTuple):
    """The text of a test file, the table for `pyproject.toml`, and the doubts about both."""

    test: str
    table: str
    doubts: Sequence[str]


def indented_block(head: str, body: Iterable[str]) -> list[str]:
    """Return the lines of a compound statement with an indented body.

    >>> indented_block("for delta in stream:", ["print(delta)"])
    ['for delta in stream:', '    print(delta)']
    """
    return [head, *(f"    {line}" if line else "" for line in body)]


def imported_name(name: str) -> str:
    """Return the name under which a test imports `name`, with a prefix where it is reserved.

    >>> spoken("Reply"), imported_name("stream")
    ('Reply', 'the_stream')
    """
    return f"the_{name}" if name in _RESERVED_NAMES else name


def best_candidates(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the best candidate of each kind without doubts, or else the first candidate.

    The candidates come in their order, the best first.

    >>> best_candidates([])
    []
    """
    best = {candidate.check: candidate for candidate in reversed(candidates)}.values()
    certain = [candidate for candidate in candidates if candidate in best and not candidate.doubts]
    return certain or [*candidates[:1]]


def proposal(module: str, candidates: Sequence[Candidate], doubts: Sequence[str]) -> Proposal:
    """Return the test file and the budgets for candidates of one module.

    `doubts` are those about the import of the module.
    """
    tests = "\n\n\n".join("\n".join(_test(candidate, module)) for candidate in candidates)
    if IGNORES_ASYNC in tests:
        tests = f"{_IGNORE_IT}\n\n\n{tests}"
    head = "\n\n".join(_head(module, candidates, tests, doubts))
    lines = ["[tool.streamperf]", 'mode = "warn"']  # adopting the plugin fails no test
    budgets = {key: value for candidate in candidates for key, value in candidate.budgets.items()}
    if budgets:
        lines += ["", "[tool.streamperf.budgets]"]
    lines += [f"{key} = {value}" for key, value in budgets.items()]
    about_code = dict.fromkeys(doubt for candidate in candidates for doubt in candidate.doubts)
    return Proposal(
        test=f"{head}\n\n\n{tests}\n",
        table="\n".join(lines) + "\n",
        doubts=[*doubts, *about_code],
    )


def _test(candidate: Candidate, module: str) -> Iterator[str]:
    """Yield the lines of a test; TODO comments for its doubts come before its body."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|\.", "_", candidate.name or module).lower()
    name = re.sub("_+", "_", words)[:_MAX_NAME_CHARACTERS].strip("_") or "it"
    if candidate.mark:
        yield candidate.mark
    head = (
        f"def test_{name}_{CHECKS[candidate.check].test_suffix}({', '.join(candidate.fixtures)}):"
    )
    yield from indented_block(head, [*_todo(candidate.doubts), *candidate.body])


def _todo(doubts: Iterable[str]) -> list[str]:
    """Return one wrapped TODO comment for each doubt."""
    comments = (
        wrap(f"# TODO: {doubt}", _COMMENT_COLUMNS, subsequent_indent="#   ") for doubt in doubts
    )
    return [line for lines in comments for line in lines]


def _head(
    module: str, candidates: Sequence[Candidate], tests: str, doubts: Sequence[str]
) -> Iterator[str]:
    """Yield the docstring and the groups of imports at the head of a test file."""
    yield f'"""Streaming budgets of {module}."""'
    names = sorted({candidate.uses for candidate in candidates} - {""})
    imports = [
        name if imported_name(name) == name else f"{name} as {imported_name(name)}"
        for name in names
    ]
    own_imports = [f"from {module} import {', '.join(imports)}"] if imports else []
    for lines in (
        [line for word, line in _STANDARD_IMPORTS.items() if word in tests],
        [line for word, line in _OTHER_IMPORTS.items() if word in tests],
        [*_todo(doubts), *own_imports],
    ):
        if lines:
            yield "\n".join(lines)
