"""Tests of `assert_loaded_once`, on the reference server with each regression, and on small apps.

The check fails for a server that loads its model twice or keeps memory for each request. It also
fails for a cold answer: an answer by a model that had never run before.
"""

import asyncio
import os
import sys
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from pytest_streamperf import NothingMeasured, ServerExceeded
from pytest_streamperf.server import LoadCounter, Request, assert_loaded_once
from pytest_streamperf.server.serving import Door
from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app, curves, regressed
from tests.failure_messages import headline_of
from tests.matrix.reference_server import MODEL

PRICES = Request("POST", "/api/ai/maparse", {"prices": [n / 7 for n in range(100)]})
# Few clients and requests keep the tests fast.
FEW = {"clients": 5, "requests": 5}


@pytest.fixture
def app():
    """Return the reference server."""
    return create_app()


@pytest.fixture(params=["onnx", "numpy"])
def runtime(request, monkeypatch):
    """Run the test with ONNX Runtime, and again as if that were not installed."""
    if request.param == "numpy":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)


# -- the reference server


@pytest.mark.usefixtures("runtime")
def test_loaded_once(app):
    """The reference server passes: one load, no cold answer, and no memory kept for requests."""
    verdict = assert_loaded_once(app, PRICES, **MODEL, clients=10, requests=50)
    assert verdict.headline.startswith("1 load for 10 clients at once and 50 more, warm, ")
    assert verdict.figures.counts == {"loads": 1, "cold": 0}
    assert verdict.figures.bytes["kept per request"] < 1024


def test_loaded_once_by_default(app):
    """By default, the check sends 20 requests at once and 1,000 more; the server passes."""
    verdict = assert_loaded_once(app, PRICES, **MODEL)
    assert verdict.headline.startswith("1 load for 20 clients at once and 1,000 more, warm, ")
    assert verdict.figures.bytes["kept per request"] < 100


@pytest.mark.parametrize(
    ("regression", "message", "row"),
    [
        ("load-per-request", "10 loads for 5 clients at once and 5 more", "5 more      10      0"),
        ("thundering-herd", "5 loads for 5 clients at once", "5 clients at once       5      0"),
    ],
)
def test_loaded_too_often(app, regression, message, row):
    """A load for each request, or for each of the first clients, exceeds the limit of one."""
    with regressed(regression), pytest.raises(ServerExceeded) as caught:
        assert_loaded_once(app, PRICES, **MODEL, **FEW)
    assert headline_of(caught) == f"{message}, limit 1"
    assert f"{row}   <- here" in str(caught.value)


@pytest.mark.usefixtures("runtime")
def test_not_warmed_up(app):
    """A model that has not run before the first request makes at least one answer cold."""
    with regressed("no-warm-up"), pytest.raises(ServerExceeded) as caught:
        assert_loaded_once(app, PRICES, **MODEL, **FEW)
    assert headline_of(caught).endswith(
        " of the requests reached a model that had never run, limit 0"
    )
    assert caught.value.verdict.figures.counts["cold"] >= 1


def test_what_is_kept_of_each_request(app):
    """Inputs that the server keeps exceed the memory limit, and the message names the line."""
    with regressed("inputs-kept"), pytest.raises(ServerExceeded) as caught:
        assert_loaded_once(app, PRICES, **MODEL, clients=5, requests=20)
    assert "16 requests left " in headline_of(caught)
    assert "where  maparse.py:" in str(caught.value)


def test_by_its_url(app):
    """A server by URL must be fresh or load at its start; its memory is read with `pid`."""
    with serve_app(app) as url:
        verdict = assert_loaded_once(url, PRICES, **MODEL, pid=os.getpid(), **FEW)
        assert verdict.headline.endswith(", warm, too few to see leaks")
        with pytest.raises(NothingMeasured, match="loads before the first request was 1"):
            assert_loaded_once(url, PRICES, **MODEL, **FEW)
        verdict = assert_loaded_once(url, PRICES, **MODEL, loaded="at start", **FEW)
    assert verdict.headline == "1 load for 5 clients at once and 5 more, warm"


def test_the_line_that_loads(app, monkeypatch):
    """The failure message shows the line that loads, if a `LoadCounter` counts the loads."""
    loads = LoadCounter(curves.load)
    monkeypatch.setattr(curves, "load", loads)
    with regressed("load-per-request"), pytest.raises(ServerExceeded) as caught:
        assert_loaded_once(app, PRICES, loads=loads, **FEW)
    assert headline_of(caught) == "10 loads for 5 clients at once and 5 more, limit 1"
    assert "in _ready: model = Model(curves.load())" in str(caught.value)


# -- small apps


class Shop:
    """A small server that loads a model and publishes the number of its loads.

    It loads the model `at_start` times before it listens. With `counts` 0 it publishes no loads.
    """

    def __init__(self, *, at_start=0, counts=1):
        self.loads = LoadCounter(dict)
        self.model, self.counts = None, counts
        for _ in range(at_start):
            self.model = self.loads()

    async def answer(self, _request):
        """Load the model at the first request; there is no await, so one load is enough."""
        if self.model is None:
            self.model = self.loads()
        return JSONResponse({})

    async def status(self, _request):
        """Answer with the number of loads."""
        return JSONResponse({"model": {"loads": self.counts * self.loads.count}})

    def app(self, **options):
        """Return the ASGI app, with `options` of Starlette."""
        routes = [Route("/", self.answer), Route("/status", self.status)]
        return Starlette(routes=routes, **options)


