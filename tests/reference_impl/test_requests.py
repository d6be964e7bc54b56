"""Tests of refused requests: the error names the reason and the allowed input.

After a refused request, the reference server keeps serving.
"""

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
    """Yield the URL of a reference server that all tests of this module share."""
    with serve_app(create_app()) as url:
        yield url


def serves_a_turn(url: str) -> bool:
    """Return whether the server still completes a turn of the agent."""
    return httpx.post(url + RUN, json=BODY).text.endswith('{"text": "Word count: 3."}\n\n')


def connect(url: str, request: str) -> socket.socket:
    """Open a socket to the server, send the raw request, and return the socket."""
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


@pytest.mark.parametrize(
    ("body", "status", "error_type", "message"), REQUESTS.values(), ids=REQUESTS
)
def test_a_bad_body_is_refused(
    demo: str, body: bytes, status: int, error_type: str, message: str
) -> None:
    """A malformed body is refused, and the error names the fault and the allowed shape."""
    response = httpx.post(demo + RUN, content=body)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["type"] == error_type
    assert message in error["message"]
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
    """The error for an unknown agent or path, or a wrong method, lists the allowed ones."""
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
    """A body is refused at the first byte over the limit, without waiting for the rest."""
    with serve_app(create_app(max_body=100)) as url:
        request = f"POST {RUN} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{framing}"
        with connect(url, request) as connection, connection.makefile("rb") as response:
            response_text = response.read().decode()
        assert serves_a_turn(url)
    assert response_text.startswith("HTTP/1.1 413 ")
    assert response_text.endswith(
        '{"error":{"type":"body_too_large","message":"the body is too large, allowed: 100 bytes"}}'
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"engine": "gpt"}, TypeError, "engine='gpt': must be a callable"),
        ({"heartbeat": 0}, ValueError, "heartbeat=0: must be more than 0"),
        ({"heartbeat": float("nan")}, ValueError, "heartbeat=nan: must be more than 0"),
        ({"max_body": -1}, ValueError, "max_body=-1: must be more than 0"),
    ],
)
def test_a_bad_argument_is_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """`create_app` refuses an invalid argument by name, and says which values are allowed."""
    with pytest.raises(error, match=message):
        create_app(**options)


def test_a_client_that_leaves_before_its_request_is_whole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A client that disconnects in the middle of its request causes no log record."""
    with serve_app(create_app()) as url:
        with connect(url, f"POST {RUN} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{{"):
            pass
        assert serves_a_turn(url)
    assert not caplog.records
