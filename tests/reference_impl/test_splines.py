"""Splines of the reference server: three renderers that agree, with the extras and without."""

import asyncio
import json
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from itertools import pairwise

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_streamperf import NothingMeasured
from pytest_streamperf.server import Request, assert_fallback_parity, assert_responsive
from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app, splines
from tests.matrix.checks import CHAT, app, failure_of, renderers

LINE = [(0.0, 1.0), (4.0, 3.0)]
CURVE = [(0.0, 0.0), (1.0, 2.0), (3.0, 2.0), (4.0, 0.0)]
# What is not installed, and who renders then.
MISSING = {(): "wasm", ("wasmtime",): "numpy", ("wasmtime", "numpy"): "python"}
MISSING |= {("numpy",): "wasm"}


@pytest.fixture
def without(monkeypatch):
    """Has these not be installed."""

    def block(*modules):
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)

    return block


@pytest.fixture(scope="module")
def server():
    """The URL of one server for all tests that only ask it something."""
    with serve_app(create_app()) as url:
        yield url


def ask(url, points=CURVE, samples=7):
    """Ask a server for a spline."""
    return httpx.post(url + splines.PATH, json={"points": points, "samples": samples})


def pairs(body):
    """What is in an answer."""
    return list(struct.iter_unpack("<2d", body))


# -- what is rendered

RENDERERS = renderers()
SIZES = st.sampled_from([5e-324, 1e-300, 1e-9, 1.0, 1e9, splines.LARGEST])
NUMBERS = st.builds(lambda part, size: part * size, st.floats(-1, 1), SIZES) | st.sampled_from(
    [0.0, -0.0, 1.0, splines.LARGEST, -splines.LARGEST]
)
POINTS = st.tuples(NUMBERS, NUMBERS)


@settings(max_examples=30)
@given(
    st.lists(POINTS, min_size=2, max_size=12) | POINTS.map(lambda point: [point] * 3),
    st.integers(2, 60),
)
@example(LINE, 2)
@example([(splines.LARGEST, -splines.LARGEST), (-splines.LARGEST, splines.LARGEST)] * 4, 50)
@example([(5e-324, -5e-324), (0.0, 5e-324)] * 4, 50)
@example([(float(n), float(n * n)) for n in range(1_000)], 60)
@example(CURVE, splines._PIECE + 1)
def test_all_renderers_agree(points, samples):
    """To the last bit, whatever the points, which is well within 1e-6 of the largest coordinate."""
    assert list(RENDERERS) == ["wasm", "numpy", "python"]
    assert (
        assert_fallback_parity(RENDERERS, inputs=[(points, samples)], tolerance=0).verdict
        == "within"
    )


@pytest.mark.parametrize("name", RENDERERS)
def test_a_spline_goes_through_its_points(name):
    """Exactly, where a sample falls on one; the last is one."""
    found = list(RENDERERS[name]((CURVE, 3 * 5 + 1)))
    assert found[::5] == CURVE


@pytest.mark.parametrize("name", RENDERERS)
def test_two_points_make_a_line(name):
    """Sampled evenly."""
    found = list(RENDERERS[name]((LINE, 5)))
    assert found == [(0.0, 1.0), (1.0, 1.5), (2.0, 2.0), (3.0, 2.5), (4.0, 3.0)]


@pytest.mark.parametrize("name", RENDERERS)
def test_the_tangent_at_a_point(name):
    """Is half of the way from the point before to the one behind it: so Catmull and Rom have it."""
    found = list(RENDERERS[name]((CURVE, 3 * 10_000 + 1)))
    for (x0, y0), (x1, y1) in pairwise(found[9_999:10_002]):
        assert (x1 - x0) * 10_000 == pytest.approx(1.5, abs=1e-3)
        assert (y1 - y0) * 10_000 == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("name", RENDERERS)
def test_pieces_are_small(name):
    """Whatever is asked for, and however soon nobody wants the rest."""
    pieces = dict(splines.available())[name](CURVE, splines.MOST_SAMPLES)
    assert len(next(pieces)) <= splines._PIECE * 16
    pieces.close()


@pytest.mark.parametrize("name", RENDERERS)
def test_two_at_the_same_time(name):
    """Have nothing in common: piece by piece in turns, each is what it is by itself."""
    render = dict(splines.available())[name]
    samples = 2 * splines._PIECE
    one, other = zip(*zip(render(CURVE, samples), render(LINE, samples), strict=True), strict=True)
    assert b"".join(one) == b"".join(render(CURVE, samples))
    assert b"".join(other) == b"".join(render(LINE, samples))


# -- what is answered


@pytest.mark.parametrize(("missing", "renderer"), MISSING.items())
def test_an_answer(without, missing, renderer):
    """The same whoever renders it, and it is told who did."""
    without(*missing)
    with serve_app(create_app()) as url:
        answer = ask(url)
    assert answer.status_code == 200
    assert {
        "content-type": "application/octet-stream",
        "content-length": str(7 * 16),
        "x-renderer": renderer,
        "x-samples": "7",
        "access-control-expose-headers": "X-Renderer, X-Samples",
    }.items() <= dict(answer.headers).items()
    assert pairs(answer.content)[::2] == CURVE


def test_many_pieces(server):
    """Come in order, and none is missing."""
    found = pairs(ask(server, samples=3 * 20_000 + 1).content)
    assert found[::20_000] == CURVE
    assert max(abs(x1 - x0) for (x0, _), (x1, _) in pairwise(found)) < 1e-3


