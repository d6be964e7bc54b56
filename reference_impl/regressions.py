"""The registry of seeded regressions: small, realistic faults that a check must catch.

`REGRESSIONS` maps the name of each seeded regression to its description. `regressed` puts some of
them in place for the length of a `with` block. A seeded regression replaces one function or class
of the healthy code; the server has no code of its own for it. The package `seeded_regressions` has
a module with replacements for each area of the server.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Final

from reference_impl.seeded_regressions import Regression


class QuadraticReply:
    """A `Reply` that copies the whole text so far on every delta."""

    def __init__(self) -> None:
        self._text = ""

    def feed(self, delta: str) -> None:
        """Append a delta to the text of the reply."""
        # CPython extends a local string in place, so only += on an attribute costs quadratic time.
        self._text += delta

    def text(self) -> str:
        """Return the text of all deltas so far."""
        return self._text


_GROWTH_REGRESSIONS = (
    Regression(
        "quadratic-accumulator",
        target="reference_impl.agent:Reply",
        replacement=QuadraticReply,
        check="assert_linear",
        story="The reply is kept in one string, so every delta copies all the text before it.",
    ),
)

# The modules of `seeded_regressions`, in the order in which the regressions are listed.
_MODULES = ("throttling", "network", "server", "workers", "inference", "splines")

REGRESSIONS: Final[Mapping[str, Regression]] = {
    regression.name: regression
    for group in (
        _GROWTH_REGRESSIONS,
        *(
            import_module(f"reference_impl.seeded_regressions.{name}").REGRESSIONS
            for name in _MODULES
        ),
    )
    for regression in group
}
"""All seeded regressions, by name."""


@contextmanager
def regressed(*names: str) -> Iterator[None]:
    """Put the named seeded regressions in place for this process, and remove them at the end.

    Code that already runs uses the replacement from its next look-up of the replaced name. An
    unknown name raises a `ValueError` that lists the allowed names.

        with regressed("quadratic-accumulator"), serve_app(create_app()) as url:
            ...
    """
    for name in names:
        if name not in REGRESSIONS:
            allowed = ", ".join(sorted(REGRESSIONS))
            raise ValueError(f"unknown regression {name!r}, allowed: {allowed}")
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(_replacement_in_place(REGRESSIONS[name]))
        yield


_replacements_by_target: dict[str, dict[object, object]] = {}
"""The replacements in place for each target, oldest first; the healthy code has the key None.

Blocks of `regressed` may overlap and end in any order, so each target keeps all its replacements.
"""


@contextmanager
def _replacement_in_place(regression: Regression) -> Iterator[None]:
    module, attribute = regression.locate()
    replacements = _replacements_by_target.setdefault(
        regression.target, {None: getattr(module, attribute)}
    )
    key = object()
    replacements[key] = regression.replacement
    setattr(module, attribute, regression.replacement)
    try:
        yield
    finally:
        del replacements[key]
        setattr(module, attribute, replacements[next(reversed(replacements))])
        if len(replacements) == 1:
            del _replacements_by_target[regression.target]
