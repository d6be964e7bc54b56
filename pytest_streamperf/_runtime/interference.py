"""Find debuggers, coverage tools and profilers that disturb a check, by the hooks they hold.

`note` returns a sentence about them for one kind of check. `noted` adds it to a check's figures.
"""

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pytest_streamperf._results.metrics import Figures

_SLOWER = "code is slower"
# Effect of a tool on a check, by check and activity. All other pairs only run slower.
_EFFECTS = {
    ("growth", "profiles"): f"calls are not counted, and {_SLOWER}",
    ("growth", "traces memory"): "time is not measured",
}
# Checks that measure time or need a hook. All other checks count deltas, events or updates.
_DISTURBED_STEMS = {"growth", "responsiveness", "server"}

our_traces = 0
"""Number of open `instrumentation.allocations` that started tracemalloc themselves."""


def note(stem: str) -> str:
    """Return a sentence that names the tools that disturb a check, and the effect; "" if none.

    >>> note("throttling")
    ''
    """
    if stem not in _DISTURBED_STEMS:
        return ""
    return "; ".join(
        f"{tool} {activity}: {_EFFECTS.get((stem, activity), _SLOWER)}"
        for tool, activity in _active_tools()
    )


def noted(stem: str, figures: Figures) -> Figures:
    """Return the figures of a check, with its interference among the facts if there is any.

    >>> noted("throttling", Figures()).facts
    {}
    """
    sentence = note(stem)
    if not sentence:
        return figures
    return replace(figures, facts={**figures.facts, "interference": sentence})


def _active_tools() -> Iterator[tuple[str, str]]:
    """Yield the name and the activity of each tool that holds a hook."""
    tracer, profiler = sys.gettrace(), sys.getprofile()
    if tracer is not None:
        yield _owner(tracer), "traces lines"
    if profiler is not None:
        yield _owner(profiler), "profiles"
    monitoring: Any = getattr(sys, "monitoring", None)  # from 3.12 on
    if monitoring is not None:
        for tool_id in range(monitoring.OPTIMIZER_ID + 1):
            tool = monitoring.get_tool(tool_id)
            if tool is not None:
                yield tool, "monitors code"
    # Memray's own hook is in C and invisible; only its hook for new threads can be seen.
    if _owner(threading.getprofile()) == "memray":
        yield "memray", "tracks memory"
    tracemalloc = sys.modules.get("tracemalloc")
    if tracemalloc is not None and tracemalloc.is_tracing() and not our_traces:
        yield "tracemalloc", "traces memory"


def _owner(hook: object) -> str:
    """Return the name of the package that a hook belongs to, without underscores."""
    module = getattr(hook, "__module__", None) or type(hook).__module__
    return str(module).partition(".")[0].strip("_")
