"""Every check of this project, pointed at the reference server: which regressions each catches.

    python -m benchmarks.checks > docs/regressions.md

Each check runs with nothing wrong, and then with each seeded regression in place.
"""

import asyncio
import logging
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from itertools import chain
from unittest.mock import Mock, patch

from benchmarks import registry
from benchmarks.matrix import EVERY, SCENARIOS, broken
from pytest_streamperf import (
    FlushCounter,
    Inconclusive,
    NetworkInconclusive,
    TokenStream,
    VirtualClock,
    assert_fetch_is_gated,
    assert_linear,
    assert_order_independent,
)
from pytest_streamperf.server import (
    Request,
    assert_atomic_reads,
    assert_backpressure,
    assert_cors,
    assert_fallback_parity,
    assert_gauges_settle,
    assert_loaded_once,
    assert_responsive,
    assert_stops,
    assert_streamed,
    assert_survives,
)
from reference_impl import REGRESSIONS, create_app, models, regressed, responses, run_turn
from reference_impl import splines as rendering
from reference_impl.agent import Engine, Message
from reference_impl.splines import Point, Render
from reference_impl.telemetry import Hub

MESSAGES: list[Message] = [{"role": "user", "content": "hello"}]
CHAT, FAILING = (
    Request(
        "POST",
        "/v1/chat/completions",
        {"stream": True, "messages": [{"role": "user", "content": text}]},
    )
    for text in ("hello", "fail")
)
HEAP = Request("GET", "/api/dev/heap")
PRICES = Request("POST", "/api/ai/maparse", {"prices": [n / 7 for n in range(200)]})
CURVE = [(0.0, 1.0), (2.0, 5.0), (3.0, -4.0), (7.0, 0.0)]
SPLINE = Request("POST", rendering.PATH, {"points": CURVE, "samples": 500_000})
MAKE = "from reference_impl import ModelManager, regressed\nwith regressed(*{}): ModelManager()"

# Why a check is tripped by a regression that another is for.
OVERLAPS = {
    ("merge-depends-on-order", "assert"): "what it has merged it never takes out",
    ("swallowed-error-flush", "assert_stops"): "the error that a stop ends with is swallowed, too",
    ("gauge-leaks-on-disconnect", "assert_survives"): "it has clients leave, and looks at gauges",
    ("dead-clients-kept", "assert_survives"): "a task goes on telling whoever is taken to be there",
    ("snapshot-on-the-loop", "assert_streamed"): "it is taken whole before any of it is sent",
}


def app(tokens: int = 20, **terms: object) -> object:
    """The reference server, with a model that takes its time, and fails if it is asked to."""

    def engine(messages: Sequence[Message]) -> TokenStream:
        if messages[-1]["content"] == "fail":
            raise RuntimeError("the model is out of order")
        return TokenStream(tokens=tokens, every=0.01)

    return create_app(engine, debug=True, snapshot_limit=0.3, **terms)  # type: ignore[arg-type]


def linear(_names: Sequence[str]) -> None:
    """A turn of the agent."""

    async def consume(stream: TokenStream) -> None:
        engine: Engine = lambda _: stream  # noqa: E731 - a model in a line
        async with aclosing(run_turn(engine, MESSAGES, tools={})) as events:
            async for _ in events:
                pass

    assert_linear(consume, up_to=4_000, seconds=4.0)


def throttled(_names: Sequence[str]) -> None:
    """Tool calls in every way that they may end."""
    breaches = set(chain.from_iterable(broken(steps) for steps in SCENARIOS.values()))
    assert not breaches, f"invariants {sorted(breaches)} of a throttle of {EVERY} s"  # noqa: S101


def coalesced(_names: Sequence[str]) -> None:
    """A reply that comes to its end, and one that fails midway."""
    for fails_after in (None, 48):
        stream = TokenStream(tokens=200, every=0.01)
        counter = FlushCounter(of=stream)
        with VirtualClock(), suppress(ConnectionError):
            asyncio.run(_written(stream, counter, fails_after))
        counter.end()
        counter.assert_coalesced(per_second=21)


async def _written(stream: TokenStream, counter: FlushCounter, fails_after: int | None) -> None:
    async def deltas():
        number = 0
        async for delta in stream:
            if number == fails_after:
                raise ConnectionError
            number += 1
            yield delta

    async def push(_data: bytes) -> None:
        """Go nowhere."""

    writer = responses.ResponseWriter(counter.call(push), responses.DIALECTS["openai"])
    await writer.write(deltas())


def gated(names: Sequence[str]) -> None:
    """A manager of models: silent under test, and in production it fetches.

    It is known to run, so one that fetches nowhere is told by its void proof.
    """
    try:
        assert_fetch_is_gated(MAKE.format(list(names)))
    except NetworkInconclusive as error:
        says = error.verdict.headline
        assert not says.endswith("a void proof"), says  # noqa: S101 - this is a check
        raise


def ordered(_names: Sequence[str]) -> None:
    """The listing comes before, between, or after what people add."""
    assert_order_independent(
        lambda catalogue: catalogue.apply(["a/new"]),
        [lambda catalogue: catalogue.add("me/mine"), lambda catalogue: catalogue.add("me/other")],
        make=models.Catalogue,  # a manager fetches, unless it is made in a test
        outcome=lambda catalogue: [model.id for model in catalogue.models()],
    )


