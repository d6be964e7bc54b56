"""The registry of seeded regressions: small, realistic faults that a check must catch.

A seeded regression replaces one name of the healthy code for a while; the server does not know
about it. A stem with many regressions has a module in `seeded_regressions`.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Final

from reference_impl.seeded_regressions import Regression


class QuadraticReply:
    """A `Reply` that copies the whole text on every delta."""

    def __init__(self) -> None:
        self._text = ""

    def feed(self, delta: str) -> None:
        """Add a delta."""
        # CPython grows a local string in place, so only a += on an attribute is quadratic.
        self._text += delta

    def text(self) -> str:
        """Return all the text so far."""
        return self._text


_GROWTH = (
    Regression(
        "quadratic-accumulator",
        target="reference_impl.agent:Reply",
        replacement=QuadraticReply,
        check="assert_linear",
        story="The reply is kept in one string, so every delta copies all the text before it.",
    ),
)

_STEMS = ("throttling", "network", "server", "workers", "inference", "splines")

REGRESSIONS: Final[Mapping[str, Regression]] = {
    regression.name: regression
    for stem in (
        _GROWTH,
        *(
            import_module(f"reference_impl.seeded_regressions.{name}").REGRESSIONS
            for name in _STEMS
        ),
    )
    for regression in stem
}
"""Every seeded regression, by name."""


@contextmanager
def regressed(*names: str) -> Iterator[None]:
    """Put the named regressions in place for this process, and restore the healthy code after.

    What already runs is affected from its next use of the replaced name. An unknown name is a
    `ValueError` that lists the allowed ones.

        with regressed("quadratic-accumulator"), serve_app(create_app()) as url:
            ...
    """
    for name in names:
        if name not in REGRESSIONS:
            allowed = ", ".join(sorted(REGRESSIONS))
            raise ValueError(f"unknown regression {name!r}, allowed: {allowed}")
    with ExitStack() as restore:
        for name in names:
            restore.enter_context(_replaced(REGRESSIONS[name]))
        yield


_layers: dict[str, dict[object, object]] = {}
"""What was put in place of each target, over the healthy code: they need not go as they came."""


@contextmanager
def _replaced(regression: Regression) -> Iterator[None]:
    module, attribute = regression.place()
    layers = _layers.setdefault(regression.target, {None: getattr(module, attribute)})
    own = object()
    layers[own] = regression.replacement
    setattr(module, attribute, regression.replacement)
    try:
        yield
    finally:
        del layers[own]
        setattr(module, attribute, layers[next(reversed(layers))])
        if len(layers) == 1:
            del _layers[regression.target]
