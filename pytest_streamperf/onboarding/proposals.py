"""What is proposed for a module: the text of a first test, and of a budget."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pytest_streamperf.onboarding.candidate import Candidate, spoken
from pytest_streamperf.onboarding.making import IGNORES_ASYNC
from pytest_streamperf.onboarding.templates import IGNORES_IT, TEMPLATES, filled, todo


class Proposal(NamedTuple):
    """The text of a test file and of a table for `pyproject.toml`, and what is not sure of them.

    `extras` are those of pytest-streamperf that the tests need.
    """

    test: str
    table: str
    doubts: Sequence[str]
    extras: Sequence[str]


def chosen(found: Sequence[Candidate]) -> list[Candidate]:
    """The best of each kind of check, of those that are sure; the very best if none is.

    >>> chosen([])
    []
    """
    best: dict[str, Candidate] = {}
    for each in found:
        best.setdefault(TEMPLATES[each.kind].stem, each)
    sure = [each for each in best.values() if each.sure]
    return sure or list(best.values())[:1]


def proposal(module: str, found: Sequence[Candidate], doubts: Sequence[str]) -> Proposal:
    """Write the test and the budget for some candidates of a module.

    `doubts` are what is not sure of importing the module.
    """
    templates = [TEMPLATES[each.kind] for each in found]
    tests = [
        filled(template.code, each.fills) for each, template in zip(found, templates, strict=True)
    ]
    if any(IGNORES_ASYNC in each for each in tests):
        tests = [filled(IGNORES_IT, {}), *tests]
    head = [f'"""Streaming budgets of {module}."""', "", *_imports(module, found, doubts)]
    test = "\n".join(head).rstrip("\n") + "\n\n\n" + "\n\n".join(tests)
    return Proposal(
        test=test,
        table=table(found),
        doubts=[*doubts, *(doubt for each in found for doubt in each.doubts)],
        extras=sorted({template.extra for template in templates} - {""}),
    )


def table(found: Sequence[Candidate]) -> str:
    """The budget for what was found; it warns, so that nothing turns red by being adopted."""
    settings, budgets = {"mode": '"warn"'}, dict[str, str]()
    for each in found:
        template = TEMPLATES[each.kind]
        settings |= template.settings
        budgets |= {key: value.format(**each.budget) for key, value in template.budgets.items()}
    lines = ["[tool.streamperf]", *(f"{key} = {value}" for key, value in settings.items())]
    if budgets:
        lines += ["", "[tool.streamperf.budgets]"]
        lines += [f"{key} = {value}" for key, value in budgets.items()]
    return "\n".join(lines) + "\n"


def _imports(module: str, found: Sequence[Candidate], doubts: Sequence[str]) -> Iterator[str]:
    """Those of the standard library, of installed packages and of the project, apart."""
    asked = sorted({line for each in found for line in TEMPLATES[each.kind].imports})
    standard = [f"import {each}" for each in asked if " " not in each]
    installed = sorted((each for each in asked if " " in each), key=lambda each: each.split()[::-1])
    installed.sort(key=lambda each: not each.startswith("import"))
    names = sorted({each.name.split(".")[0] for each in found if TEMPLATES[each.kind].by_import})
    said = [name if spoken(name) == name else f"{name} as {spoken(name)}" for name in names]
    own = _from(module, said) if names else []
    for group in (standard, installed, [*todo(doubts), *own]):
        if group:
            yield from [*group, ""]


def _from(module: str, names: Sequence[str]) -> Sequence[str]:
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= 79:  # noqa: PLR2004 - as wide as the templates are
        return [line]
    return [f"from {module} import (", *(f"    {each}," for each in names), ")"]
