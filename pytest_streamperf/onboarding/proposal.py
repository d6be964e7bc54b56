"""What is proposed: the text of a first test, and of a budget."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import indent, wrap
from typing import NamedTuple

ABOUT = {
    "growth": "is the work linear?",
    "cadence": "how often is it updated?",
    "pulse": "does the event loop stay free?",
    "service": "does it survive what clients do?",
    "network": "who reaches for the network?",
}
"""What each kind of check asks."""

IGNORES, IGNORES_ASYNC = "lambda *_: None", "ignore_it"
"""What to give where a callback is taken: the second is defined beside the tests."""

_EXTRAS = {"service": "serve"}
_IGNORE_IT = "async def ignore_it(*_):\n    pass\n"
# Names that the tests use themselves.
_TAKEN = {"stream", "delta", "show", "flushes", "consume", "main", "watch", "subject", "ignore_it"}
_TAKEN |= {"asyncio", "pytest", "Request", "assert_survives", "prove_gate", "assert_linear"}
_TAKEN |= {"virtual_clock", "token_stream", "update_counter", "flush_counter", "stall_watch"}
_LONGEST_NAME = 40
_WIDTH = 71


class Candidate(NamedTuple):
    """Something to test: what it is, where, its test, and the budgets that go with that.

    `doubts` are what has to be filled in by somebody who knows; without any, the test is right as
    it stands. `name` is what is looked for, and empty for the module; `uses` is what is imported
    from the module, and `imports` are lines for all else.
    """

    check: str
    name: str
    line: int
    score: int
    why: str
    test: str
    doubts: Sequence[str]
    uses: str = ""
    imports: Sequence[str] = ()
    budgets: Mapping[str, str] = {}

    def is_asked_for(self, name: str) -> bool:
        """Whether it is what has this name, or belongs to it."""
        return not name or self.name == name or self.name.startswith(f"{name}.")


class Proposal(NamedTuple):
    """The text of a test file and of a table for `pyproject.toml`, and what is not sure of them.

    `extras` are those of pytest-streamperf that the tests need.
    """

    test: str
    table: str
    doubts: Sequence[str]
    extras: Sequence[str]


def test_of(
    name: str, says: str, fixtures: Sequence[str], body: Iterable[str], *, doubts: Sequence[str]
) -> str:
    r"""Write a test; lines that are doubted stand below a comment that says so.

    >>> test_of("Reply", "is_linear", ["assert_linear"], ["assert_linear(f)"], doubts=[])
    'def test_reply_is_linear(assert_linear):\n    assert_linear(f)\n'
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|\.", "_", name).lower()
    short = re.sub("_+", "_", words)[:_LONGEST_NAME].strip("_") or "it"
    lines = "\n".join([*todo(doubts), *body])
    return f"def test_{short}_{says}({', '.join(fixtures)}):\n{indent(lines, '    ')}\n"


def todo(doubts: Iterable[str]) -> list[str]:
    """Comments that say what is to be filled in.

    >>> todo(["model has no default"])
    ['# TODO: model has no default']
    """
    comments = (wrap(f"# TODO: {each}", _WIDTH, subsequent_indent="#   ") for each in doubts)
    return [line for lines in comments for line in lines]


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
    best: dict[str, Candidate] = {}
    for each in found:
        best.setdefault(each.check, each)
    sure = [each for each in best.values() if not each.doubts]
    return sure or list(best.values())[:1]


def proposal(module: str, found: Sequence[Candidate], doubts: Sequence[str]) -> Proposal:
    """Write the test and the budget for some candidates of a module.

    `doubts` are what is not sure of importing the module.
    """
    tests = [each.test for each in found]
    if any(IGNORES_ASYNC in each for each in tests):
        tests = [_IGNORE_IT, *tests]
    head = "\n\n".join(_head(module, found, doubts))
    return Proposal(
        test="\n\n\n".join([head, *(each.rstrip("\n") for each in tests)]) + "\n",
        table=_table(found),
        doubts=[*doubts, *dict.fromkeys(doubt for each in found for doubt in each.doubts)],
        extras=[_EXTRAS[each.check] for each in found if each.check in _EXTRAS],
    )


def _head(module: str, found: Sequence[Candidate], doubts: Sequence[str]) -> Iterator[str]:
    """What a test file begins with; modules of the standard library and others are apart."""
    yield f'"""Streaming budgets of {module}."""'
    asked = {line for each in found for line in each.imports}
    standard = asked & {"import asyncio"}
    names = sorted({each.uses for each in found} - {""})
    said = [name if spoken(name) == name else f"{name} as {spoken(name)}" for name in names]
    own = [*todo(doubts), f"from {module} import {', '.join(said)}"] if names else todo(doubts)
    # `import` goes before `from`.
    groups = (standard, sorted(asked - standard, key=lambda each: each.startswith("from")), own)
    yield from ("\n".join(group) for group in groups if group)


def _table(found: Sequence[Candidate]) -> str:
    """The budgets of what was found; they warn, so that nothing turns red by being adopted."""
    budgets = {key: value for each in found for key, value in each.budgets.items()}
    lines = ["[tool.streamperf]", 'mode = "warn"']
    if budgets:
        lines += ["", "[tool.streamperf.budgets]"]
    lines += [f"{key} = {value}" for key, value in budgets.items()]
    return "\n".join(lines) + "\n"
