"""Gates: silent under test, alive in production; the same requests; any order."""

import asyncio
import os

import pytest

from pytest_streamperf import (
    NetworkExceeded,
    NetworkInconclusive,
    assert_fetch_is_gated,
    assert_order_independent,
    assert_same_requests,
)
from pytest_streamperf.network.gate import ROWS, GateRun, Row
from pytest_streamperf.network.stub_server import Request

# Nobody is reached: whatever a fresh interpreter tries is refused there.
FETCH = """
import os, threading, urllib.request
def fetch():
    urllib.request.urlopen("https://model.example/models").read()
"""
GATED = f"{FETCH}\nif 'PYTEST_VERSION' not in os.environ: threading.Thread(target=fetch).start()"
LEAKS = (
    f"{FETCH}\nif 'PYTEST_CURRENT_TEST' not in os.environ: threading.Thread(target=fetch).start()"
)


def test_a_gate_that_is_right():
    """Fetches in production and in CI, and is silent while tests are collected and run."""
    proof = assert_fetch_is_gated(GATED)
    assert {name: run.does for name, run in proof.runs.items()} == {
        "production": "FETCHES",
        "CI": "FETCHES",
        "collection": "SILENT",
        "call": "SILENT",
    }
    (attempt,) = proof.runs["production"].attempts
    assert (attempt.kind, attempt.host) == ("resolve", "model.example")


def test_a_gate_that_leaks_at_collection():
    """The variable of the running test is not there while tests are collected."""
    with pytest.raises(NetworkExceeded) as caught:
        assert_fetch_is_gated(LEAKS)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("the gate is wrong in 1 of 4 environments: it fetches under test")
    assert [line.split()[:3] for line in lines if "collection " in line] == [
        ["collection", "SILENT", "FETCHES"]
    ]
    assert "PYTEST_VERSION" in lines[-1] or "PYTEST_VERSION" in lines[-2]
    assert len(lines) <= 13
    assert all(len(line) <= 72 for line in lines)


ONLY = {"CI": Row("SILENT"), "collection": Row("SILENT"), "call": Row("SILENT")}


def test_a_proof_without_a_fetch_is_void():
    """Code that never fetches has no gate to prove."""
    with pytest.raises(NetworkInconclusive, match="no fetch in any of 4 environments"):
        assert_fetch_is_gated("pass", rows=ONLY)


def test_a_gate_that_is_always_shut():
    """Is silent in production, which one's own row may still show to be alive."""
    snippet = f"{FETCH}\nif os.environ.get('ALIVE'): threading.Thread(target=fetch).start()"
    with pytest.raises(NetworkExceeded, match="is silent in production"):
        assert_fetch_is_gated(snippet, rows={**ONLY, "alive": Row("FETCHES", {"ALIVE": "1"})})


def test_rows_of_ones_own():
    """A variable that people set to be left alone."""
    snippet = f"{GATED.replace('if ', 'if not os.environ.get(`OFFLINE`) and ')}".replace("`", "'")
    proof = assert_fetch_is_gated(snippet, rows={"offline": Row("SILENT", {"OFFLINE": "1"})})
    assert proof.runs["offline"].does == "SILENT"


def test_a_subject_that_raises_is_inconclusive():
    """It may have fetched later; what it raised is told."""
    with pytest.raises(NetworkInconclusive, match="the subject raised in 4 of 4") as caught:
        assert_fetch_is_gated("import a_module_that_is_not_there")
    assert "ModuleNotFoundError" in str(caught.value)


def gated():
    """A function of this module, which another interpreter finds by its file."""
    exec(GATED, {})  # noqa: S102 - the snippet, as a function


async def gated_too():
    """Start a task that outlives this function; importing this module loads pytest."""
    if "PYTEST_VERSION" not in os.environ:
        asyncio.get_running_loop().create_task(asyncio.open_connection("model.example", 443))


@pytest.mark.parametrize("subject", [gated, gated_too, "json:loads"])
def test_subjects(subject):
    """A function, or its name."""
    rows = {name: Row("SILENT") for name in ROWS} if isinstance(subject, str) else None
    if rows:
        with pytest.raises(NetworkInconclusive, match="raised"):
            assert_fetch_is_gated(subject, rows=rows)  # it wants an argument
    else:
        assert assert_fetch_is_gated(subject).verdict == "within"


@pytest.mark.parametrize("subject", [lambda: None, print.__call__])
def test_what_another_interpreter_cannot_find(subject):
    """Says what it takes."""
    with pytest.raises(ValueError, match="cannot be found by another interpreter"):
        assert_fetch_is_gated(subject)


def test_bad_arguments():
    """Each names what is allowed."""
    with pytest.raises(ValueError, match="mode must be 'block' or 'stub', not 'record'"):
        assert_fetch_is_gated("pass", mode="record")
    with pytest.raises(ValueError, match="row 'x' must expect 'FETCHES' or 'SILENT', not 'quiet'"):
        assert_fetch_is_gated("pass", rows={"x": Row("quiet")})


