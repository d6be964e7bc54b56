"""Mistakes that are seeded, in a file for each stem of checks; `regressions` puts them in place."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Regression:
    """One mistake: what it replaces (`module:name`), and the stem of the check that catches it.

    `breaks` are the numbers of the invariants of a throttle that name it.
    """

    name: str
    target: str
    replacement: object
    check: str
    story: str
    breaks: tuple[int, ...] = ()
