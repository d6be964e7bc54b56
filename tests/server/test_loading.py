"""Loaded once: the reference's model, with each mistake, and servers of others."""

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
FEW = {"clients": 5, "requests": 5}


@pytest.fixture
def app():
    """The reference server."""
    return create_app()


@pytest.fixture(params=["onnx", "numpy"])
def runtime(request, monkeypatch):
    """With ONNX Runtime, and as if it were not installed."""
    if request.param == "numpy":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)


# -- the reference server


@pytest.mark.usefixtures("runtime")
def test_loaded_once(app):
    """Warm, and nothing is kept."""
    found = assert_loaded_once(app, PRICES, **MODEL, clients=10, requests=50)
    assert found.headline.startswith("loaded once for 10 at once and 50 more, warm, ")
    assert found.figures.counts == {"loads": 1, "cold": 0}
    assert found.figures.bytes["kept per request"] < 1024


def test_loaded_once_by_default(app):
    """For 20 who come at once and 1,000 more: memory is flat over these."""
    found = assert_loaded_once(app, PRICES, **MODEL)
    assert found.headline.startswith("loaded once for 20 at once and 1,000 more, warm, ")
    assert found.figures.bytes["kept per request"] < 100


@pytest.mark.parametrize(
    ("regression", "says", "row"),
    [
        ("load-per-request", "loaded 10 times for 5 at once and 5 more", "5 more      10      0"),
        ("thundering-herd", "loaded 5 times for 5 at once", "5 at once       5      0"),
    ],
)
def test_loaded_too_often(app, regression, says, row):
    """Each who asks, or each who comes first: all of them, every time."""
    with regressed(regression), pytest.raises(ServerExceeded) as caught:
        assert_loaded_once(app, PRICES, **MODEL, **FEW)
    assert headline_of(caught) == f"{says}, limit 1"
    assert f"{row}   <- here" in str(caught.value)


@pytest.mark.usefixtures("runtime")
def test_not_warmed_up(app):
    """The first of those who come at once finds it so, whoever else does."""
    with regressed("no-warm-up"), pytest.raises(ServerExceeded) as caught:
        assert_loaded_once(app, PRICES, **MODEL, **FEW)
    assert headline_of(caught).startswith("the model had never run when ")
    assert caught.value.verdict.figures.counts["cold"] >= 1


def test_what_is_kept_of_each_request(app):
    """Shows in memory, and so does the line."""
    with regressed("inputs-kept"), pytest.raises(ServerExceeded) as caught:
        assert_loaded_once(app, PRICES, **MODEL, clients=5, requests=20)
    assert "16 requests left " in headline_of(caught)
    assert "where  maparse.py:" in str(caught.value)


def test_by_its_url(app):
    """The first come as the network has them; memory is seen with the process."""
    with serve_app(app) as url:
        found = assert_loaded_once(url, PRICES, **MODEL, pid=os.getpid(), **FEW)
        assert found.headline.endswith(", warm, too few to see what is kept")
        with pytest.raises(NothingMeasured, match="1 loads were counted before the first request"):
            assert_loaded_once(url, PRICES, **MODEL, **FEW)
        found = assert_loaded_once(url, PRICES, **MODEL, loaded="at start", **FEW)
    assert found.headline == "loaded once for 5 at once and 5 more, warm"


def test_the_line_that_loads(app, monkeypatch):
    """Is told where what loads is counted."""
    loads = LoadCounter(curves.load)
    monkeypatch.setattr(curves, "load", loads)
    with regressed("load-per-request"), pytest.raises(ServerExceeded) as caught:
        assert_loaded_once(app, PRICES, loads=loads, **FEW)
    assert headline_of(caught) == "loaded 10 times for 5 at once and 5 more, limit 1"
    assert "in _ready: model = Model(curves.load())" in str(caught.value)


# -- servers of others


class Shop:
    """A server that is not ours: it loads a model, and counts that, or does not."""

    def __init__(self, *, at_start=0, counts=1):
        self.loads = LoadCounter(dict)
        self.model, self.counts = None, counts
        for _ in range(at_start):
            self.model = self.loads()

    async def answer(self, _request):
        """Have the model loaded at the first request; nobody else comes meanwhile."""
        if self.model is None:
            self.model = self.loads()
        return JSONResponse({})

    async def status(self, _request):
        """Tell how often."""
        return JSONResponse({"model": {"loads": self.counts * self.loads.count}})

    def app(self, **options):
        """All of it."""
        routes = [Route("/", self.answer), Route("/status", self.status)]
        return Starlette(routes=routes, **options)


