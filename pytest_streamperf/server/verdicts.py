"""What a check of a server comes to: said in one way, and raised in one place."""

from collections.abc import Sequence
from dataclasses import replace

from pytest_streamperf._results.conclusion import conclude, nothing_measured
from pytest_streamperf._results.metrics import Figures
from pytest_streamperf._results.text import fit_line
from pytest_streamperf._results.units import size
from pytest_streamperf._results.verdict import Verdict
from pytest_streamperf._runtime.interference import noted
from pytest_streamperf.exceptions import ServerExceeded, ServerInconclusive
from pytest_streamperf.server.clients import Answer, Request

__tracebackhide__ = True  # pytest shows the user's own frames


def passed(headline: str, figures: Figures) -> Verdict:
    """It behaves; `headline` says what was seen."""
    return Verdict(
        stem="server", verdict="within", headline=headline, figures=noted("server", figures)
    )


def exceeded(
    headline: str, figures: Figures, lines: Sequence[str], table: Sequence[str] = ()
) -> Verdict:
    """It does not: `table` shows it, `lines` say what it means and what helps."""
    return Verdict(
        stem="server",
        verdict="exceeded",
        headline=fit_line(headline),
        details=["", *table, *([""] if table else ()), *lines],
        figures=noted("server", figures),
    )


def inconclusive(headline: str, figures: Figures, lines: Sequence[str]) -> Verdict:
    """It could not be told."""
    return replace(exceeded(headline, figures, lines), verdict="inconclusive")


def concluded(outcome: Verdict) -> Verdict:
    """Report it, and raise `ServerExceeded` or warn, at the line that called the check."""
    conclude(outcome, ServerExceeded, ServerInconclusive, stacklevel=3)
    return outcome


def check_answer(request: Request, answer: Answer) -> None:
    """Raise `NothingMeasured` for an answer that is refused, or empty."""
    if answer.status // 100 != 2 or not answer.body:  # noqa: PLR2004 - OK
        raise nothing_measured(
            "server",
            f"{request} answers {answer.status}, {size(len(answer.body))}",
            "ask for something that is there",
        )
