"""Who else looks at what runs: debuggers, coverage tools and profilers, by the hooks they hold."""

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pytest_streamperf._results.metrics import Figures

_SLOWER = "code is slower"
# What comes of it where more does; time, elsewhere, is all that is disturbed.
_COMES_OF_IT = {
    ("growth", "profiles"): f"calls are not counted, and {_SLOWER}",
    ("growth", "traces memory"): "time is not measured",
}
# Those that measure time, or need a hook; the others count what is handed to them.
_DISTURBED = {"growth", "responsiveness", "server"}

our_traces = 0
"""How many of ours have tracemalloc on, and take care of that by themselves."""


def note(stem: str) -> str:
    """What disturbs a check of this stem here, and who that is, in a sentence; "" for nobody.

    >>> note("throttling")
    ''
    """
    if stem not in _DISTURBED:
        return ""
    return "; ".join(
        f"{who} {does}: {_COMES_OF_IT.get((stem, does), _SLOWER)}" for who, does in _holders()
    )


def noted(stem: str, figures: Figures) -> Figures:
    """Return the figures of a check, with who disturbs it here among their facts, if anybody does.

    >>> noted("throttling", Figures()).facts
    {}
    """
    said = note(stem)
    return replace(figures, facts={**figures.facts, "interference": said}) if said else figures


def _holders() -> Iterator[tuple[str, str]]:
    tracer, profiler = sys.gettrace(), sys.getprofile()
    if tracer is not None:
        yield _owner(tracer), "traces lines"
    if profiler is not None:
        yield _owner(profiler), "profiles"
    monitoring: Any = getattr(sys, "monitoring", None)  # from 3.12 on
    if monitoring is not None:
        for tool in range(monitoring.OPTIMIZER_ID + 1):
            who = monitoring.get_tool(tool)
            if who is not None:
                yield who, "monitors code"
    # Memray's own hook is in C, and shows in what it puts into threads that start alone.
    if _owner(threading.getprofile()) == "memray":
        yield "memray", "tracks memory"
    tracemalloc = sys.modules.get("tracemalloc")
    if tracemalloc is not None and tracemalloc.is_tracing() and not our_traces:
        yield "tracemalloc", "traces memory"


def _owner(hook: object) -> str:
    """Whose a hook is: its package's name, as that is written on the label."""
    module = getattr(hook, "__module__", None) or type(hook).__module__
    return str(module).partition(".")[0].strip("_")
