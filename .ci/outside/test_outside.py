"""A project of somebody else's, with the wheel installed: what it expects to work."""

import struct
import subprocess
import sys
from importlib.util import find_spec

import httpx
import pytest

from pytest_streamperf import GrowthExceeded


def test_linear(assert_linear):
    assert_linear(lambda stream: "".join(stream))


def test_quadratic(assert_linear):
    class Reply:
        text = ""

    def consume(stream):
        reply = Reply()
        for delta in stream:
            reply.text += delta

    with pytest.raises(GrowthExceeded, match=r"test_outside.py:\d+ in .*consume"):
        assert_linear(consume)


def test_the_reference_server(agent_server, assert_linear):
    """What blame says of a server that is installed, too: the wheel carries it."""
    agent_server.regress("quadratic-accumulator")

    def consume(stream):
        agent_server.engine = lambda _: stream
        body = {"messages": [{"role": "user", "content": "Tell me a story."}]}
        with httpx.stream("POST", f"{agent_server.url}/agents/demo/run", json=body) as response:
            for _ in response.iter_bytes():
                pass

    with pytest.raises(GrowthExceeded, match=r"regressions.py:\d+ in QuadraticReply.feed"):
        assert_linear(consume, up_to=4_000, seconds=4.0)  # sockets take their time


def test_a_model_without_its_runtime(agent_server):
    """Curves are found where ONNX Runtime is not installed; the wheel carries what that would load."""
    from importlib.util import find_spec

    from reference_impl import curves

    answer = httpx.post(f"{agent_server.url}/api/ai/maparse", json={"prices": [*range(1, 17)]})
    found = answer.json()
    assert (find_spec("onnxruntime"), found["runtime"]) == (None, "numpy")
    assert [each["kind"] for each in found["curves"]] == ["rising"]
    assert curves.FILE.stat().st_size > 0


def test_the_reference_server_has_a_page(agent_server):
    """The wheel carries its markup, its style and its scripts."""
    for path in ("/", "/page/page.css", "/page/page.js", "/page/streams.js"):
        assert httpx.get(agent_server.url + path).status_code == 200


def test_a_report_has_a_page(tmp_path):
    """The wheel carries the template, the style and the script."""
    tmp_path.joinpath("test_it.py").write_text("def test_it(): pass\n")
    streamperf = [sys.executable, "-m", "pytest_streamperf"]
    for command in (
        [sys.executable, "-m", "pytest", "-p", "streamperf", "--streamperf-json=run.json"],
        [*streamperf, "report", "run.json", "--html", "page.html"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True)
    page = tmp_path.joinpath("page.html").read_text(encoding="utf-8")
    assert "nothing was checked" in page
    assert "vegaEmbed" in page


def test_a_spline_without_the_extra(agent_server):
    """NumPy renders where wasmtime is not installed."""
    assert find_spec("wasmtime") is None
    body = {"points": [[0, 1], [4, 3]], "samples": 3}
    response = httpx.post(f"{agent_server.url}/api/render/spline", json=body)
    assert response.headers["x-renderer"] == "numpy"
    assert [*struct.iter_unpack("<2d", response.content)] == [(0, 1), (2, 2), (4, 3)]
