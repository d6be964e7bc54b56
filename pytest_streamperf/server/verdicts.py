"""Make the verdicts of server checks, and conclude a check.

`passed`, `exceeded` and `inconclusive` take a headline and figures, and return a `Verdict`.
`concluded` is the last call of each server check: it raises or warns for a verdict that is not
within its limit. `check_answer` rejects an answer that proves nothing.
"""

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
    """Return a verdict "within"; `headline` gives the measured values."""
    return Verdict(
        stem="server", verdict="within", headline=headline, figures=noted("server", figures)
    )


def exceeded(
    headline: str, figures: Figures, lines: Sequence[str], table: Sequence[str] = ()
) -> Verdict:
    """Return a verdict "exceeded".

    The lines of `table` show the fault. `lines` say what the fault means and how to repair it.
    """
    return Verdict(
        stem="server",
        verdict="exceeded",
        headline=fit_line(headline),
        details=["", *table, *([""] if table else ()), *lines],
        figures=noted("server", figures),
    )


def inconclusive(headline: str, figures: Figures, lines: Sequence[str]) -> Verdict:
    """Return a verdict "inconclusive"; `lines` give the reason and the next thing to do."""
    return replace(exceeded(headline, figures, lines), verdict="inconclusive")


def concluded(outcome: Verdict) -> Verdict:
    """Report a verdict, and return it if it is within its limit.

    Raises `ServerExceeded` or `ServerInconclusive` for any other verdict. Where the policy accepts
    the verdict, it warns instead, at the line that called the check.
    """
    conclude(outcome, ServerExceeded, ServerInconclusive, stacklevel=3)
    return outcome


def check_answer(request: Request, answer: Answer) -> None:
    """Raise `NothingMeasured` for an answer with a status other than 2xx, or without a body."""
    if answer.status // 100 != 2 or not answer.body:  # noqa: PLR2004 - OK
        raise nothing_measured(
            "server",
            f"{request} answers {answer.status}, {size(len(answer.body))}",
            "give a request that the server answers with 2xx and a body",
        )
