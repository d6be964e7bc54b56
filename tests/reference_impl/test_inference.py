"""The model that sees curves, served: what is answered, and that it is loaded once."""

import asyncio
import subprocess
import sys
import threading

import httpx
import numpy as np
import pytest

from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app, curves
from reference_impl.inference import Cached, loaded


@pytest.fixture(params=["onnx", "numpy"])
def runtime(request, monkeypatch):
    """With ONNX Runtime, and as if it were not installed."""
    if request.param == "numpy":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    return request.param


@pytest.fixture
def server():
    """The URL of a server that nobody has asked."""
    with serve_app(create_app()) as url:
        yield url


def asked(url, prices):
    """What it says of prices."""
    return httpx.post(f"{url}/api/ai/maparse", json={"prices": prices})


def status(url):
    """What it says of the model."""
    return httpx.get(f"{url}/api/ai/models/status").json()["models"]["curve-detection"]


# -- the server


def test_curves_are_found(server, runtime):
    """By either runtime, one for each window."""
    answer = asked(server, [*range(100, 116), *range(116, 100, -1)])
    told = answer.json()
    assert (told["model"], told["runtime"]) == ("curve-detection", runtime)
    seen = [(each["start"], each["end"], each["kind"]) for each in told["curves"]]
    assert seen == [(0, 16, "rising"), (8, 24, "peak"), (16, 32, "falling")]
    assert sum(told["curves"][0]["scores"].values()) == pytest.approx(1)
    assert float(answer.headers["x-inference-time"].removesuffix("ms")) > 0
    assert answer.headers["access-control-expose-headers"] == "X-Inference-Time"


def test_the_status_says_what_was_done(server, runtime):
    """Nothing at first; then one load, and whatever was asked."""
    before = status(server)
    assert (before["loaded"], before["warmupComplete"], before["loads"]) == (False, False, 0)
    for _ in range(3):
        asked(server, [1.0] * 16)
    after = status(server)
    assert after.pop("totalInferenceTime") == pytest.approx(3 * after.pop("avgInferenceTime"))
    assert after == {
        "loaded": True,
        "warmupComplete": True,
        "runtime": runtime,
        "loads": 1,
        "failures": 0,
        "inferenceCount": 3,
        "cold": 0,
    }
    whole = httpx.get(f"{server}/api/ai/models/status")
    assert whole.json()["summary"] == {"total": 1, "loaded": 1, "ready": 1}
    assert whole.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "the body is not JSON"),
        (b"[1]", 422, "the body has no prices: [1]"),
        (b'{"prices": "16"}', 422, "the body has no prices"),
        (b'{"prices": [1, 2]}', 422, "there are 2 prices"),
        (b'{"prices": [' + b"1," * 4096 + b"1]}", 422, "there are 4,097 prices"),
        (b'{"prices": [' + b"1," * 15 + b"NaN]}", 422, "prices[15] is nan"),
        (b'{"prices": [' + b"1," * 15 + b"-1e13]}", 422, "prices[15] is -10000000000000.0"),
        (b'{"prices": [true' + b",1" * 15 + b"]}", 422, "prices[0] is True"),
        (b'{"prices": ["1"' + b",1" * 15 + b"]}", 422, "prices[0] is '1'"),
    ],
)
def test_what_is_refused(server, body, status, says):
    """What is no list of so many numbers; nothing is loaded for it."""
    answer = httpx.post(f"{server}/api/ai/maparse", content=body)
    message = answer.json()["error"]["message"]
    assert answer.status_code == status
    assert says in message
    assert message.endswith('allowed: {"prices": [16 to 4,096 numbers from -1e12 to 1e12]}')
    assert httpx.get(f"{server}/api/ai/models/status").json()["summary"]["loaded"] == 0


def test_a_body_that_is_too_large_is_refused():
    """As everywhere."""
    with serve_app(create_app(max_body=100)) as url:
        assert asked(url, [1.0] * 100).status_code == 413


