"""One walk through everything: the systems of the reference server, healthy and regressed.

    python -m examples.walk                     # all of them: a minute or two
    python -m examples.walk accumulator cors    # these

Of each system the checks are run with nothing wrong, and then with each of its seeded regressions
in place: its story is told, and the first line of what the check fails with. Where a check cannot
tell, as that of splines without an extra, it is unseen. Exits with 0 exactly when the healthy
server is green and each regression is red. docs/walk.md tells what went wrong where these come
from.
"""

import argparse
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence

from pytest_streamperf import Inconclusive
from reference_impl import REGRESSIONS
from tests.matrix.checks import failure_of

SYSTEMS: Mapping[str, Sequence[str]] = {
    "accumulator": ["quadratic-accumulator"],
    "replies": ["flush-per-token", "held-back-tail", "swallowed-error-flush"],
    "fetch": ["no-gate", "gate-on-test-alone", "always-gated"],
    "merge": ["merge-depends-on-order", "stale-entries-kept"],
    "tool-calls": [
        "no-throttle",
        "parse-per-delta",
        "trailing-value-lost",
        "final-flush-after-end",
        "flush-on-cancel",
        "shared-key",
        "leading-only",
        "trailing-debounce",
        "stale-value",
        "timer-left-running",
    ],
    "metrics": ["gauge-leaks-on-disconnect", "gauge-goes-negative", "totals-miss-failures"],
    "telemetry": [
        "buffer-without-end",
        "broadcast-waits",
        "never-resumes",
        "idle-reset-by-sends",
        "dead-clients-kept",
    ],
    "workers": ["torn-read", "stale-read"],
    "inference": ["load-per-request", "thundering-herd", "no-warm-up", "inputs-kept"],
    "splines": ["spline-on-the-loop", "spline-fallback-differs"],
    "heap": ["snapshot-on-the-loop", "snapshot-in-memory"],
    "cors": ["cors-missing-on-errors", "cors-missing-on-304"],
    "fire": ["task-left-behind", "deep-json-fails", "bodies-kept"],
    "stop": ["cut-off-at-stop"],
}
"""The regressions of each system, in the order in which docs/walk.md has them."""


def runs(system: str) -> Iterator[tuple[str, str]]:
    """Pairs of a check and a regression to run it with: each of its checks with none first."""
    checks = [(REGRESSIONS[name].check, name) for name in SYSTEMS[system]]
    yield from dict.fromkeys((check, "") for check, _ in checks)
    yield from checks


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks of some systems, or of all; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.walk",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=", ".join(SYSTEMS))
    systems = parser.parse_args(arguments).systems
    if unknown := set(systems) - set(SYSTEMS):
        parser.error(f"no system {', '.join(sorted(unknown))}, allowed: {', '.join(SYSTEMS)}")
    surprises = 0
    for system in systems or SYSTEMS:
        for check, name in runs(system):
            try:
                says = failure_of(check, *filter(None, [name]))
                seen = "red" if says else "green"
            except Inconclusive as error:
                says, seen = error.verdict.headline, "unseen"
            print(f"{seen:6} {name or check}")
            if name:
                print(f"       {REGRESSIONS[name].story}")
            if says:
                print(f"       {check}: {says}", flush=True)
            surprises += seen != ("red" if name else "green")
    return 1 if surprises else 0


if __name__ == "__main__":
    logging.basicConfig(handlers=[logging.NullHandler()])  # models fail here, and clients leave
    sys.exit(main())