@pytest.mark.parametrize("text", ["(module", "(module)", "(module (memory (export {m}) 8 8))"])
def test_a_module_that_is_broken(tmp_path, monkeypatch, caplog, text):
    """Others render in its place, and the log says why."""
    broken = tmp_path / "broken.wat"
    broken.write_text(text.format(m='"memory"'))
    monkeypatch.setattr(splines, "_WAT", broken)
    with serve_app(create_app()) as url:
        answers = [ask(url), ask(url)]
    assert [answer.headers["x-renderer"] for answer in answers] == ["numpy"] * 2
    assert pairs(answers[0].content)[::2] == CURVE
    (record,) = caplog.records
    assert record.getMessage().startswith("splines are rendered without wasm: ")


MANY = [[0, 0]] * (splines.MOST_POINTS + 1)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ([], "the body is []"),
        ({}, "points is None"),
        ({"points": {"x": 1}}, "points is {'x': 1}"),
        ({"points": [[0, 0]], "samples": 2}, "1 points"),
        ({"points": MANY, "samples": 2}, "10,001 points"),
        ({"points": [[0, 0], [1]], "samples": 2}, "points[1] is [1]"),
        ({"points": [[0, 0], [1, 2, 3]], "samples": 2}, "points[1] is [1, 2, 3]"),
        ({"points": [[0, 0], "ab"], "samples": 2}, "points[1] is 'ab'"),
        ({"points": [[0, 0], [0, True]], "samples": 2}, "points[1] is [0, True]"),
        ({"points": [[0, 0], [0, None]], "samples": 2}, "points[1] is [0, None]"),
        ({"points": [[0, float("nan")], [0, 0]], "samples": 2}, "points[0] is [0, nan]"),
        ({"points": [[0, float("inf")], [0, 0]], "samples": 2}, "points[0] is [0, inf]"),
        ({"points": [[0, -1.1e300], [0, 0]], "samples": 2}, "points[0] is [0, -1.1e+300]"),
        ({"points": [[0, 10**400], [0, 0]], "samples": 2}, "points[0] is [0, 1000"),
        ({"points": LINE}, "samples is None"),
        ({"points": LINE, "samples": 1}, "samples is 1"),
        ({"points": LINE, "samples": 2.0}, "samples is 2.0"),
        ({"points": LINE, "samples": True}, "samples is True"),
        ({"points": LINE, "samples": splines.MOST_SAMPLES + 1}, "samples is 1000001"),
    ],
)
def test_a_body_that_is_refused(server, body, says):
    """It is told what is wrong, and what is allowed."""
    answer = httpx.post(server + splines.PATH, content=json.dumps(body))
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (422, "wrong_shape")
    assert error["message"].startswith(says)
    assert error["message"].endswith(
        'allowed: {"points": [[x, y], ...], "samples": n}, 2 to 10,000 points of numbers up to '
        "1e+300, n from 2 to 1,000,000"
    )


def test_what_is_loaded_at_the_start():
    """Neither of the extras, until a spline is asked for."""
    code = (
        "import sys, reference_impl; reference_impl.create_app(); "
        "print({'numpy', 'wasmtime'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert found.strip() == "set()"


def test_it_is_loaded_once(monkeypatch):
    """However many ask for it at the same time."""
    loaded, twice, healthy = [], threading.Event(), splines.in_wasm

    def load():
        loaded.append(1)
        if len(loaded) > 1:
            twice.set()
        twice.wait(0.2)
        return healthy()

    monkeypatch.setattr(splines, "in_wasm", load)
    with serve_app(create_app()) as url, ThreadPoolExecutor() as pool:
        answers = pool.map(lambda _: ask(url), range(3))
        assert {answer.headers["x-renderer"] for answer in answers} == {"wasm"}
    assert loaded == [1]


def test_who_leaves_early_has_all_released():
    """At once, whoever still holds the pieces: a store has 4 GB of addresses."""
    released = []

    def made():
        try:
            while True:
                yield b"a piece"
        finally:
            released.append(True)

    async def leave(pieces):
        async with aclosing(splines.off_the_loop(pieces)) as sent:
            await anext(sent)
        assert released

    asyncio.run(leave(made()))


# -- the checks, with the extras and without


@pytest.mark.alone
@pytest.mark.parametrize("missing", [each for each in MISSING if len(each) < 2])
def test_streams_go_on_beside_a_spline(without, missing):
    """The largest that may be asked for; without both extras the matrix of regressions has it."""
    without(*missing)
    largest = {"points": CURVE, "samples": splines.MOST_SAMPLES}
    asked = Request("POST", splines.PATH, largest)
    assert assert_responsive(app(3_000), asked, beside=CHAT).verdict == "within"


@pytest.mark.parametrize("missing", [each for each in MISSING if len(each) < 2])
def test_a_fallback_that_differs(without, missing):
    """Is caught, and named, wherever there is another to hold it against."""
    without(*missing)
    assert not failure_of("assert_fallback_parity")
    assert failure_of("assert_fallback_parity", "spline-fallback-differs").startswith(
        "python differs from "
    )
    assert not failure_of("assert_fallback_parity", "spline-on-the-loop")


def test_a_fallback_with_nobody_beside_it(without):
    """Is not green: without the extras nothing is proven."""
    without("wasmtime", "numpy")
    with pytest.raises(NothingMeasured, match="python has no other implementation to agree with"):
        failure_of("assert_fallback_parity")
