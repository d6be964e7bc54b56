"""Tests of `interference`: the tools that disturb a check, and the note about them.

Debuggers, coverage tools, profilers and memory tracers slow code down or take the hook that a
metric needs. The note of a check names each tool and its effect.
"""

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
    """Do nothing, as the hook of a debugger, a coverage tool or a profiler called "acme"."""


hook.__module__ = "_acme.tracer"


@pytest.fixture(autouse=True)
def _alone():
    """Remove the hooks of the tools that watch this test run, and restore them afterwards."""
    tracer, profiler = sys.gettrace(), sys.getprofile()
    sys.settrace(None)
    sys.setprofile(None)
    yield
    sys.setprofile(profiler)
    sys.settrace(tracer)


def install_tracer(_monkeypatch):
    """Install a trace function, as debuggers and coverage tools do."""
    sys.settrace(hook)


def install_profiler(_monkeypatch):
    """Install a profile function, as profilers do."""
    sys.setprofile(hook)


def register_monitor(monkeypatch):
    """Register a tool in `sys.monitoring`, as debuggers do from Python 3.12 on."""
    tools = SimpleNamespace(OPTIMIZER_ID=5, get_tool=lambda tool: "pdb" if tool == 0 else None)
    monkeypatch.setattr(sys, "monitoring", tools, raising=False)


def install_memray_hook(monkeypatch):
    """Install memray's hook for new threads, because its own hook in C is invisible."""
    thread_hook = SimpleNamespace(__module__="memray._memray")
    monkeypatch.setattr(threading, "_profile_hook", thread_hook)


def fake_tracemalloc(monkeypatch):
    """Make tracemalloc report that it is tracing."""
    monkeypatch.setattr(tracemalloc, "is_tracing", lambda: True)


@pytest.mark.parametrize(
    ("install_tool", "stem", "sentence"),
    [
        (install_tracer, "growth", "acme traces lines: code is slower"),
        (install_tracer, "responsiveness", "acme traces lines: code is slower"),
        (install_tracer, "server", "acme traces lines: code is slower"),
        (install_profiler, "growth", "acme profiles: calls are not counted, and code is slower"),
        (install_profiler, "responsiveness", "acme profiles: code is slower"),
        (register_monitor, "responsiveness", "pdb monitors code: code is slower"),
        (install_memray_hook, "growth", "memray tracks memory: code is slower"),
        (fake_tracemalloc, "growth", "tracemalloc traces memory: time is not measured"),
        (fake_tracemalloc, "responsiveness", "tracemalloc traces memory: code is slower"),
        (install_profiler, "throttling", ""),
        (install_profiler, "network", ""),
        (bool, "growth", ""),  # `bool` installs no tool
    ],
)
def test_who_disturbs_a_check_is_named(install_tool, stem, sentence, monkeypatch):
    """A note names the tool and its effect on the check; it is empty if there is no effect."""
    monkeypatch.setattr(sys, "monitoring", None, raising=False)
    install_tool(monkeypatch)
    assert note(stem) == sentence


def test_several_are_named(monkeypatch):
    """A note names every tool that disturbs the check."""
    install_tracer(monkeypatch)
    install_memray_hook(monkeypatch)
    assert note("responsiveness").count("code is slower") == 2


def test_calls_that_are_not_counted_are_told(monkeypatch):
    """Under a profiler, a growth check notes that calls are not counted.

    Another metric decides the verdict; without another metric the check is inconclusive.
    """
    install_profiler(monkeypatch)
    consume, options = lambda stream: "".join(list(stream)), {"up_to": 64}
    with_bytes = measure_growth(consume, **options, metrics=("allocated_bytes", "calls"))
    calls_only = measure_growth(consume, **options, metrics=("calls",))
    sys.setprofile(None)
    assert (with_bytes.verdict, calls_only.verdict) == ("within", "inconclusive")
    sentence = "acme profiles: calls are not counted, and code is slower"
    assert with_bytes.figures.facts["interference"] == sentence
    assert calls_only.message.endswith(f"\n  note   {sentence}")


def test_a_responsiveness_says_so_too(monkeypatch):
    """A stall watch records the note about the tool that disturbs it."""
    install_memray_hook(monkeypatch)
    with StallWatch() as watch:
        pass
    assert watch.result().figures.facts["interference"] == "memray tracks memory: code is slower"


def test_a_message_has_room_for_it_or_has_none(monkeypatch):
    """A message has the note only if it stays within 13 lines with it."""
    install_memray_hook(monkeypatch)
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
    assert [message.count("\n") for message in messages] == [12, 12]
    assert [message.count("memray") for message in messages] == [1, 0]


def test_the_terminal_says_it_once():
    """The terminal shows each note once, after the lines of the checks.

    Four equal checks of one test share a line. A quiet run shows neither lines nor notes.
    """
    check = {"verdict": "within", "stem": "growth", "headline": "linear", "accepted": True}
    checks = [
        check | {"facts": {"interference": sentence} if sentence else {}}
        for sentence in ("a", "b", "a", "")
    ]
    report = SimpleNamespace(streamperf=checks, nodeid="test_it", start=0)
    lines = [line for line, _ in summary([report], 0)]
    assert lines[0].endswith(" growth  test_it: linear (4 times)")
    assert lines[1:] == ["note: a", "note: b"]
    assert list(summary([report], -1)) == []
