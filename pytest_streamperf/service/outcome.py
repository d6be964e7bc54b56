"""What a check of a server comes to: said in one way, and raised in one place."""

from collections.abc import Sequence

from pytest_streamperf import verdict
from pytest_streamperf.figures import Figures
from pytest_streamperf.verdict import ServiceExceeded, Unproven, Verdict

__tracebackhide__ = True  # pytest shows the user's own frames


def passed(headline: str, figures: Figures) -> Verdict:
    """It behaves; `headline` says what was seen."""
    return Verdict(stem="service", verdict="within", headline=headline, figures=figures)


def exceeded(
    headline: str, figures: Figures, lines: Sequence[str], table: Sequence[str] = ()
) -> Verdict:
    """It does not: `table` shows it, `lines` say what it means and what helps."""
    return Verdict(
        stem="service",
        verdict="exceeded",
        headline=verdict.fit(headline),
        details=["", *table, *([""] if table else ()), *lines],
        figures=figures,
    )


def concluded(outcome: Verdict) -> Verdict:
    """Report it, and raise `ServiceExceeded` or warn, at the line that called the check."""
    verdict.conclude(outcome, ServiceExceeded, Unproven, stacklevel=3)
    return outcome