def untorn(_names: Sequence[str]) -> None:
    """What a worker says, in shared memory."""
    with registry.shared_slot() as memory:
        assert_atomic_reads(
            partial(registry.write, memory), partial(registry.read, memory), writer="process"
        )


def listed(_names: Sequence[str]) -> None:
    """What the listing does not have any more is gone: an assertion as people write it."""
    catalogue = models.Catalogue()
    catalogue.apply(["a/withdrawn"])
    catalogue.apply(["a/new"])
    listed = [model.id for model in catalogue.models()]
    assert "a/withdrawn" not in listed, "what was withdrawn is listed"  # noqa: S101


def responsive(_names: Sequence[str]) -> None:
    """A snapshot of the heap, and a spline by the slowest renderer: the one without extras."""
    assert_responsive(app(3_000), HEAP, beside=CHAT, rounds=3)
    missing = Mock(side_effect=ModuleNotFoundError)
    with patch.multiple(rendering, in_wasm=missing, in_numpy=missing):
        assert_responsive(app(3_000), SPLINE, beside=CHAT, rounds=3)


def renderers() -> Mapping[str, Callable[[tuple[Sequence[Point], int]], object]]:
    """Those of splines that there are, each from a curve to pairs of numbers."""

    def pairs(render: Render) -> Callable[[tuple[Sequence[Point], int]], object]:
        return lambda curve: struct.iter_unpack("<2d", b"".join(render(*curve)))

    return {name: pairs(render) for name, render in rendering.available()}


CHECKS: Mapping[str, Callable[[Sequence[str]], object]] = {
    "assert_linear": linear,
    "assert_throttled": throttled,
    "assert_coalesced": coalesced,
    "assert_fetch_is_gated": gated,
    "assert_order_independent": ordered,
    "assert": listed,
    "assert_gauges_settle": lambda _: assert_gauges_settle(
        app(), requests=[CHAT, FAILING], clients=3, within=0.3
    ),
    "assert_backpressure": lambda _: assert_backpressure(
        app(hub=Hub(idle=1.0)), idle=1.0, within=1.0
    ),
    "assert_responsive": responsive,
    "assert_streamed": lambda _: assert_streamed(app(), HEAP, max_piece=2**16),
    "assert_fallback_parity": lambda _: assert_fallback_parity(
        renderers(), inputs=[(CURVE, 100), (CURVE[:2], 2), ([(1e300, -1e-300)] * 3, 50)]
    ),
    "assert_cors": lambda _: assert_cors(app()),
    "assert_survives": lambda _: assert_survives(
        app(), requests=[CHAT], websocket="/ws/telemetry", crowd=20, rounds=3, within=0.5
    ),
    "assert_loaded_once": lambda _: assert_loaded_once(app(), PRICES, clients=10, requests=50),
    "assert_stops": lambda names: assert_stops(
        [
            *(sys.executable, "-m", "reference_impl", "--every", "0.2", "--grace", "0.1"),
            *(["--regress", *names] if names else []),
        ],
        CHAT,
    ),
    "assert_atomic_reads": untorn,
}
"""By the name of the check in this project; each takes the names of the regressions in place."""


def said(check: str, *names: str) -> str:
    """What a check fails with, its first line, where these regressions are in place; else "".

    Raises `Inconclusive`, which is neither.
    """
    with regressed(*names):
        try:
            CHECKS[check](names)
        except Inconclusive:
            raise
        except AssertionError as error:
            return str(error).partition("\n")[0] or "it fails"
    return ""


def page() -> str:
    """The matrix, as Markdown."""
    lines = [
        "# Which check catches which regression",
        "",
        "Made by `python -m benchmarks.checks`: every check, pointed at the reference server with",
        "each of its seeded regressions. **x** is the check that a regression is for, o another",
        "that is tripped by it, for the reason below. Which invariants of a throttle each of these",
        "breaks is in [throttle.md](throttle.md).",
        "",
        f"| regression | {' | '.join(f'`{check}`' for check in CHECKS)} |",
        f"|---|{'---|' * len(CHECKS)}",
    ]
    overlaps = []
    for name in ["", *REGRESSIONS]:
        cells = []
        for check in CHECKS:
            says = said(check, *filter(None, [name]))
            cells.append("o" if says else "")
            if name and REGRESSIONS[name].check == check:
                cells[-1] = "**x**" if says else "missed"
            elif says:
                print(f"{name or 'none'}, {check}: {says}", file=sys.stderr, flush=True)
                why = OVERLAPS.get((name, check), "NOT JUSTIFIED")
                overlaps.append(f"- {name or 'none'}, `{check}`: {why}.")
        lines.append(f"| {name or 'none'} | {' | '.join(cells)} |")
    stories = [f"- {name}: {each.story}" for name, each in REGRESSIONS.items()]
    return "\n".join([*lines, "", *overlaps, "", "## Their stories", "", *stories])


if __name__ == "__main__":
    logging.basicConfig(handlers=[logging.NullHandler()])  # models fail here, and clients leave
    print(page())
