"""Seeded regressions: small, realistic mistakes that a check must catch.

The server knows nothing of them. Each replaces one name of the healthy code for a while. They lie
in a file for each stem of checks.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Final

from reference_impl.regressions import cadence, growth, network, service
from reference_impl.regressions.registry import Regression

REGRESSIONS: Final[Mapping[str, Regression]] = {
    regression.name: regression
    for stem in (growth, cadence, network, service)
    for regression in stem.REGRESSIONS
}
"""Every seeded regression, by name."""


@contextmanager
def regressed(*names: str) -> Iterator[None]:
    """Put the named regressions in place for this process, and restore the healthy code after.

    What already runs is affected from its next use of the replaced name. An unknown name is a
    `ValueError` that lists the allowed ones.

        with regressed("quadratic-accumulator"), running(create_app()) as url:
            ...
    """
    for name in names:
        if name not in REGRESSIONS:
            allowed = ", ".join(sorted(REGRESSIONS))
            raise ValueError(f"unknown regression {name!r}, allowed: {allowed}")
    with ExitStack() as restore:
        for name in names:
            regression = REGRESSIONS[name]
            module_name, _, attribute = regression.target.partition(":")
            module = import_module(module_name)
            restore.callback(setattr, module, attribute, getattr(module, attribute))
            setattr(module, attribute, regression.replacement)
        yield
