"""What is proposed: the text of a first test, and of a budget."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import wrap
from typing import NamedTuple


class _Check(NamedTuple):
    """What a kind of check asks, what a test with it says, and what that needs."""

    asks: str
    says: str
    needs: str = ""


CHECKS = {
    "growth": _Check("is the work linear?", "is_linear"),
    "throttling": _Check("how often is it updated?", "is_throttled"),
    "responsiveness": _Check("does the event loop stay free?", "leaves_the_loop_free"),
    "server": _Check("does it survive what clients do?", "survives", "pytest-streamperf[serve]"),
    "network": _Check("who reaches for the network?", "fetches_nothing_under_test"),
}
IGNORES, IGNORES_ASYNC = "lambda *_: None", "ignore_it"
"""What to give where a callback is taken: the second is defined beside the tests."""

_IGNORE_IT = "async def ignore_it(*_):\n    pass"
# What a test says, and what is imported for it: the standard library, and all else.
_STANDARD = {"asyncio.": "import asyncio"}
_OTHERS = {
    "@pytest.": "import pytest",
    "assert_fetch_is_gated(": "from pytest_streamperf import assert_fetch_is_gated",
    "assert_survives(": "from pytest_streamperf.server import Request, assert_survives",
}
# Names that the tests use themselves.
_TAKEN = {"stream", "delta", "show", "flushes", "consume", "main", "watch", "subject", "ignore_it"}
_TAKEN |= {
    "asyncio",
    "pytest",
    "Request",
    "assert_survives",
    "assert_fetch_is_gated",
    "assert_linear",
}
_TAKEN |= {"virtual_clock", "token_stream", "update_counter", "flush_counter", "stall_watch"}
_LONGEST_NAME = 40
_WIDTH = 71


class Candidate(NamedTuple):
    """Something to test: what it is, where, the lines of its test, and the budgets for that.

    `doubts` are what has to be filled in by somebody who knows; without any, the test is right as
    it stands. `name` is what is looked for, and empty for the module; `uses` is what is imported
    from the module, and `mark` what stands above the test.
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

    def is_asked_for(self, name: str) -> bool:
        """Whether it is what has this name, or belongs to it."""
        return not name or self.name == name or self.name.startswith(f"{name}.")


class Proposal(NamedTuple):
    """The text of a test file and of a table for `pyproject.toml`, and what is not sure of them."""

    test: str
    table: str
    doubts: Sequence[str]


def within(head: str, body: Iterable[str]) -> list[str]:
    """A compound statement of a test.

    >>> within("for delta in stream:", ["print(delta)"])
    ['for delta in stream:', '    print(delta)']
    """
    return [head, *(f"    {each}" if each else "" for each in body)]


def spoken(name: str) -> str:
    """What a test calls what it imports.

    >>> spoken("Reply"), spoken("stream")
    ('Reply', 'the_stream')
    """
    return f"the_{name}" if name in _TAKEN else name


def chosen(found: Sequence[Candidate]) -> list[Candidate]:
    """The best of each kind of check, of those that are sure; the very best if none is.

    >>> chosen([])
    []
    """
    best = {each.check: each for each in reversed(found)}.values()
    return [each for each in found if each in best and not each.doubts] or [*found[:1]]


def proposal(module: str, found: Sequence[Candidate], doubts: Sequence[str]) -> Proposal:
    """Write the test and the budget for some candidates of a module.

    `doubts` are what is not sure of importing the module.
    """
    tests = "\n\n\n".join("\n".join(_test(each, module)) for each in found)
    if IGNORES_ASYNC in tests:
        tests = f"{_IGNORE_IT}\n\n\n{tests}"
    head = "\n\n".join(_head(module, found, tests, doubts))
    lines = ["[tool.streamperf]", 'mode = "warn"']  # nothing turns red by being adopted
    budgets = {key: value for each in found for key, value in each.budgets.items()}
    if budgets:
        lines += ["", "[tool.streamperf.budgets]"]
    lines += [f"{key} = {value}" for key, value in budgets.items()]
    return Proposal(
        test=f"{head}\n\n\n{tests}\n",
        table="\n".join(lines) + "\n",
        doubts=[*doubts, *dict.fromkeys(doubt for each in found for doubt in each.doubts)],
    )


def _test(each: Candidate, module: str) -> Iterator[str]:
    """A test; lines that are doubted stand below a comment that says so."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|\.", "_", each.name or module).lower()
    name = re.sub("_+", "_", words)[:_LONGEST_NAME].strip("_") or "it"
    if each.mark:
        yield each.mark
    head = f"def test_{name}_{CHECKS[each.check].says}({', '.join(each.fixtures)}):"
    yield from within(head, [*_todo(each.doubts), *each.body])


def _todo(doubts: Iterable[str]) -> list[str]:
    """Comments that say what is to be filled in."""
    comments = (wrap(f"# TODO: {each}", _WIDTH, subsequent_indent="#   ") for each in doubts)
    return [line for lines in comments for line in lines]


def _head(
    module: str, found: Sequence[Candidate], tests: str, doubts: Sequence[str]
) -> Iterator[str]:
    """What a test file begins with; modules of the standard library and others are apart."""
    yield f'"""Streaming budgets of {module}."""'
    names = sorted({each.uses for each in found} - {""})
    said = [name if spoken(name) == name else f"{name} as {spoken(name)}" for name in names]
    own = [f"from {module} import {', '.join(said)}"] if said else []
    for lines in (
        [line for word, line in _STANDARD.items() if word in tests],
        [line for word, line in _OTHERS.items() if word in tests],
        [*_todo(doubts), *own],
    ):
        if lines:
            yield "\n".join(lines)
