"""Run the server checks against the reference server on uvloop and httptools.

All other tests run it on asyncio and h11. The verdicts must be the same on both.
"""

import sys
from contextlib import contextmanager
from subprocess import DEVNULL, PIPE, Popen, run

import pytest

from pytest_streamperf import ServerExceeded
from pytest_streamperf.server import (
    Request,
    assert_backpressure,
    assert_cors,
    assert_gauges_settle,
    assert_responsive,
    assert_stops,
    assert_streamed,
    assert_survives,
)
from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app
from tests.matrix.reference_server import BROADCAST, LAST_EVENTS, METRICS, TOTALS

MESSAGES = {"messages": [{"role": "user", "content": "hello"}]}
CHAT = Request("POST", "/v1/chat/completions", {"stream": True, **MESSAGES})
LONG = Request("POST", "/agents/demo/run", MESSAGES)
HEAP = Request("GET", "/api/dev/heap")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uvloop is not for Windows")


# The server has a process of its own, because the checks of network access cannot name the guilty
# line in a process that has loaded uvloop.
SERVER = """
import sys
from pytest_streamperf import TokenStream
from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app, regressed
from reference_impl.telemetry import Hub

def engine(messages):
    agent_request = messages[0]["role"] == "system"
    return TokenStream(tokens=3_000 if agent_request else 20, every=0.01)

app = create_app(engine, debug=True, snapshot_limit=0.3, hub=Hub(idle=1.0))
with regressed(*sys.argv[1:]), serve_app(app, loop="uvloop", http="httptools") as url:
    print(url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def served(*regressions):
    """Run the server with these seeded regressions, and yield its URL."""
    command = [sys.executable, "-c", SERVER, *regressions]
    with Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True) as server:
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()


@pytest.fixture(scope="module")
def url():
    """Yield the URL of one healthy server, which all passing checks share."""
    with served() as url:
        yield url


TIMED = {"responsive", "streamed"}
CHECKS = {
    "gauges": lambda url: assert_gauges_settle(
        url, requests=[CHAT], **METRICS, totals=TOTALS, clients=3, within=0.5
    ),
    "cors": lambda url: assert_cors(
        url, requests=[CHAT, Request("GET", "/v1/models")], statuses=(200, 304, 404)
    ),
    "backpressure": lambda url: assert_backpressure(url, **BROADCAST, idle=1.0, within=1.0),
    "responsive": lambda url: assert_responsive(url, HEAP, beside=LONG, clients=5),
    "streamed": lambda url: assert_streamed(url, HEAP, max_chunk=2**18),
    "survives": lambda url: assert_survives(
        url, requests=[CHAT, LONG], websocket="/ws/telemetry", **METRICS, crowd=50, rounds=2
    ),
}


@pytest.mark.parametrize(
    "check",
    [pytest.param(check, marks=pytest.mark.alone) if check in TIMED else check for check in CHECKS],
)
def test_every_check_passes(url, check):
    """Each server check passes on uvloop and httptools, as on asyncio and h11."""
    assert CHECKS[check](url).verdict == "within"


@pytest.mark.parametrize(
    ("regression", "check"),
    [
        ("gauge-leaks-on-disconnect", "gauges"),
        ("cors-missing-on-304", "cors"),
        ("broadcast-waits", "backpressure"),
        ("snapshot-on-the-loop", "responsive"),
        ("snapshot-in-memory", "streamed"),
        ("deep-json-fails", "survives"),
    ],
)
def test_a_mistake_is_caught(regression, check):
    """Each server check finds its seeded regression on uvloop and httptools."""
    with served(regression) as url, pytest.raises(ServerExceeded):
        CHECKS[check](url)


def test_streams_end_as_they_should():
    """A server on uvloop ends its streams with an error event when it receives SIGTERM."""
    command = [sys.executable, "-m", "reference_impl", "--loop", "uvloop", "--http", "httptools"]
    verdict = assert_stops([*command, "--every", "0.2", "--grace", "0.1"], CHAT, ends=LAST_EVENTS)
    assert verdict.headline.startswith("streams: 3 ended with an error; exit ")


PRINT_LOOPS = """
import asyncio
from urllib.request import urlopen
from pytest_streamperf.wire.server import serve_app

async def app(_scope, _receive, send):
    print(type(asyncio.get_running_loop()).__module__)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})

for options in ({"loop": "uvloop", "http": "httptools"}, {}):
    with serve_app(app, lifespan="off", **options) as url:
        urlopen(url).close()
"""


def test_the_loop_is_the_one_that_was_asked_for():
    """`serve_app` uses the event loop that its arguments name, and asyncio without arguments."""
    modules = run(
        [sys.executable, "-c", PRINT_LOOPS], stdout=PIPE, text=True, check=True
    ).stdout.split()
    assert [module.partition(".")[0] for module in modules] == ["uvloop", "asyncio"]


def test_a_loop_that_is_not_installed(monkeypatch):
    """An event loop that is not installed is an error, which gives the command that installs it."""
    monkeypatch.setattr(
        "pytest_streamperf.wire.server.find_spec", lambda name: name != "uvloop" or None
    )
    with (
        pytest.raises(ModuleNotFoundError, match=r"uvloop: pip install 'pytest-streamperf\[fast\]"),
        serve_app(create_app(), loop="uvloop"),
    ):
        pass


PRINT_VERDICT_ON_STOP = """
import asyncio, sys, uvloop
from pytest_streamperf.server import Request, assert_stops
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
command = [sys.executable, "-m", "reference_impl", "--every", "0.2", "--grace", "0.1"]
body = {"stream": True, "messages": [{"role": "user", "content": "hello"}]}
print(assert_stops(command, Request("POST", "/v1/chat/completions", body)).verdict)
"""


@pytest.mark.skipif(
    sys.version_info >= (3, 14),
    reason="event loop policies and child watchers are deprecated or removed",
)
def test_a_server_is_stopped_where_uvloop_is_the_policy():
    """`assert_stops` can start a server where the event loop policy is that of uvloop."""
    completed = run(
        [sys.executable, "-c", PRINT_VERDICT_ON_STOP], stdout=PIPE, text=True, check=True
    )
    assert completed.stdout == "within\n"
