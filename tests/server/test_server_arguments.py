"""Tests of the arguments of all server checks: times and sizes with a unit, and joint arguments.

Server checks are the functions of `pytest_streamperf.server`, such as `assert_backpressure`.
"""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from pytest_streamperf.server import (
    Request,
    assert_atomic_reads,
    assert_backpressure,
    assert_gauges_settle,
    assert_loaded_once,
    assert_responsive,
    assert_stops,
    assert_streamed,
    assert_survives,
)

ROOT = Request("GET", "/")
APP = Starlette(routes=[Route("/", lambda _: PlainTextResponse("x" * 2_000))])

CHECKS = {
    ("assert_gauges_settle", "within"): lambda value: assert_gauges_settle(
        APP, requests=[ROOT], read="/metrics", gauges=["in_flight"], within=value
    ),
    ("assert_backpressure", "max_kept"): lambda value: assert_backpressure(
        APP, "/ws", publish="/", max_kept=value
    ),
    ("assert_backpressure", "idle"): lambda value: assert_backpressure(
        APP, "/ws", publish="/", idle=value
    ),
    ("assert_backpressure", "within"): lambda value: assert_backpressure(
        APP, "/ws", publish="/", within=value
    ),
    ("assert_survives", "within"): lambda value: assert_survives(
        APP, requests=[ROOT], within=value
    ),
    ("assert_loaded_once", "max_kept"): lambda value: assert_loaded_once(
        APP, ROOT, read="/", loads="loads", max_kept=value
    ),
    ("assert_streamed", "max_chunk"): lambda value: assert_streamed(APP, ROOT, max_chunk=value),
    ("assert_responsive", "max_stall"): lambda value: assert_responsive(
        APP, ROOT, beside=ROOT, max_stall=value
    ),
    ("assert_stops", "within"): lambda value: assert_stops(["true"], ROOT, within=value),
    ("assert_atomic_reads", "within"): lambda value: assert_atomic_reads(
        lambda _: None, lambda: [0], within=value
    ),
}


@pytest.mark.parametrize(("value", "error"), [("5 parsecs", ValueError), ([], TypeError)])
@pytest.mark.parametrize("check", CHECKS, ids="-".join)
def test_a_wrong_time_or_size_is_named(check, value, error):
    """A time or size that cannot be read raises an error with the argument's name and value."""
    with pytest.raises(
        error, match=rf"^{check[1]} must be .* not {value!r}".replace("[]", r"\[\]")
    ):
        CHECKS[check](value)


@pytest.mark.parametrize(("number", "text"), [(2_100, "2.1kB"), (2**20, "1MiB")])
def test_a_size_with_a_unit_is_the_same_limit(number, text):
    """A size limit as a text with a unit equals the same limit as a number of bytes."""
    results = [assert_streamed(APP, ROOT, max_chunk=limit) for limit in (number, text)]
    assert results[0].figures.limits == results[1].figures.limits
    assert {result.verdict for result in results} == {"within"}


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: assert_backpressure(APP, "/ws", publish="/", read="/m"), "read= and gauge= go"),
        (lambda: assert_backpressure(APP, "/ws", publish="/", gauge="n"), "read= and gauge= go"),
        (lambda: assert_survives(APP, requests=[ROOT], read="/m"), "read= and gauges= go together"),
        (lambda: assert_survives(APP, requests=[ROOT], gauges=["n"]), "read= and gauges= go"),
        (lambda: assert_loaded_once(APP, ROOT, loads="loads"), "read= is needed: .* hold loads"),
        (
            lambda: assert_gauges_settle(APP, requests=[ROOT], read="/m", gauges=[]),
            "gauges and totals are both empty",
        ),
    ],
)
def test_names_need_metrics_and_metrics_need_names(check, message):
    """A check needs the place of the metrics and the names of its numbers together, or neither."""
    with pytest.raises(ValueError, match=message):
        check()
