"""Mistakes that are seeded, in a file for each stem of checks; `regressions` puts them in place."""

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType


@dataclass(frozen=True, slots=True)
class Regression:
    """One mistake: what it replaces (`module:name`), and the name of the check that catches it.

    `breaks` are the numbers of the invariants of a throttle that name it.
    """

    name: str
    target: str
    replacement: object
    check: str
    story: str
    breaks: tuple[int, ...] = ()

    def place(self) -> tuple[ModuleType, str]:
        """What it replaces: the module, and the name in there."""
        module, _, name = self.target.partition(":")
        return import_module(module), name


def seeded(check: str, name: str, target: str, replacement: object, *breaks: int) -> Regression:
    """Make one of something in this package, whose docstring tells its story."""
    story = str(replacement.__doc__)
    return Regression(name, f"reference_impl.{target}", replacement, check, story, breaks)
