"""Something to test, and the lines that its test has in common with others."""

import keyword
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pytest_streamperf.onboarding.making import Making, making
from pytest_streamperf.onboarding.source import Member, Source
from pytest_streamperf.onboarding.templates import Call, Fill

# Names that the tests use themselves.
_TAKEN = {"stream", "delta", "show", "flushes", "consume", "main", "watch", "ignore_it", "asyncio"}
_TAKEN |= {"pytest", "Request", "assert_survives", "prove_gate", "assert_linear", "stall_watch"}
_TAKEN |= {"virtual_clock", "token_stream", "update_counter", "flush_counter", "call"}
_LONGEST_NAME = 40


class Candidate(NamedTuple):
    """Something to test: what it is, where, and how its test is filled in.

    `doubts` are what has to be filled in by somebody who knows; without any, the test is right as
    it stands. `name` is what is imported, and of that what is looked for; empty for the module.
    """

    kind: str
    name: str
    line: int
    score: int
    why: str
    fills: Mapping[str, Fill]
    budget: Mapping[str, str]
    doubts: Sequence[str]

    @property
    def sure(self) -> bool:
        """Whether its test is right as it stands."""
        return not self.doubts

    def is_asked_for(self, name: str) -> bool:
        """Whether it is what has this name, or belongs to it."""
        return not name or self.name == name or self.name.startswith(f"{name}.")


def spoken(name: str) -> str:
    """What a test calls what it imports.

    >>> spoken("Reply"), spoken("stream")
    ('Reply', 'the_stream')
    """
    return f"the_{name}" if name in _TAKEN else name


def test_line(name: str, says: str, fixtures: Sequence[str]) -> Call:
    """The first line of a test of what has this name."""
    return Call("", f"def test_{_snake(name)}_{says}", fixtures, ":")


def _snake(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|\.", "_", name)
    return re.sub("_+", "_", words.lower()).strip("_")[:_LONGEST_NAME].strip("_") or "it"


def variable(name: str) -> str:
    """What to call an instance of a class: the last word of its name.

    >>> variable("ToolCallUpdates")
    'updates'
    """
    word = _snake(name).rsplit("_", 1)[-1]
    free = word.isidentifier() and not keyword.iskeyword(word) and word not in {*_TAKEN, name}
    return word if free and len(word) < _LONGEST_NAME / 2 else "subject"


def made_for(source: Source, member: Member) -> Making:
    """What has to be made before a function or method can be called."""
    on_self = member.owner is not None and member.on_self
    return making(source, member.owner) if member.owner and on_self else Making((), (), ())


def called_as(member: Member, made: Making) -> tuple[Sequence[str | Call], str]:
    """What goes before a call of a function or method, and what it is called as."""
    if member.owner is None:
        return [], spoken(member.name)
    if not member.on_self:
        return [], f"{spoken(member.owner.name)}.{member.node.name}"
    subject = variable(member.owner.name)
    make = Call(f"{subject} = ", spoken(member.owner.name), made.arguments({}))
    called = member.node.name
    return [make], subject if called == "__call__" else f"{subject}.{called}"
