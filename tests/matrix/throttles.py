"""The matrix of docs/throttle.md: which throttle invariants each seeded regression breaks.

A seeded regression is a fault put into the reference server on purpose. `matrix` drives the
throttle through the same scenarios with each regression in place, and `page` renders the result.
`python -m benchmarks.matrix` writes the page.

The scenarios run in virtual time. Each has two tool calls at once: with a pause, without ids,
cancelled, failed, or retried. The last piece comes just before the end.
"""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Any
from unittest.mock import Mock, patch

from pytest_streamperf import TokenStream, ToolCallDelta, VirtualClock
from pytest_streamperf.throttling.invariants import INVARIANTS, ThrottlePolicy
from pytest_streamperf.throttling.update_counter import UpdateCounter, check_updates
from reference_impl import REGRESSIONS, regressed, throttle

# Shortest time between two updates of a tool call, in seconds: the default of the throttle.
EVERY = 0.1
# An action and its argument: "feed" a delta, "wait" some seconds, or an end of the turn and None.
Step = tuple[str, Any]

# By regression: why it also breaks invariants that do not name it.
OVERLAPS = {
    "final-flush-after-end": "an update after the end event was missing before the end",
    "leading-only": "an update that is dropped within the interval is still missing at the end",
    "trailing-debounce": "the delayed value is stale while deltas arrive, and after the last one",
    "shared-key": "the arguments of the second call appear under the first call, or not at all",
    "timer-left-running": "its timer outlives a cancel and a retry, and sends the old arguments",
    "stale-value": "the value captured by the timer is outdated when the stream pauses",
}


def pieces(count: int, *, ids: bool = True) -> list[Step]:
    """Return the steps of two tool calls whose arguments arrive alternately, a piece every 20 ms.

    `count` is the number of pieces of both together; without `ids`, the calls have only an index.
    """
    opening = ['{"path": "a.py", "content": "', '{"query": "']
    steps: list[Step] = []
    for number in range(count):
        index = number % 2
        text = opening[index] if number < 2 else f"word {number} "
        steps += [("feed", ToolCallDelta(index, f"call_{index}" if ids else "", "", text))]
        steps += [("wait", 0.02)]
    return steps


SCENARIOS: dict[str, list[Step]] = {
    "pause": [*pieces(60), ("wait", 1.0), *pieces(60)[4:], ("end", None), ("wait", 1.0)],
    "no ids": [*pieces(60, ids=False), ("end", None), ("wait", 1.0)],
    "cancel": [*pieces(41), ("cancel", None), ("wait", 1.0)],
    "error": [*pieces(41), ("error", None), ("wait", 1.0)],
    "retry": [*pieces(41), ("retry", None), ("wait", 0.05), *pieces(41), ("end", None)],
}


async def drive(counter: UpdateCounter, steps: Sequence[Step]) -> None:
    """Run the steps of a scenario on a throttle and on the counter of its updates.

    The counter hears of an end after the throttle, and of a cancel, error or retry before it.
    """
    updates = throttle.ToolCallUpdates(counter, every=EVERY)
    for action, argument in steps:
        if action == "wait":
            await asyncio.sleep(argument)
        elif action == "feed":
            counter.arrived(argument)
            updates.feed(argument.index, argument.id, argument.arguments)
        elif action == "end":
            updates.end()
            counter.end()
        else:
            getattr(counter, action)()
            getattr(updates, action)()


def broken_invariants(steps: Sequence[Step]) -> set[int]:
    """Return the numbers of the invariants that the current throttle breaks in these steps."""
    numbers: set[int] = set()

    async def main() -> None:
        spy = Mock(wraps=throttle.parse)
        counter = UpdateCounter(
            of=TokenStream(0),
            key=lambda call: call.args[0],
            value=lambda call: call.args[1],
            latest=throttle.parse,
            parses=spy,
        )
        with patch.object(throttle, "parse", spy):
            await drive(counter, steps)
        if counter.calls:
            breaches = check_updates(counter.record, ThrottlePolicy(EVERY)).breaches
            numbers.update(breach.number for breach in breaches)

    with VirtualClock():
        asyncio.run(main())
    return numbers


def matrix() -> dict[str, set[int]]:
    """Return the invariants that each regression breaks in any scenario, by its name.

    The name "" stands for the throttle without a regression.
    """
    regression_names = [
        "",
        *(name for name, regression in REGRESSIONS.items() if regression.breaks),
    ]
    broken: dict[str, set[int]] = {}
    for name, steps in itertools.product(regression_names, SCENARIOS.values()):
        with regressed(*filter(None, [name])):
            broken.setdefault(name, set()).update(broken_invariants(steps))
    return broken


def page(broken_by_name: Mapping[str, set[int]]) -> str:
    """Return the matrix as a Markdown page."""
    numbers = sorted({number for broken in broken_by_name.values() for number in broken})
    lines = [
        "# Which check catches which throttle",
        "",
        "Written by `python -m benchmarks.matrix`: every seeded regression of the reference",
        "throttle, driven through the same scenarios. **x** marks an invariant that the regression",
        "is meant to break, and o another one that breaks with it.",
        "",
        f"| regression | {' | '.join(map(str, numbers))} | breaks with it because |",
        f"|---|{'---|' * len(numbers)}---|",
    ]
    for name, broken in broken_by_name.items():
        named = REGRESSIONS[name].breaks if name else ()
        cells = ["**x**" if n in named else "o" if n in broken else "" for n in numbers]
        lines.append(f"| {name or 'none'} | {' | '.join(cells)} | {OVERLAPS.get(name, '')} |")
    lines += [
        "",
        *(f"{n}. {invariant.name}: {invariant.means}." for n, invariant in INVARIANTS.items()),
    ]
    return "\n".join(lines)