ROOT = Request("GET", "/")
OTHER = {**FEW, "read": "/status", "loads": "loads"}


def test_a_server_that_does_not_count_cold_answers():
    """Is held to its loads alone."""
    found = assert_loaded_once(Shop().app(), ROOT, **OTHER)
    assert found.headline.startswith("loaded once for 5 at once and 5 more, too few")
    assert "cold" not in found.figures.counts


def test_loads_that_are_counted_here():
    """Without a word from the server."""
    shop = Shop()
    found = assert_loaded_once(shop.app(), ROOT, loads=shop.loads, **FEW)
    assert found.verdict == "within"
    assert shop.loads.line.where.startswith("test_loading.py:")


def test_metrics_that_a_function_returns():
    """In place of a path."""
    shop = Shop()
    read = lambda: {"loads": shop.loads.count, "cold": 0}  # noqa: E731 - as people write it
    assert (
        assert_loaded_once(shop.app(), ROOT, **MODEL | {"read": read}, **FEW).figures.counts["cold"]
        == 0
    )


def test_a_server_that_loads_as_it_starts():
    """By its lifespan."""
    shop = Shop()

    @asynccontextmanager
    async def lifespan(_app):
        shop.model = shop.loads()
        yield

    app = shop.app(lifespan=lifespan)
    assert assert_loaded_once(app, ROOT, loaded="at start", **OTHER).verdict == "within"


def test_a_server_that_loads_twice_as_it_starts():
    """Is told so, whatever it does then."""
    with pytest.raises(ServerExceeded, match="loaded 2 times before anybody asked, limit 1"):
        assert_loaded_once(Shop(at_start=2).app(), ROOT, loaded="at start", **OTHER)


def test_all_of_the_first_come_in_at_once():
    """None of them is answered before the last is there."""
    there, most = 0, 0

    async def answer(_request):
        nonlocal there, most
        there += 1
        most = max(most, there)
        await asyncio.sleep(0)
        there -= 1
        return JSONResponse({})

    loads = iter([0, 1, 1])
    app = Starlette(routes=[Route("/", answer)])
    terms = {"read": lambda: {"loads": next(loads)}, "loads": "loads", "clients": 30, "requests": 5}
    assert assert_loaded_once(app, ROOT, **terms).verdict == "within"
    assert most == 30


def test_the_first_come_with_whole_bodies():
    """So that an app that reads them first has nobody to wait for; those after them just come."""
    entered, come = [], []

    async def app(scope, receive, _send):
        entered.append(scope)
        come.append([await receive(), await receive()])

    async def main():
        door, last = Door(app), asyncio.Event()
        door.close(2)

        async def receive(parts):
            if len(parts) == 1:
                await last.wait()
            return parts.pop(0)

        def client():
            parts = [{"body": b"1", "more_body": True}, {"body": b"2"}]
            return asyncio.create_task(door({}, lambda: receive(parts), None))

        clients = [client(), client()]
        for _ in range(5):
            await asyncio.sleep(0)
        assert not entered
        last.set()
        await asyncio.gather(*clients, client())

    asyncio.run(main())
    assert come == [[{"body": b"1", "more_body": True}, {"body": b"2"}]] * 3


# -- nothing to measure


@pytest.mark.parametrize(
    ("shop", "request_", "terms", "says"),
    [
        (Shop(counts=0), ROOT, {}, "GET / was answered, and no load was counted"),
        (Shop(at_start=1), ROOT, {}, "1 loads were counted before the first request"),
        (Shop(), ROOT, {"loaded": "at start"}, "0 loads were counted before the first request"),
        (Shop(), Request("GET", "/no"), {}, "GET /no answers 404"),
        (Shop(), ROOT, {"read": "/no"}, "GET /no answers 404"),
    ],
)
def test_nothing_is_measured(shop, request_, terms, says):
    """Where nothing is counted, or was before, or there is nothing there."""
    with pytest.raises(NothingMeasured, match=says):
        assert_loaded_once(shop.app(), request_, **OTHER | terms)


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"clients": 1}, "clients must be 2 or more, not 1"),
        ({"requests": 4}, "requests must be 5 or more, not 4"),
        ({"loaded": "now"}, "loaded must be 'on first use' or 'at start', not 'now'"),
        ({"cold": "frozen"}, "'frozen' is none of model.loads"),
    ],
)
def test_arguments_that_are_refused(terms, says):
    """Say what is allowed."""
    with pytest.raises(ValueError, match=says):
        assert_loaded_once(Shop().app(), ROOT, **OTHER | terms)
