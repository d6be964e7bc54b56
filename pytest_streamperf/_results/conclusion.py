"""The end of a check: report its verdict, then raise, warn or return as the policy says."""

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
    """The policy of the current sink; without one, every default."""
    sink = current_sink()
    return sink.policy if sink is not None else Policy()


def conclude(
    verdict: Verdict,
    exceeded: type[BudgetExceeded],
    inconclusive: type[Inconclusive],
    *,
    stacklevel: int,
) -> None:
    """Report a verdict; raise it unless it is within its limit, or warn where the policy says so.

    `stacklevel` is that of `warnings.warn`, as seen by the caller.
    """
    report(verdict)
    if verdict.verdict == "within":
        return
    if current_policy().accepts(verdict.verdict):
        warnings.warn(verdict.message, StreamperfWarning, stacklevel=stacklevel + 1)
    else:
        raise (exceeded if verdict.verdict == "exceeded" else inconclusive)(verdict)


def nothing_measured(stem: str, what: str, advice: str) -> NothingMeasured:
    """Report a check that had nothing to measure, and make the error for it."""
    details = labelled_lines({"try": advice})
    verdict = Verdict(
        stem=stem, verdict="inconclusive", headline=what, details=details, measured=False
    )
    report(verdict)
    return NothingMeasured(verdict)
