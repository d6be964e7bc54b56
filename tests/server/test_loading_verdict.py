"""Tests of the verdict of `assert_loaded_once`, on plain numbers instead of a server.

The check counts how often a server loads its model, and how much memory it keeps for each request.
A cold answer is an answer by a model that had never run before.
"""

import pytest

from pytest_streamperf._runtime.context import Line
from pytest_streamperf.server.loading import LoadCounts, LoadMeasurement, verdict_on_loads


def measurement(at_once=1, after=1, cold=(0, 0), **fields):
    """Return a measurement with these loads and cold answers after 9 clients and after 50 more."""
    first, later = (
        LoadCounts(clients, loads, cold_answers)
        for clients, loads, cold_answers in zip(
            ("9 clients at once", "50 more"), (at_once, after), cold, strict=True
        )
    )
    return LoadMeasurement(0, first, later, **fields)


FORTY_REQUESTS = {"requests": 40, "noise": 1_000}


@pytest.mark.parametrize(
    ("evidence", "headline"),
    [
        (measurement(), "1 load for 9 clients at once and 50 more, warm"),
        (measurement(2, 2), "2 loads for 9 clients at once, limit 1"),
        (measurement(1, 2), "2 loads for 9 clients at once and 50 more, limit 1"),
        (measurement(cold=(1, 1)), "1 of the requests reached a model that had never run, limit 0"),
        (measurement(cold=(0, 3)), "3 of the requests reached a model that had never run, limit 0"),
        (
            measurement(memory=[0, 10_000, 20_000, 30_000, 41_000], **FORTY_REQUESTS),
            "1 load for 9 clients at once and 50 more, warm, 1.0 kB kept for each",
        ),
        (
            measurement(memory=[0, 10_000, 20_000, 30_000, 41_001], **FORTY_REQUESTS),
            "40 requests left 1.0 kB each in memory, limit 1.0 kB",
        ),
        (
            measurement(memory=[0, 90_000, 90_000, 90_000, 90_000], **FORTY_REQUESTS),
            "1 load for 9 clients at once and 50 more, warm, 2.2 kB kept for each",
        ),
        (
            measurement(memory=[0, 20_000, 40_000, 60_000, 80_000], requests=40, noise=40_000),
            "1 load for 9 clients at once and 50 more, warm, 1.0 kB kept for each",
        ),
        (
            measurement(memory=[0, 20_000, 40_000, 60_000, 80_000], requests=40, noise=40_001),
            "1 load for 9 clients at once and 50 more, warm, too few to see leaks",
        ),
        (
            measurement(memory=[0, 21_000, 42_000, 63_000, 84_000], requests=40, noise=40_001),
            "40 requests left 1.1 kB each in memory, limit 1.0 kB",
        ),
    ],
)
def test_limits(evidence, headline):
    """The limits are one load, no cold answer, and 1,000 bytes of steady growth for each request.

    Memory that grows in one half of the readings only is no leak.
    """
    verdict = verdict_on_loads(evidence, "GET /", 1_000)
    assert verdict.headline == headline
    assert verdict.verdict == ("exceeded" if "limit" in headline else "within")


def test_what_is_kept_is_told_where_it_is_seen():
    """The verdict has a figure for kept memory only where the ignored noise is below the limit."""
    few, enough = (
        verdict_on_loads(
            measurement(memory=[0, 9, 9, 9, 9], requests=40, noise=noise), "GET /", 1_000
        )
        for noise in (40_001, 40_000)
    )
    assert few.figures.bytes == {}
    assert enough.figures.bytes == {"kept per request": 0}


def test_a_line_is_told_before_the_request():
    """The failure message shows the line that loads the model, and not the request."""
    line = Line("shop.py:3 in answer", "model = load()")
    assert (
        "where  shop.py:3 in answer: model = load()"
        in verdict_on_loads(measurement(2, 2, line=line), "GET /", 1_000).message
    )
