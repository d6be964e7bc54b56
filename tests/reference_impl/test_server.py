"""How the reference server starts and stops: under `serve_app`, by its command; and its import."""

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

import reference_impl
from pytest_streamperf.wire import server
from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app
from reference_impl.__main__ import main
from reference_impl.agent import Message

BODY = {"messages": [{"role": "user", "content": "one two three"}]}
RUN = "/agents/demo/run"
ROOT = Path(__file__).parents[2]


def serving() -> list[threading.Thread]:
    """Return the threads of the servers that run in this process."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("serving ")]


def test_a_server_runs_for_the_length_of_the_block() -> None:
    """It serves inside the block, in a thread that has ended after it."""
    before = serving()
    with serve_app(create_app()) as url:
        assert len(serving()) == len(before) + 1
        assert httpx.post(url + RUN, json=BODY).text.endswith('{"text": "Word count: 3."}\n\n')
    assert serving() == before


def test_a_server_stops_when_the_block_raises() -> None:
    """The thread has ended, and the error is the one that was raised."""
    before = serving()
    with pytest.raises(KeyError, match="in the block"), serve_app(create_app()):
        raise KeyError("in the block")
    assert serving() == before


def test_streams_in_flight_are_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    """A turn without end does not keep the server: its engine is closed, the log stays empty."""
    closed = threading.Event()

    async def engine(_messages: list[Message]) -> AsyncIterator[str]:
        try:
            yield "hello"
            await asyncio.Event().wait()
        finally:
            closed.set()

    before = serving()
    stack = ExitStack()
    url = stack.enter_context(serve_app(create_app(engine)))
    with stack, httpx.stream("POST", url + RUN, json=BODY) as response:
        chunks = response.iter_text()
        next(chunks)
        stack.close()
        assert closed.is_set()
        with pytest.raises(httpx.TransportError):
            next(chunks)
    assert serving() == before
    assert not caplog.records


@pytest.mark.parametrize("grace", [0.0, 5.0])
def test_a_websocket_that_is_just_being_closed(grace: float) -> None:
    """The server stops as ever: its thread raises nothing, and its app is told."""
    key = b"dGhlIHNhbXBsZSBub25jZQ=="
    told = []

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        yield
        told.append("stopped")

    app = create_app()
    app.router.lifespan_context = lifespan
    with socket.socket() as client, serve_app(app, grace=grace) as url:
        client.connect(("127.0.0.1", urlsplit(url).port))
        client.sendall(
            b"GET /ws/telemetry HTTP/1.1\r\nHost: reference\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
            % key
        )
        assert client.recv(4096).startswith(b"HTTP/1.1 101 ")
        client.sendall(b"\x88\x82\0\0\0\0\x03\xe9")  # "going away", as a tab that is closed
    assert told == ["stopped"]


def test_a_server_that_does_not_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that blocks the event loop is an error after a while, not a hang."""
    blocked, release = threading.Event(), threading.Event()

    async def engine(_messages: list[Message]) -> AsyncIterator[str]:
        blocked.set()
        release.wait()
        yield "at last"

    stack = ExitStack()
    url = stack.enter_context(serve_app(create_app(engine)))
    with httpx.stream("POST", url + RUN, json=BODY):
        blocked.wait()
    monkeypatch.setattr(server, "_PATIENCE_SECONDS", 0.1)
    with pytest.raises(RuntimeError, match="did not stop: its app blocks"):
        stack.close()
    release.set()
    next(thread for thread in serving() if url in thread.name).join()


def test_a_clock_that_is_moved_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that freezes the process's time, say, leaves a server that stops at once."""
    real = time.monotonic
    with serve_app(create_app()) as url:
        monkeypatch.setattr(time, "monotonic", lambda: real() + 1e6)
        httpx.post(url + RUN, json=BODY)
        monkeypatch.undo()


def test_a_taken_port_is_refused() -> None:
    """The error is the one of the system, and no thread is started."""
    before = serving()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"), serve_app(create_app(), port=port):
            pass
    assert serving() == before


def test_a_server_that_does_not_start() -> None:
    """The error carries its cause, and no thread is left."""
    before = serving()
    no_app: Any = "no.such:app"
    with pytest.raises(RuntimeError, match="did not start") as failure, serve_app(no_app):
        pass
    assert isinstance(failure.value.__cause__, ModuleNotFoundError)
    assert serving() == before


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_stop(signum: signal.Signals) -> None:
    """It prints one line when it listens, serves a whole turn and exits with 0."""
    command = [sys.executable, "-m", "reference_impl", "--regress", "quadratic-accumulator"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            word, url = process.stdout.readline().split()
            answer = httpx.post(url + RUN, json=BODY).text
            process.send_signal(signum)
            rest = process.communicate(timeout=30)
        finally:
            process.kill()
    assert word == "serving"
    assert answer.endswith('event: done\ndata: {"text": "Word count: 3."}\n\n')
    assert rest == ("", "")
    assert process.returncode == 0


def test_the_command_refuses_an_unknown_regression(capsys: pytest.CaptureFixture[str]) -> None:
    """The error names it and lists the allowed ones."""
    with pytest.raises(SystemExit, match="2"):
        main(["--regress", "slow"])
    error = capsys.readouterr().err
    assert "'slow'" in error
    assert "quadratic-accumulator" in error


def test_the_command_refuses_an_address() -> None:
    """An address that cannot be bound is one line, not a traceback."""
    with pytest.raises(SystemExit, match=r"cannot listen on 127\.0\.0\.1:70000: .*0 to 65535"):
        main(["--port", "70000"])


@pytest.mark.parametrize(
    ("package", "subject", "extra"),
    [
        ("starlette", "reference_impl.create_app", "reference"),
        ("uvicorn", "python -m reference_impl", "serve"),
    ],
)
def test_a_missing_extra(
    monkeypatch: pytest.MonkeyPatch, package: str, subject: str, extra: str
) -> None:
    """The command ends with one line that says what to install."""
    for module in list(sys.modules):
        if module.partition(".")[0] in {package, "reference_impl"}:
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit) as failure:
        main([])
    assert failure.value.code == (
        f"{subject} needs {package}: pip install 'pytest-streamperf[{extra}]'"
    )


def test_the_import_costs_nothing() -> None:
    """The package, the agent loop and the regressions load neither starlette nor uvicorn."""
    code = (
        "import sys, reference_impl as r; r.run_turn, r.regressed;"
        "sys.exit(bool({'starlette', 'uvicorn'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_public_name_exists() -> None:
    """Each entry of the table of names can be loaded, and no other name."""
    for name in dir(reference_impl):
        assert getattr(reference_impl, name) is not None or name == "__spec__"
    with pytest.raises(AttributeError, match="no attribute 'Reply'; it has Invocation, ModelM"):
        reference_impl.Reply  # noqa: B018
