"""Every check of this project, pointed at the reference server.

`python -m benchmarks.checks` runs each check with nothing wrong and then with each seeded
regression in place, and writes docs/regressions.md. `examples.walk` and tests run single checks.
"""

import asyncio
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from itertools import chain
from unittest.mock import Mock, patch

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
from reference_impl import create_app, models, regressed, responses, run_turn
from reference_impl import splines as rendering
from reference_impl.agent import Engine, Message
from reference_impl.splines import Point, Render
from reference_impl.telemetry import Hub
from tests.matrix import worker_slot
from tests.matrix.reference_server import BROADCAST, LAST_EVENTS, METRICS, MODEL, TOTALS
from tests.matrix.throttles import EVERY, SCENARIOS, broken_invariants

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

# By regression and check: why a check fails for a regression that another check is meant for.
OVERLAPS = {
    ("merge-depends-on-order", "assert"): "what it has merged it never takes out",
    ("swallowed-error-flush", "assert_stops"): "the error that a stop ends with is swallowed, too",
    ("gauge-leaks-on-disconnect", "assert_survives"): "it has clients leave, and looks at gauges",
    ("dead-clients-kept", "assert_survives"): "a task goes on telling whoever is taken to be there",
    ("snapshot-on-the-loop", "assert_streamed"): "it is taken whole before any of it is sent",
}


def app(tokens: int = 20, **terms: object) -> object:
    """Return the reference server with a model that takes 10 ms per delta and fails for "fail"."""

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
    breaches = set(chain.from_iterable(broken_invariants(steps) for steps in SCENARIOS.values()))
    assert not breaches, f"invariants {sorted(breaches)} of a throttle of {EVERY} s"


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
        assert not says.endswith("a void proof"), says
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
    with worker_slot.shared_slot() as memory:
        assert_atomic_reads(
            partial(worker_slot.write, memory), partial(worker_slot.read, memory), writer="process"
        )


def listed(_names: Sequence[str]) -> None:
    """What the listing does not have any more is gone: an assertion as people write it."""
    catalogue = models.Catalogue()
    catalogue.apply(["a/withdrawn"])
    catalogue.apply(["a/new"])
    listed = [model.id for model in catalogue.models()]
    assert "a/withdrawn" not in listed, "what was withdrawn is listed"


def responsive(_names: Sequence[str]) -> None:
    """A snapshot of the heap, and a spline by the slowest renderer: the one without extras."""
    assert_responsive(app(3_000), HEAP, beside=CHAT, rounds=3)
    missing = Mock(side_effect=ModuleNotFoundError)
    with patch.multiple(rendering, in_wasm=missing, in_numpy=missing):
        assert_responsive(app(3_000), SPLINE, beside=CHAT, rounds=3)


def renderers() -> Mapping[str, Callable[[tuple[Sequence[Point], int]], object]]:
    """Return every spline renderer that is installed, each from a curve to pairs of numbers."""

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
        app(), requests=[CHAT, FAILING], **METRICS, totals=TOTALS, clients=3, within=0.3
    ),
    "assert_backpressure": lambda _: assert_backpressure(
        app(hub=Hub(idle=1.0)), **BROADCAST, idle=1.0, within=1.0
    ),
    "assert_responsive": responsive,
    "assert_streamed": lambda _: assert_streamed(app(), HEAP, max_chunk=2**16),
    "assert_fallback_parity": lambda _: assert_fallback_parity(
        renderers(), inputs=[(CURVE, 100), (CURVE[:2], 2), ([(1e300, -1e-300)] * 3, 50)]
    ),
    "assert_cors": lambda _: assert_cors(app()),
    "assert_survives": lambda _: assert_survives(
        app(), requests=[CHAT], websocket="/ws/telemetry", **METRICS, crowd=20, rounds=3, within=0.5
    ),
    "assert_loaded_once": lambda _: assert_loaded_once(
        app(), PRICES, **MODEL, clients=10, requests=50
    ),
    "assert_stops": lambda names: assert_stops(
        [
            *(sys.executable, "-m", "reference_impl", "--every", "0.2", "--grace", "0.1"),
            *(["--regress", *names] if names else []),
        ],
        CHAT,
        ends=LAST_EVENTS,
    ),
    "assert_atomic_reads": untorn,
}
"""From the name of a check to a function that runs it, given the regressions in place."""


def failure_of(check: str, *names: str) -> str:
    """Return the first line a check fails with while these regressions are in place, or "".

    Raises `Inconclusive` where the check cannot tell: that is neither a failure nor a pass.
    """
    with regressed(*names):
        try:
            CHECKS[check](names)
        except Inconclusive:
            raise
        except AssertionError as error:
            return str(error).partition("\n")[0] or "it fails"
    return ""
