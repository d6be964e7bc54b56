"""Who else looks at what runs, and what is said of it."""

import sys
import threading
import tracemalloc
from types import SimpleNamespace

import pytest

from pytest_streamperf import StallWatch, measure_growth
from pytest_streamperf._report.terminal import summary
from pytest_streamperf._results.metrics import Figures
from pytest_streamperf._results.verdict import Verdict
from pytest_streamperf._runtime.interference import note, noted


def hook(*_):
    """Stand for a debugger's, a coverage tool's, or a profiler's."""


hook.__module__ = "_acme.tracer"


@pytest.fixture(autouse=True)
def _alone():
    """Whoever looks at this run looks away, and is back afterwards."""
    tracer, profiler = sys.gettrace(), sys.getprofile()
    sys.settrace(None)
    sys.setprofile(None)
    yield
    sys.setprofile(profiler)
    sys.settrace(tracer)


def tracing(_monkeypatch):
    """As debuggers do, and coverage tools."""
    sys.settrace(hook)


def profiling(_monkeypatch):
    """As profilers do."""
    sys.setprofile(hook)


def monitoring(monkeypatch):
    """As they do from 3.12 on."""
    tools = SimpleNamespace(OPTIMIZER_ID=5, get_tool=lambda tool: "pdb" if tool == 0 else None)
    monkeypatch.setattr(sys, "monitoring", tools, raising=False)


def tracking(monkeypatch):
    """As memray does, in C."""
    starts = SimpleNamespace(__module__="memray._memray")
    monkeypatch.setattr(threading, "_profile_hook", starts)


def tracing_memory(monkeypatch):
    """As tracemalloc does."""
    monkeypatch.setattr(tracemalloc, "is_tracing", lambda: True)


@pytest.mark.parametrize(
    ("come", "stem", "says"),
    [
        (tracing, "growth", "acme traces lines: code is slower"),
        (tracing, "responsiveness", "acme traces lines: code is slower"),
        (tracing, "server", "acme traces lines: code is slower"),
        (profiling, "growth", "acme profiles: calls are not counted, and code is slower"),
        (profiling, "responsiveness", "acme profiles: code is slower"),
        (monitoring, "responsiveness", "pdb monitors code: code is slower"),
        (tracking, "growth", "memray tracks memory: code is slower"),
        (tracing_memory, "growth", "tracemalloc traces memory: time is not measured"),
        (tracing_memory, "responsiveness", "tracemalloc traces memory: code is slower"),
        (profiling, "throttling", ""),
        (profiling, "network", ""),
        (bool, "growth", ""),
    ],
)
def test_who_disturbs_a_check_is_named(come, stem, says, monkeypatch):
    """With what comes of it there; not where nothing does."""
    monkeypatch.setattr(sys, "monitoring", None, raising=False)
    come(monkeypatch)
    assert note(stem) == says


def test_several_are_named(monkeypatch):
    """One after the other."""
    tracing(monkeypatch)
    tracking(monkeypatch)
    assert note("responsiveness").count("code is slower") == 2


def test_calls_that_are_not_counted_are_told(monkeypatch):
    """Of a check that goes by the others, and of one that has no other."""
    profiling(monkeypatch)
    consume, terms = lambda stream: "".join(list(stream)), {"up_to": 64}
    within = measure_growth(consume, **terms, metrics=("allocated_bytes", "calls"))
    without = measure_growth(consume, **terms, metrics=("calls",))
    sys.setprofile(None)
    assert (within.verdict, without.verdict) == ("within", "inconclusive")
    told = "acme profiles: calls are not counted, and code is slower"
    assert within.figures.facts["interference"] == told
    assert without.message.endswith(f"\n  note   {told}")


def test_a_responsiveness_says_so_too(monkeypatch):
    """Whichever form was asked."""
    tracking(monkeypatch)
    with StallWatch() as watch:
        pass
    assert watch.result().figures.facts["interference"] == "memray tracks memory: code is slower"


def test_a_message_has_room_for_it_or_has_none(monkeypatch):
    """Thirteen lines at most."""
    tracking(monkeypatch)
    messages = [
        Verdict(
            stem="responsiveness",
            verdict="exceeded",
            headline="x",
            details=["y"] * lines,
            figures=noted("responsiveness", Figures()),
        ).message
        for lines in (11, 12)
    ]
    assert [each.count("\n") for each in messages] == [12, 12]
    assert [each.count("memray") for each in messages] == [1, 0]


def test_the_terminal_says_it_once():
    """After all checks, of those that are shown, and what one test says four times in a line."""
    check = {"verdict": "within", "stem": "growth", "headline": "linear", "accepted": True}
    checks = [
        check | {"facts": {"interference": said} if said else {}} for said in ("a", "b", "a", "")
    ]
    report = SimpleNamespace(streamperf=checks, nodeid="test_it", start=0)
    lines = [line for line, _ in summary([report], 0)]
    assert lines[0].endswith(" growth  test_it: linear (4 times)")
    assert lines[1:] == ["note: a", "note: b"]
    assert list(summary([report], -1)) == []