# -- with a stub


CLIENT = """
import json, urllib.request
request = urllib.request.Request("{url}", data={data!r}, headers={{"X-Key": "secret"}})
answer = json.loads(urllib.request.urlopen(request).read())
assert answer == [{{"id": "a"}}], answer
"""


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_stub_answers_for_anybody(scheme):
    """With TLS too, so that the whole response path runs."""
    snippet = CLIENT.format(url=f"{scheme}://model.example/api/models?limit=1", data=None)
    rows = {name: Row("FETCHES") for name in ROWS}
    proof = assert_fetch_is_gated(
        snippet, rows=rows, mode="stub", answers={"model.example/api/models": [{"id": "a"}]}
    )
    (request,) = proof.runs["production"].requests
    assert request == Request("GET", "model.example", "/api/models?limit=1")
    assert {run.error for run in proof.runs.values()} == {""}


def test_answers_by_a_function():
    """Which is handed the request."""
    bodies = []

    def answers(request):
        bodies.append(request.body)
        return '[{"id": "a"}]'

    snippet = CLIENT.format(url="http://model.example/", data=b"hello")
    assert_same_requests(snippet, snippet, answers=answers)
    assert bodies == [b"hello", b"hello"]


def test_other_requests_are_found():
    """What is asked for no more, and what is new."""
    before, after = (CLIENT.format(url=f"http://model.example/{n}", data=None) for n in (1, 2))
    with pytest.raises(NetworkExceeded, match="requests: 1 are missing, 1 are new") as caught:
        assert_same_requests(before, after, answers=lambda _: [{"id": "a"}])
    assert "lost   GET model.example/1" in str(caught.value)
    assert "new    GET model.example/2" in str(caught.value)


def test_nothing_to_compare():
    """Two versions that ask for nothing prove nothing."""
    with pytest.raises(NetworkInconclusive, match="no request was made"):
        assert_same_requests("pass", "pass")


def test_what_a_run_does():
    """In a word."""
    assert GateRun().does == "SILENT"
    assert GateRun(requests=[Request("GET", "a", "/")]).does == "FETCHES"


# -- orders


def test_a_race_is_found():
    """Whichever comes last wins: both outcomes are shown, with their orders."""
    with pytest.raises(NetworkExceeded, match="2 outcomes of 3 orders, limit 1") as caught:
        assert_order_independent(
            lambda models: models.append("fetched"),
            [lambda models: models.append("a"), lambda models: models.clear()],
            make=list,
        )
    assert "F1 S1 S2: []" in str(caught.value)
    assert "S1 S2 F1: ['fetched']" in str(caught.value)


def test_what_does_not_race():
    """Async steps, too; every order is run, each on a subject of its own."""

    async def fetch(models):
        await asyncio.sleep(0)
        models.add("fetched")

    proof = assert_order_independent(
        fetch, [lambda models: models.add("a"), lambda models: models.add("b")], make=set
    )
    assert list(proof.outcomes) == ["F1 S1 S2", "S1 F1 S2", "S1 S2 F1"]
    assert all(each == {"a", "b", "fetched"} for each in proof.outcomes.values())


def test_too_many_orders():
    """Are not begun."""
    steps = [lambda _: None] * 9
    with pytest.raises(ValueError, match="48,620 orders are more than 1,000"):
        assert_order_independent(steps, steps, make=list)


# -- settle, a number or a text with a unit

LATE = f"""{FETCH}
import time
def late():
    time.sleep(0.4)
    fetch()
if 'PYTEST_VERSION' not in os.environ: threading.Thread(target=late, daemon=True).start()
"""


def gate_with(settle):
    """Return the headline of a proof of the late fetch."""
    try:
        return assert_fetch_is_gated(LATE, settle=settle).headline
    except NetworkInconclusive as failure:
        return failure.verdict.headline


def requests_with(settle):
    """Return what the late fetch asks for."""
    try:
        return assert_same_requests(LATE, LATE, settle=settle)
    except NetworkInconclusive as failure:
        return failure.verdict.headline


@pytest.mark.parametrize("use", [gate_with, requests_with])
@pytest.mark.parametrize(("number", "text", "is_waited_for"), [(0, "0s", False), (5, "5s", True)])
def test_how_long_to_settle_is_a_number_or_a_text(use, number, text, is_waited_for):
    """A fetch of a thread is waited for as long, whether `settle` is seconds or has a unit."""
    result = use(number)
    assert result == use(text)
    assert str(result).startswith("no ") is not is_waited_for


@pytest.mark.parametrize("use", [gate_with, requests_with])
@pytest.mark.parametrize(("value", "error"), [("5 parsec", ValueError), (None, TypeError)])
def test_a_wrong_time_to_settle_names_the_argument(use, value, error):
    """No interpreter is started for a `settle` that is no time."""
    with pytest.raises(error, match=f"^settle must be a time, .*, not {value!r}$"):
        use(value)
