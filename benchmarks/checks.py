"""Print which check catches which seeded regression: the matrix in docs/regressions.md.

    python -m benchmarks.checks > docs/regressions.md

Each check runs with nothing wrong, and then with each seeded regression in place.
"""

import logging
import sys

from reference_impl import REGRESSIONS
from tests.matrix.checks import CHECKS, OVERLAPS, failure_of


def page() -> str:
    """Return the matrix as Markdown."""
    lines = [
        "# Which check catches which regression",
        "",
        "Made by `python -m benchmarks.checks`: every check, pointed at the reference server with",
        "each of its seeded regressions. **x** is the check that a regression is for, o another",
        "that is tripped by it, for the reason below. Which invariants of a throttle each of these",
        "breaks is in [throttle.md](throttle.md).",
        "",
        f"| regression | {' | '.join(f'`{check}`' for check in CHECKS)} |",
        f"|---|{'---|' * len(CHECKS)}",
    ]
    overlaps = []
    for name in ["", *REGRESSIONS]:
        cells = []
        for check in CHECKS:
            failure = failure_of(check, *filter(None, [name]))
            cells.append("o" if failure else "")
            if name and REGRESSIONS[name].check == check:
                cells[-1] = "**x**" if failure else "missed"
            elif failure:
                print(f"{name or 'none'}, {check}: {failure}", file=sys.stderr, flush=True)
                reason = OVERLAPS.get((name, check), "NOT JUSTIFIED")
                overlaps.append(f"- {name or 'none'}, `{check}`: {reason}.")
        lines.append(f"| {name or 'none'} | {' | '.join(cells)} |")
    stories = [f"- {name}: {each.story}" for name, each in REGRESSIONS.items()]
    return "\n".join([*lines, "", *overlaps, "", "## Their stories", "", *stories])


def main() -> None:
    """Print the page."""
    # Models fail and clients leave on purpose: the server's log of that is of no use here.
    logging.basicConfig(handlers=[logging.NullHandler()])
    print(page())


if __name__ == "__main__":
    main()
