"""Every check of this project, set up to run on the reference server.

A seeded regression is a fault put into the server on purpose. `CHECKS` has a function for each
check, and `failure_of` runs one of them with chosen regressions in place.

`python -m benchmarks.checks` runs each check on the healthy server and then with each regression,
and writes docs/regressions.md. `examples.walk` and tests run single checks.
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

# By regression and check: why the check fails, although the regression is meant for another check.
OVERLAPS = {
    ("merge-depends-on-order", "assert"): "a merged list keeps every entry, also a withdrawn one",
    (
        "swallowed-error-flush",
        "assert_stops",
    ): "it also swallows the error event of a server that stops",
    (
        "gauge-leaks-on-disconnect",
        "assert_survives",
    ): "its clients leave early, and it checks the gauges",
    ("dead-clients-kept", "assert_survives"): "the status task keeps running for the dead clients",
    (
        "snapshot-on-the-loop",
        "assert_streamed",
    ): "the whole snapshot is taken before its first byte is sent",
}


def app(tokens: int = 20, **terms: object) -> object:
    """Return the reference server with a model that takes 10 ms per delta and fails for "fail"."""

    def engine(messages: Sequence[Message]) -> TokenStream:
        if messages[-1]["content"] == "fail":
            raise RuntimeError("the model is out of order")
        return TokenStream(tokens=tokens, every=0.01)

    return create_app(engine, debug=True, snapshot_limit=0.3, **terms)  # type: ignore[arg-type]


def check_linear(_names: Sequence[str]) -> None:
    """Check that a turn of the agent costs linear time in the number of deltas."""

    async def consume(stream: TokenStream) -> None:
        engine: Engine = lambda _: stream  # noqa: E731 - the whole model
        async with aclosing(run_turn(engine, MESSAGES, tools={})) as events:
            async for _ in events:
                pass

    assert_linear(consume, up_to=4_000, seconds=4.0)


def check_throttled(_names: Sequence[str]) -> None:
    """Check the throttle's invariants in scenarios with every way in which a turn may end."""
    breaches = set(chain.from_iterable(broken_invariants(steps) for steps in SCENARIOS.values()))
    assert not breaches, f"invariants {sorted(breaches)} of a throttle of {EVERY} s"


def check_coalesced(_names: Sequence[str]) -> None:
    """Check the flushes of a reply that is complete, and of a reply that fails midway."""
    for fails_after in (None, 48):
        stream = TokenStream(tokens=200, every=0.01)
        counter = FlushCounter(of=stream)
        with VirtualClock(), suppress(ConnectionError):
            asyncio.run(_write_reply(stream, counter, fails_after))
        counter.end()
        counter.assert_coalesced(per_second=21)


async def _write_reply(stream: TokenStream, counter: FlushCounter, fails_after: int | None) -> None:
    async def deltas():
        number = 0
        async for delta in stream:
            if number == fails_after:
                raise ConnectionError
            number += 1
            yield delta

    async def push(_data: bytes) -> None:
        """Discard the bytes."""

    writer = responses.ResponseWriter(counter.call(push), responses.DIALECTS["openai"])
    await writer.write(deltas())


def check_gate(names: Sequence[str]) -> None:
    """Check that a model manager fetches in production, and not under test.

    The manager is sure to run here. So a manager that never fetches is a failure, although the
    check itself calls it inconclusive ("so nothing is proven").
    """
    try:
        assert_fetch_is_gated(MAKE.format(list(names)))
    except NetworkInconclusive as error:
        headline = error.verdict.headline
        assert not headline.endswith("so nothing is proven"), headline
        raise


def check_order(_names: Sequence[str]) -> None:
    """Check that the order of the listing and of added models does not change the catalogue."""
    assert_order_independent(
        lambda catalogue: catalogue.apply(["a/new"]),
        [lambda catalogue: catalogue.add("me/mine"), lambda catalogue: catalogue.add("me/other")],
        make=models.Catalogue,  # a manager would fetch outside of tests
        outcome=lambda catalogue: [model.id for model in catalogue.models()],
    )


def check_atomic_reads(_names: Sequence[str]) -> None:
    """Check that a reader never sees a torn state of a worker in shared memory."""
    with worker_slot.shared_slot() as memory:
        assert_atomic_reads(
            partial(worker_slot.write, memory), partial(worker_slot.read, memory), writer="process"
        )


def check_listing(_names: Sequence[str]) -> None:
    """Check, by a plain `assert`, that a new listing removes models that it does not have."""
    catalogue = models.Catalogue()
    catalogue.apply(["a/withdrawn"])
    catalogue.apply(["a/new"])
    model_ids = [model.id for model in catalogue.models()]
    assert "a/withdrawn" not in model_ids, "what was withdrawn is listed"


def check_responsive(_names: Sequence[str]) -> None:
    """Check that a heap snapshot, and a spline by the slowest renderer, do not delay a chat."""
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
    "assert_linear": check_linear,
    "assert_throttled": check_throttled,
    "assert_coalesced": check_coalesced,
    "assert_fetch_is_gated": check_gate,
    "assert_order_independent": check_order,
    "assert": check_listing,
    "assert_gauges_settle": lambda _: assert_gauges_settle(
        app(), requests=[CHAT, FAILING], **METRICS, totals=TOTALS, clients=3, within=0.3
    ),
    "assert_backpressure": lambda _: assert_backpressure(
        app(hub=Hub(idle=1.0)), **BROADCAST, idle=1.0, within=1.0
    ),
    "assert_responsive": check_responsive,
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
    "assert_atomic_reads": check_atomic_reads,
}
"""From the name of a check to a function that runs it, given the regressions in place by name."""


def failure_of(check: str, *names: str) -> str:
    """Return the first line of a check's failure with these regressions, or "" if it passes.

    Raises `Inconclusive` if the check is inconclusive, which is neither a failure nor a pass.
    """
    with regressed(*names):
        try:
            CHECKS[check](names)
        except Inconclusive:
            raise
        except AssertionError as error:
            return str(error).partition("\n")[0] or "the check failed without a message"
    return ""
