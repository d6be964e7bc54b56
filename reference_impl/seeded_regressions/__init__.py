"""The seeded regressions: faults for the reference server, in one module for each area of it.

Each module lists its regressions in `REGRESSIONS`. A regression names a function or class of the
healthy server and its faulty replacement. The docstring of the replacement is the story of the
regression: one sentence for users. `reference_impl.regressions` puts the replacements in place.
"""

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType


@dataclass(frozen=True, slots=True)
class Regression:
    """A seeded regression: its target and replacement, the check that must catch it, and its story.

    `target` is the replaced function or class, as `module:name`. `breaks` lists the numbers of the
    throttle invariants that the regression is meant to break.
    """

    name: str
    target: str
    replacement: object
    check: str
    story: str
    breaks: tuple[int, ...] = ()

    def locate(self) -> tuple[ModuleType, str]:
        """Import the module of the target; return it and the name of the target in it."""
        module, _, name = self.target.partition(":")
        return import_module(module), name


def seeded(check: str, name: str, target: str, replacement: object, *breaks: int) -> Regression:
    """Return a regression whose story is the docstring of its replacement."""
    story = str(replacement.__doc__)
    return Regression(name, f"reference_impl.{target}", replacement, check, story, breaks)
