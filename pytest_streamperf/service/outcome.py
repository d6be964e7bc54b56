"""What a check of a server comes to: said in one way, and raised in one place."""

from collections.abc import Sequence
from dataclasses import replace

from pytest_streamperf import verdict
from pytest_streamperf.figures import Figures
from pytest_streamperf.service.clients import Answer, Request
from pytest_streamperf.verdict import ServiceExceeded, Unproven, Verdict, size

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


def unproven(headline: str, figures: Figures, lines: Sequence[str]) -> Verdict:
    """It could not be told."""
    return replace(exceeded(headline, figures, lines), verdict="unproven")


def concluded(outcome: Verdict) -> Verdict:
    """Report it, and raise `ServiceExceeded` or warn, at the line that called the check."""
    verdict.conclude(outcome, ServiceExceeded, Unproven, stacklevel=3)
    return outcome


def check_answer(request: Request, answer: Answer) -> None:
    """Raise `NothingMeasured` for an answer that is refused, or empty."""
    if answer.status // 100 != 2 or not answer.body:  # noqa: PLR2004 - OK
        raise verdict.nothing_measured(
            "service",
            f"{request} answers {answer.status}, {size(len(answer.body))}",
            "ask for something that is there",
        )
