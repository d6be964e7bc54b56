"""First tests, as data: one template for each kind of code, and how it is filled in.

A line that is a name in `{}` alone stands for any number of lines; in others the text is put.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import NamedTuple

# Whatever length of lines a project has its formatter keep to, it leaves these as they are.
_WIDTH = 79
_FILL = re.compile(r"{(\w+)}")


class Call(NamedTuple):
    """A call, in one line if there is room for it."""

    before: str
    function: str
    arguments: Sequence[str] = ()
    after: str = ""

    def laid(self, indent: int) -> Sequence[str]:
        """Its lines.

        >>> Call("reply = ", "Reply", ["show"]).laid(4)
        ['    reply = Reply(show)']
        """
        margin, (before, function, arguments, after) = " " * indent, self
        line = f"{margin}{before}{function}({', '.join(arguments)}){after}"
        if len(line) <= _WIDTH or not arguments:
            return [line]
        inner = [f"{margin}    {each}," for each in arguments]
        return [f"{margin}{before}{function}(", *inner, f"{margin}){after}"]


Fill = str | Sequence[str | Call]


class Template(NamedTuple):
    """One kind of test: which check, which budgets go with it, what it imports, and its code.

    `extra` is what has to be installed for it; without `by_import` it names what it tests, and does
    not import it.
    """

    stem: str
    about: str
    budgets: Mapping[str, str]
    settings: Mapping[str, str]
    imports: Sequence[str]
    code: str
    extra: str = ""
    by_import: bool = True


_GROWTH = {"growth": '"25%"'}
_HORIZON = {"up_to": "20_000"}
_UPDATES = {"updates_every": '"{spoken}"'}
_FLUSHES = {"flushes_per_second": '"{per_second}/s"'}
_STALLS = {"max_stall": '"50ms"'}
_SILENT = {"background_fetch": "false"}

IGNORES_IT = """
async def ignore_it(*_):
    pass
"""
"""Stands beside tests of code that awaits its callback."""

_ONE_BY_ONE: Mapping[str, Template] = {
    "direct": Template(
        "growth",
        "is the work linear?",
        _GROWTH,
        _HORIZON,
        (),
        """
{test_is_linear}
    {check}
""",
    ),
    "called": Template(
        "growth",
        "is the work linear?",
        _GROWTH,
        _HORIZON,
        (),
        """
{test_is_linear}
    def consume(stream):  # called many times: it builds its state inside
        {todo}
        {prepare}
        {call}

    {check}
""",
    ),
    "fed": Template(
        "growth",
        "is the work linear?",
        _GROWTH,
        _HORIZON,
        (),
        """
{test_is_linear}
    def consume(stream):  # called many times: it builds its state inside
        {todo}
        {make}
        for delta in stream:
            {feed}
        {finish}

    {check}
""",
    ),
    "fed async": Template(
        "growth",
        "is the work linear?",
        _GROWTH,
        _HORIZON,
        (),
        """
{test_is_linear}
    async def consume(stream):  # called many times: it builds its state inside
        {todo}
        {make}
        async for delta in stream:
            {feed}
        {finish}

    {check}
""",
    ),
    "throttled": Template(
        "cadence",
        "how often is it updated?",
        _UPDATES,
        {},
        (),
        """
{test_is_throttled}
    stream = token_stream(tokens=3_000, every={pace})
    {todo}
    {show}
    {make}
    for delta in stream:
        {feed}
    {finish}
    {check}
""",
    ),
    "throttled async": Template(
        "cadence",
        "how often is it updated?",
        _UPDATES,
        {},
        ("asyncio",),
        """
{test_is_throttled}
    async def main():
        stream = token_stream(tokens=3_000, every={pace})
        {todo}
        {show}
        {make}
        async for delta in stream:
            {feed}
        {finish}
        await asyncio.sleep(1)  # would anything still come?
        {check}

    asyncio.run(main())
""",
    ),
    "relayed": Template(
        "cadence",
        "how often is it updated?",
        _UPDATES,
        {},
        (),
        """
{test_is_throttled}
    stream = token_stream(tokens=3_000, every={pace})
    {todo}
    {show}
    {call}
    {check}
""",
    ),
    "relayed async": Template(
        "cadence",
        "how often is it updated?",
        _UPDATES,
        {},
        ("asyncio",),
        """
{test_is_throttled}
    async def main():
        stream = token_stream(tokens=3_000, every={pace})
        {todo}
        {show}
        {call}
        {check}

    asyncio.run(main())
""",
    ),
    "smooth": Template(
        "pulse",
        "does the event loop stay free?",
        _STALLS,
        {},
        ("asyncio",),
        """
{test_is_smooth}
    async def main():
        {todo}
        {prepare}
        with stall_watch() as watch:
            {call}
                pass
        return watch

    asyncio.run(main()).assert_smooth(max_stall=0.05)
""",
    ),
    "served": Template(
        "service",
        "does it survive what clients do?",
        {},
        {},
        ("from pytest_streamperf.service import Request, assert_survives",),
        """
{test_survives}
    {todo}
    {check}
""",
        "serve",
    ),
    "gated": Template(
        "network",
        "who reaches for the network?",
        {},
        _SILENT,
        ("from pytest_streamperf import prove_gate",),
        """
{test_is_silent}
    {todo}
    {check}
""",
        by_import=False,
    ),
    "silent": Template(
        "network",
        "who reaches for the network?",
        {},
        _SILENT,
        ("import pytest",),
        """
@pytest.mark.streamperf(background_fetch=False, block_network=True)
{test_is_silent}
    {todo}
    {make}
""",
    ),
}
TEMPLATES: Mapping[str, Template] = {
    **_ONE_BY_ONE,
    **{
        f"{name}, in batches": _ONE_BY_ONE[name]._replace(budgets=_FLUSHES)
        for name in ("throttled", "throttled async", "relayed", "relayed async")
    },
}
"""By kind of code."""


def filled(template: str, fills: Mapping[str, Fill]) -> str:
    r"""Fill in a template; whatever it does not know is left out, with its line.

    >>> filled("def f():\n    {body}\n    {no}", {"body": ["a()", "b()"]})
    'def f():\n    a()\n    b()\n'
    """
    return (
        "\n".join(line for each in template.strip().split("\n") for line in _lines(each, fills))
        + "\n"
    )


def _lines(line: str, fills: Mapping[str, Fill]) -> Iterator[str]:
    indent, bare = len(line) - len(line.lstrip()), line.strip()
    whole = _FILL.fullmatch(bare)
    if whole is None:
        yield _FILL.sub(lambda found: str(fills[found[1]]), line)
        return
    fill = fills.get(whole[1], ())
    for each in (fill,) if isinstance(fill, str) else fill:
        yield from each.laid(indent) if isinstance(each, Call) else [" " * indent + each]


def todo(doubts: Sequence[str]) -> Sequence[str]:
    """Comments that say what is to be filled in.

    >>> todo(["model has no default"])
    ['# TODO: model has no default']
    """
    return [
        line
        for each in doubts
        for line in wrap(f"# TODO: {each}", _WIDTH - 8, subsequent_indent="#   ")
    ]
