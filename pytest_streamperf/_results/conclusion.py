"""Conclude a check: report its verdict, then raise, warn or return as the policy says.

`conclude` is the last call of each check. `nothing_measured` makes the error for a check that had
nothing to measure: no policy turns that into a warning.
"""

import warnings

from pytest_streamperf._results.policy import Policy
from pytest_streamperf._results.reporter import current_sink, report
from pytest_streamperf._results.text import labelled_lines
from pytest_streamperf._results.verdict import Verdict
from pytest_streamperf.exceptions import (
    BudgetExceeded,
    Inconclusive,
    NothingMeasured,
    StreamperfWarning,
)

__tracebackhide__ = True  # pytest shows the user's own frames


def current_policy() -> Policy:
    """Return the policy of the current sink, or the default policy if no sink is open."""
    sink = current_sink()
    return sink.policy if sink is not None else Policy()


def conclude(
    verdict: Verdict,
    exceeded: type[BudgetExceeded],
    inconclusive: type[Inconclusive],
    *,
    stacklevel: int,
) -> None:
    """Report a verdict; raise or warn, as the policy says, unless it is within its limit.

    `stacklevel` is counted from the caller, as `warnings.warn` counts it.
    """
    report(verdict)
    if verdict.verdict == "within":
        return
    if current_policy().accepts(verdict.verdict):
        warnings.warn(verdict.message, StreamperfWarning, stacklevel=stacklevel + 1)
    else:
        raise (exceeded if verdict.verdict == "exceeded" else inconclusive)(verdict)


def nothing_measured(stem: str, headline: str, advice: str) -> NothingMeasured:
    """Report a check that had nothing to measure, and return the error to raise."""
    details = labelled_lines({"try": advice})
    verdict = Verdict(
        stem=stem, verdict="inconclusive", headline=headline, details=details, measured=False
    )
    report(verdict)
    return NothingMeasured(verdict)