ROOT = Request("GET", "/")
OTHER = {**FEW, "read": "/status", "loads": "loads"}


def test_a_server_that_does_not_count_cold_answers():
    """The check looks at loads alone if the server does not count cold answers."""
    verdict = assert_loaded_once(Shop().app(), ROOT, **OTHER)
    assert verdict.headline.startswith("1 load for 5 clients at once and 5 more, too few")
    assert "cold" not in verdict.figures.counts


def test_loads_that_are_counted_here():
    """A `LoadCounter` counts the loads of a server that publishes no metrics."""
    shop = Shop()
    verdict = assert_loaded_once(shop.app(), ROOT, loads=shop.loads, **FEW)
    assert verdict.verdict == "within"
    assert shop.loads.line.where.startswith("test_loading.py:")


def test_metrics_that_a_function_returns():
    """The check accepts a function that returns the metrics instead of their path."""
    shop = Shop()
    read = lambda: {"loads": shop.loads.count, "cold": 0}  # noqa: E731 - users write it so
    assert (
        assert_loaded_once(shop.app(), ROOT, **MODEL | {"read": read}, **FEW).figures.counts["cold"]
        == 0
    )


def test_a_server_that_loads_as_it_starts():
    """A server that loads in its lifespan passes with `loaded="at start"`."""
    shop = Shop()

    @asynccontextmanager
    async def lifespan(_app):
        shop.model = shop.loads()
        yield

    app = shop.app(lifespan=lifespan)
    assert assert_loaded_once(app, ROOT, loaded="at start", **OTHER).verdict == "within"


def test_a_server_that_loads_twice_as_it_starts():
    """Two loads before the first request exceed the limit of one."""
    with pytest.raises(ServerExceeded, match="2 loads before the first request, limit 1"):
        assert_loaded_once(Shop(at_start=2).app(), ROOT, loaded="at start", **OTHER)


def test_all_of_the_first_come_in_at_once():
    """The first clients are all inside the app before any of them gets an answer."""
    inside, peak = 0, 0

    async def answer(_request):
        nonlocal inside, peak
        inside += 1
        peak = max(peak, inside)
        await asyncio.sleep(0)
        inside -= 1
        return JSONResponse({})

    loads = iter([0, 1, 1])
    app = Starlette(routes=[Route("/", answer)])
    arguments = {
        "read": lambda: {"loads": next(loads)},
        "loads": "loads",
        "clients": 30,
        "requests": 5,
    }
    assert assert_loaded_once(app, ROOT, **arguments).verdict == "within"
    assert peak == 30


def test_the_first_come_with_whole_bodies():
    """The first requests enter the app together, with whole bodies; later ones do not wait.

    An app that reads the body before anything else would otherwise still separate the clients.
    """
    entered, bodies = [], []

    async def app(scope, receive, _send):
        entered.append(scope)
        bodies.append([await receive(), await receive()])

    async def main():
        door, last_part = Door(app), asyncio.Event()
        door.close(2)

        async def receive(parts):
            if len(parts) == 1:
                await last_part.wait()
            return parts.pop(0)

        def client():
            parts = [{"body": b"1", "more_body": True}, {"body": b"2"}]
            return asyncio.create_task(door({}, lambda: receive(parts), None))

        clients = [client(), client()]
        for _ in range(5):
            await asyncio.sleep(0)
        assert not entered
        last_part.set()
        await asyncio.gather(*clients, client())

    asyncio.run(main())
    assert bodies == [[{"body": b"1", "more_body": True}, {"body": b"2"}]] * 3


# -- nothing to measure


@pytest.mark.parametrize(
    ("shop", "request_", "arguments", "message"),
    [
        (Shop(counts=0), ROOT, {}, "GET / was answered, and no load was counted"),
        (Shop(at_start=1), ROOT, {}, "loads before the first request was 1"),
        (Shop(), ROOT, {"loaded": "at start"}, "loads before the first request was 0"),
        (Shop(), Request("GET", "/no"), {}, "GET /no answers 404"),
        (Shop(), ROOT, {"read": "/no"}, "GET /no answers 404"),
    ],
)
def test_nothing_is_measured(shop, request_, arguments, message):
    """Loads that are not counted or come too early, and unknown paths, raise `NothingMeasured`."""
    with pytest.raises(NothingMeasured, match=message):
        assert_loaded_once(shop.app(), request_, **OTHER | arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clients": 1}, "clients must be 2 or more, not 1"),
        ({"requests": 4}, "requests must be 5 or more, not 4"),
        ({"loaded": "now"}, "loaded must be 'on first use' or 'at start', not 'now'"),
        ({"cold": "frozen"}, "'frozen' is none of the numbers in the metrics: model.loads"),
    ],
)
def test_arguments_that_are_refused(arguments, message):
    """An argument outside its range raises an error that names the allowed values."""
    with pytest.raises(ValueError, match=message):
        assert_loaded_once(Shop().app(), ROOT, **OTHER | arguments)
