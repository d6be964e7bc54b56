"""What was counted of loads, held to one: the verdict on plain values."""

import pytest

from pytest_streamperf._runtime.context import Line
from pytest_streamperf.server.loading import Counts, Loading, judged


def loading(at_once=1, after=1, cold=(0, 0), **terms):
    """What was counted."""
    first, then = (
        Counts(what, loads, each)
        for what, loads, each in zip(("9 at once", "50 more"), (at_once, after), cold, strict=True)
    )
    return Loading(0, first, then, **terms)


KEPT = {"requests": 40, "noise": 1_000}


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (loading(), "loaded once for 9 at once and 50 more, warm"),
        (loading(2, 2), "loaded 2 times for 9 at once, limit 1"),
        (loading(1, 2), "loaded 2 times for 9 at once and 50 more, limit 1"),
        (loading(cold=(1, 1)), "the model had never run when 1 asked it, limit 0"),
        (loading(cold=(0, 3)), "the model had never run when 3 asked it, limit 0"),
        (
            loading(memory=[0, 10_000, 20_000, 30_000, 41_000], **KEPT),
            "loaded once for 9 at once and 50 more, warm, 1.0 kB kept of each",
        ),
        (
            loading(memory=[0, 10_000, 20_000, 30_000, 41_001], **KEPT),
            "40 requests left 1.0 kB each in memory, limit 1.0 kB",
        ),
        (
            loading(memory=[0, 90_000, 90_000, 90_000, 90_000], **KEPT),
            "loaded once for 9 at once and 50 more, warm, 2.2 kB kept of each",
        ),
        (
            loading(memory=[0, 20_000, 40_000, 60_000, 80_000], requests=40, noise=40_000),
            "loaded once for 9 at once and 50 more, warm, 1.0 kB kept of each",
        ),
        (
            loading(memory=[0, 20_000, 40_000, 60_000, 80_000], requests=40, noise=40_001),
            "loaded once for 9 at once and 50 more, warm, too few to see what is kept",
        ),
        (
            loading(memory=[0, 21_000, 42_000, 63_000, 84_000], requests=40, noise=40_001),
            "40 requests left 1.1 kB each in memory, limit 1.0 kB",
        ),
    ],
)
def test_limits(found, says):
    """One load, none that is cold, and so much memory; what was taken all at once is no leak."""
    outcome = judged(found, "GET /", 1_000)
    assert outcome.headline == says
    assert outcome.verdict == ("exceeded" if "limit" in says else "within")


def test_what_is_kept_is_told_where_it_is_seen():
    """Where what may not be kept is less than what is no growth, it is no figure."""
    few, enough = (
        judged(loading(memory=[0, 9, 9, 9, 9], requests=40, noise=noise), "GET /", 1_000)
        for noise in (40_001, 40_000)
    )
    assert few.figures.bytes == {}
    assert enough.figures.bytes == {"kept per request": 0}


def test_a_line_is_told_before_the_request():
    """Where it is known."""
    line = Line("shop.py:3 in answer", "model = load()")
    assert (
        "where  shop.py:3 in answer: model = load()"
        in judged(loading(2, 2, line=line), "GET /", 1_000).message
    )
