"""What the reference server refuses, and how: it says why, and keeps serving."""

import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app

BODY = {"messages": [{"role": "user", "content": "one two three"}]}
RUN = "/agents/demo/run"
PATHS = (
    "/agents/{id}/run, /v1/chat/completions, /messages, /v1/messages, /v1/models, "
    "/api/ai/maparse, /api/ai/models/status, /api/render/spline, /ws/telemetry, "
    "/, /page/about, /page/tool-calls, /page/{file}"
)


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    """Return the URL of one server for all tests that only ask it something."""
    with serve_app(create_app()) as url:
        yield url


def serves(url: str) -> bool:
    """Tell whether a server does a whole turn."""
    return httpx.post(url + RUN, json=BODY).text.endswith('{"text": "Word count: 3."}\n\n')


def connect(url: str, request: str) -> socket.socket:
    """Connect to a server and send a request as it is."""
    address = urlsplit(url)
    connection = socket.create_connection((address.hostname, address.port), timeout=30)
    connection.sendall(request.encode())
    return connection


REQUESTS = {
    "malformed": (b"{", 400, "malformed_json", "Expecting property name"),
    "empty": (b"", 400, "malformed_json", "Expecting value"),
    "not UTF-8": (b'"\xff"', 400, "malformed_json", "can't decode byte 0xff"),
    "too deep": (b"[" * 200_000, 400, "malformed_json", "recursion"),
    "no object": (b"[]", 422, "wrong_shape", "has no messages: []"),
    "no messages": (b'{"message": "hi"}', 422, "wrong_shape", "messages: {'message': 'hi'}"),
    "no list": (b'{"messages": "hi"}', 422, "wrong_shape", "has no messages"),
    "none": (b'{"messages": []}', 422, "wrong_shape", "has no messages"),
    "no message": (b'{"messages": ["hi"]}', 422, "wrong_shape", "messages[0] is 'hi'"),
    "a wrong role": (
        b'{"messages": [{"role": "user", "content": ""}, {"role": "\\ud83d", "content": ""}]}',
        422,
        "wrong_shape",
        "messages[1] is {'content': '', 'role': '\\ud83d'}",
    ),
    "no content": (
        b'{"messages": [{"role": "user", "content": null}]}',
        422,
        "wrong_shape",
        "messages[0] is {'content': None, 'role': 'user'}",
    ),
}


@pytest.mark.parametrize(("body", "status", "kind", "says"), REQUESTS.values(), ids=REQUESTS)
def test_a_bad_body_is_refused(demo: str, body: bytes, status: int, kind: str, says: str) -> None:
    """The error says what is wrong and what is allowed."""
    response = httpx.post(demo + RUN, content=body)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["type"] == kind
    assert says in error["message"]
    assert error["message"].endswith(
        'allowed: {"messages": [{"role": "user" or "assistant", "content": string}, ...]}'
    )


@pytest.mark.parametrize(
    ("request_line", "status", "error"),
    [
        ("POST /agents/x/run", 404, ("unknown_agent", "no agent 'x', allowed: demo")),
        (
            "POST /agents/demo/run/",
            404,
            ("unknown_path", f"no path '/agents/demo/run/', allowed: {PATHS}"),
        ),
        ("POST /nope", 404, ("unknown_path", f"no path '/nope', allowed: {PATHS}")),
        (
            "GET /api/dev/metrics",
            404,
            ("unknown_path", f"no path '/api/dev/metrics', allowed: {PATHS}"),
        ),
        (
            "PUT " + RUN,
            405,
            ("wrong_method", f"method 'PUT' on '{RUN}', allowed: GET, HEAD, POST"),
        ),
    ],
)
def test_a_bad_address_is_refused(
    demo: str, request_line: str, status: int, error: tuple[str, str]
) -> None:
    """The error names the agent, path or method, and what is allowed."""
    method, path = request_line.split()
    response = httpx.request(method, demo + path)
    assert response.status_code == status
    assert response.json() == {"error": dict(zip(("type", "message"), error, strict=True))}
    assert response.headers.get("allow") == ("GET, HEAD, POST" if status == 405 else None)


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 101\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n65\r\n" + "x" * 101,
    ],
    ids=["declared", "chunked"],
)
def test_an_oversized_body_is_refused(framing: str) -> None:
    """At the first byte over the limit: the server does not wait for the rest of the body."""
    with serve_app(create_app(max_body=100)) as url:
        request = f"POST {RUN} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{framing}"
        with connect(url, request) as connection, connection.makefile("rb") as response:
            answer = response.read().decode()
        assert serves(url)
    assert answer.startswith("HTTP/1.1 413 ")
    assert answer.endswith(
        '{"error":{"type":"body_too_large","message":"the body is too large, allowed: 100 bytes"}}'
    )


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"engine": "gpt"}, TypeError, "engine='gpt': must be a callable"),
        ({"heartbeat": 0}, ValueError, "heartbeat=0: must be more than 0"),
        ({"heartbeat": float("nan")}, ValueError, "heartbeat=nan: must be more than 0"),
        ({"max_body": -1}, ValueError, "max_body=-1: must be more than 0"),
    ],
)
def test_a_bad_argument_is_refused(
    options: dict[str, Any], error: type[Exception], says: str
) -> None:
    """The error names the argument and what is allowed."""
    with pytest.raises(error, match=says):
        create_app(**options)


def test_a_client_that_leaves_before_its_request_is_whole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Half a request leaves no trace."""
    with serve_app(create_app()) as url:
        with connect(url, f"POST {RUN} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{{"):
            pass
        assert serves(url)
    assert not caplog.records
