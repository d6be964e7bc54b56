"""Which invariants of a throttle each seeded regression breaks: the matrix in docs/throttle.md.

`python -m benchmarks.matrix` writes that page. Each throttle is driven through the same scenarios,
in virtual time: two tool calls at once with a pause, without ids, cancelled, failed, retried, and a
last piece that comes just before the end.
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

EVERY = 0.1
Step = tuple[str, Any]

# By regression: why it breaks other invariants than the one that names it.
OVERLAPS = {
    "final-flush-after-end": "what comes after the end event was missing before it",
    "leading-only": "what waits for the next piece is not there at the end either",
    "trailing-debounce": "a value that waits is stale while deltas come, and after",
    "shared-key": "the second call's arguments are shown as the first one's, or not at all",
    "timer-left-running": "its timer outlives a cancel and a retry, and sends what was before",
    "stale-value": "a value that was planned is not what is pending when the stream pauses",
}


def pieces(count: int, *, ids: bool = True) -> list[Step]:
    """Two tool calls that come in turns, a piece every 20 ms."""
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
    """Take the steps: feed the throttle, let time pass, tell how it ends."""
    updates = throttle.ToolCallUpdates(counter, every=EVERY)
    for what, argument in steps:
        if what == "wait":
            await asyncio.sleep(argument)
        elif what == "feed":
            counter.arrived(argument)
            updates.feed(argument.index, argument.id, argument.arguments)
        elif what == "end":
            updates.end()
            counter.end()
        else:
            getattr(counter, what)()
            getattr(updates, what)()


def broken_invariants(steps: Sequence[Step]) -> set[int]:
    """Return the invariants that the throttle, with the regressions in place, breaks on the way."""
    found: set[int] = set()

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
            found.update(
                each.number
                for each in check_updates(counter.record, ThrottlePolicy(EVERY)).breaches
            )

    with VirtualClock():
        asyncio.run(main())
    return found


def matrix() -> dict[str, set[int]]:
    """Return the invariants that each regression breaks in any scenario; "" is the healthy one."""
    names = ["", *(name for name, each in REGRESSIONS.items() if each.breaks)]
    found: dict[str, set[int]] = {}
    for name, steps in itertools.product(names, SCENARIOS.values()):
        with regressed(*filter(None, [name])):
            found.setdefault(name, set()).update(broken_invariants(steps))
    return found


def page(found: Mapping[str, set[int]]) -> str:
    """Return a matrix as Markdown."""
    numbers = sorted({number for broken in found.values() for number in broken})
    lines = [
        "# Which check catches which throttle",
        "",
        "Made by `python -m benchmarks.matrix`: every seeded regression of the reference throttle,",
        "driven through the same scenarios. **x** is an invariant that names the regression, and o",
        "one that breaks with it.",
        "",
        f"| regression | {' | '.join(map(str, numbers))} | breaks with it because |",
        f"|---|{'---|' * len(numbers)}---|",
    ]
    for name, broken in found.items():
        named = REGRESSIONS[name].breaks if name else ()
        cells = ["**x**" if n in named else "o" if n in broken else "" for n in numbers]
        lines.append(f"| {name or 'none'} | {' | '.join(cells)} | {OVERLAPS.get(name, '')} |")
    lines += ["", *(f"{n}. {each.name}: {each.means}." for n, each in INVARIANTS.items())]
    return "\n".join(lines)
