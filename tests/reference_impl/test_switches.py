"""Regressions that are switched while a server runs: which, by whom, and that all is put back."""

import json
from collections.abc import Iterator

import httpx
import pytest

from pytest_streamperf.wire.server import serve_app
from reference_impl import REGRESSIONS, agent, create_app, regressed, switches, throttle
from reference_impl.switches import SHOWS

SWITCHES = "/api/dev/regressions"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server with all that is under /api/dev, for tests that leave it as it was."""
    with serve_app(create_app(debug=True)) as url:
        yield url


def on(url: str) -> set[str]:
    """The regressions that a server lists as in place."""
    listed = httpx.get(url + SWITCHES).json()["regressions"]
    return {each["name"] for each in listed if each["on"]}


def test_switches_are_listed(server: str) -> None:
    """All there are, with the check that catches each, and what there is to see of it."""
    listed = httpx.get(server + SWITCHES).json()["regressions"]
    assert [each["name"] for each in listed] == list(REGRESSIONS)
    for each in listed:
        regression = REGRESSIONS[each["name"]]
        assert (each["check"], each["story"]) == (regression.check, regression.story)
        assert each["on"] is False
    assert {each["name"]: each["shows"] for each in listed if each["shows"]} == SHOWS


def test_switches_switch(server: str) -> None:
    """Those that are named, and no others; none is none."""
    for names in (["no-throttle", "flush-per-token"], ["quadratic-accumulator"], []):
        answer = httpx.post(server + SWITCHES, json={"on": names}).json()["regressions"]
        assert {each["name"] for each in answer if each["on"]} == set(names) == on(server)


def test_a_switch_that_is_named_again_and_again(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is switched once: a body of that would keep everybody waiting."""
    put = []
    monkeypatch.setattr(switches, "switch", put.append)
    httpx.post(server + SWITCHES, json={"on": ["no-throttle"] * 1_000})
    assert put == [["no-throttle"]]


def test_of_two_in_one_place_the_last_is_on(server: str) -> None:
    """And it says so."""
    httpx.post(server + SWITCHES, json={"on": ["no-throttle", "leading-only"]})
    assert on(server) == {"leading-only"}
    httpx.post(server + SWITCHES, json={"on": []})
    assert on(server) == set()


def test_what_was_in_place_before_stays(server: str) -> None:
    """By `--regress`, or by a test: whoever put it there takes it away."""
    with regressed("no-throttle"):
        httpx.post(server + SWITCHES, json={"on": ["flush-per-token"]})
        assert on(server) == {"no-throttle", "flush-per-token"}
        httpx.post(server + SWITCHES, json={"on": []})
        assert on(server) == {"no-throttle"}


@pytest.mark.parametrize("later", ["no-throttle", "leading-only"])
def test_what_was_in_place_before_goes_first(later: str) -> None:
    """Then it does not come back when the switch goes."""
    healthy = throttle.ToolCallUpdates
    with regressed("no-throttle"):
        switches.switch([later])
    assert throttle.ToolCallUpdates is REGRESSIONS[later].replacement
    switches.switch([])
    assert throttle.ToolCallUpdates is healthy


def test_a_server_that_stops_puts_all_back() -> None:
    """Mistakes are the process's, which may go on."""
    healthy = agent.Reply
    with serve_app(create_app(debug=True)) as url:
        httpx.post(url + SWITCHES, json={"on": ["quadratic-accumulator"]})
        assert agent.Reply is not healthy
    assert agent.Reply is healthy


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        ({"on": ["no-throttle", "slow"]}, "unknown_regression", "'slow', allowed: always-gated, "),
        ({"on": "no-throttle"}, "wrong_shape", 'allowed: {"on": [name, ...]}'),
        ({"on": [1]}, "wrong_shape", 'allowed: {"on": [name, ...]}'),
        ([], "wrong_shape", 'allowed: {"on": [name, ...]}'),
    ],
)
def test_what_is_no_regression_is_refused(server: str, body: object, kind: str, says: str) -> None:
    """By name, with those that there are; and nothing is switched."""
    response = httpx.post(server + SWITCHES, json=body)
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["type"] == kind
    assert says in error["message"]
    assert on(server) == set()


@pytest.mark.parametrize(
    "origin",
    [
        "https://page.example",
        "http://127.0.0.1.page.example",
        "http://localhost@page.example",
        "http://page.example:8000",
        "null",
    ],
)
def test_a_page_from_elsewhere_changes_nothing(server: str, origin: str) -> None:
    """Browsers name it, whatever it sends; a form needs no permission to be sent."""
    body = json.dumps({"on": ["no-throttle"]})
    headers = {"Origin": origin, "Content-Type": "text/plain"}
    response = httpx.post(server + SWITCHES, content=body, headers=headers)
    assert response.status_code == 403
    assert response.json()["error"]["type"] == "foreign_origin"
    assert on(server) == set()
    told = httpx.post(f"{server}/api/dev/telemetry", content="hello", headers=headers)
    assert told.status_code == 403


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8000", "http://localhost", "http://[::1]:1"])
def test_a_page_from_this_machine_may(server: str, origin: str) -> None:
    """From another port, too: the page may be another server's."""
    response = httpx.post(server + SWITCHES, json={"on": []}, headers={"Origin": origin})
    assert response.status_code == 200
    told = httpx.post(f"{server}/api/dev/telemetry", content="", headers={"Origin": origin})
    assert told.status_code == 202