def test_a_model_that_cannot_be_loaded(server, monkeypatch, tmp_path, caplog):
    """Is told and logged, and does not stay so."""
    broken = tmp_path / "curve.onnx"
    broken.write_bytes(b"no model")
    with monkeypatch.context() as patch:
        patch.setattr(curves, "FILE", broken)
        answer = asked(server, [1.0] * 16)
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "model_unavailable")
    assert "the model curve-detection cannot be loaded" in caplog.text
    assert asked(server, [1.0] * 16).status_code == 200
    assert (status(server)["loads"], status(server)["failures"]) == (2, 1)


def test_nothing_is_loaded_before_anybody_asks():
    """Neither NumPy nor ONNX Runtime, so that a server starts at once."""
    code = (
        "import sys, reference_impl; from reference_impl.__main__ import main; "
        "reference_impl.create_app(debug=True); "
        "print(sorted({'numpy', 'onnx', 'onnxruntime'} & sys.modules.keys()))"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout == "[]\n"


# -- the cache


class Held:
    """Loads when it is told to; it notes the threads that it runs in, and what it is asked."""

    def __init__(self):
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.threads, self.asked = set(), []

    def __call__(self):
        """Load."""
        self.begun.set()
        assert self.go_on.wait(30)
        return curves.Runtime("held", self.run)

    def run(self, windows):
        """Say nothing."""
        self.threads.add(threading.get_ident())
        self.asked.append(len(windows))
        return np.zeros((len(windows), 5))


@pytest.fixture
def held(monkeypatch):
    """What loads the model, held back."""
    held = Held()
    monkeypatch.setattr(curves, "load", held)
    yield held
    held.go_on.set()


async def waiting(cached, clients):
    """So many who wait for it, now."""
    tasks = [asyncio.create_task(loaded(cached)) for _ in range(clients)]
    await asyncio.sleep(0)
    return tasks


def test_all_wait_for_one_load(held):
    """Also when the first to ask leaves, and others do; it is warm by the time that they get it."""

    async def main():
        cached = Cached()
        first, *others = await waiting(cached, 100)
        await asyncio.to_thread(held.begun.wait, 30)
        first.cancel()
        others.pop().cancel()
        others += await waiting(cached, 10)
        held.go_on.set()
        return cached, await asyncio.gather(*others)

    cached, models = asyncio.run(main())
    assert len(models) == 108
    assert set(map(id, models)) == {id(cached.model)}
    assert (cached.loads, held.asked, cached.model.warm) == (1, [1], True)


def test_a_load_goes_on_when_all_have_left(held):
    """Whoever comes then finds it."""

    async def main():
        cached = Cached()
        for each in await waiting(cached, 3):
            each.cancel()
        held.go_on.set()
        return cached, await loaded(cached)

    cached, model = asyncio.run(main())
    assert model is cached.model
    assert cached.loads == 1


def test_a_load_that_fails_fails_once_for_all_who_wait(monkeypatch, caplog):
    """And is tried again for those who come after."""

    def broken():
        raise OSError("the disk is gone")

    async def main():
        cached = Cached()
        with monkeypatch.context() as patch:
            patch.setattr(curves, "load", broken)
            got = await asyncio.gather(*await waiting(cached, 100))
        assert (cached.loads, cached.failures, set(got)) == (1, 1, {None})
        return cached, await loaded(cached)

    cached, model = asyncio.run(main())
    assert (cached.loads, cached.failures) == (2, 1)
    assert model.runtime.name == "onnx"
    assert [record.exc_text is not None for record in caplog.records] == [True]


def test_a_load_that_a_stop_cuts_off_is_begun_again(held):
    """By the next server of the same app, on a loop of its own."""
    cached = Cached()

    async def cut_off():
        await waiting(cached, 1)
        held.go_on.set()

    asyncio.run(cut_off())
    assert cached.model is None
    assert asyncio.run(loaded(cached)).warm
    assert cached.loads == 2


def test_the_event_loop_is_free(held):
    """The model is loaded, warmed up and run in other threads."""
    held.go_on.set()

    async def main():
        app = create_app()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            await client.post("/api/ai/maparse", json={"prices": [1.0] * 24})

    asyncio.run(main())
    assert held.asked == [1, 2]
    assert threading.get_ident() not in held.threads
