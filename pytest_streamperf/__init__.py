"""Catch streaming performance regressions before users feel them.

Every public name is loaded on first use (PEP 562), so that importing the package costs nothing
and needs the standard library alone.

    >>> from pytest_streamperf import measure_growth
    >>> measure_growth(lambda stream: "".join(stream), up_to=1_000).verdict
    'within'
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_streamperf._results.verdict import Verdict as Verdict
    from pytest_streamperf.exceptions import (
        BudgetError as BudgetError,
    )
    from pytest_streamperf.exceptions import (
        BudgetExceeded as BudgetExceeded,
    )
    from pytest_streamperf.exceptions import (
        GrowthExceeded as GrowthExceeded,
    )
    from pytest_streamperf.exceptions import (
        GrowthInconclusive as GrowthInconclusive,
    )
    from pytest_streamperf.exceptions import (
        Inconclusive as Inconclusive,
    )
    from pytest_streamperf.exceptions import (
        NetworkExceeded as NetworkExceeded,
    )
    from pytest_streamperf.exceptions import (
        NetworkInconclusive as NetworkInconclusive,
    )
    from pytest_streamperf.exceptions import (
        NothingMeasured as NothingMeasured,
    )
    from pytest_streamperf.exceptions import (
        ResponsivenessExceeded as ResponsivenessExceeded,
    )
    from pytest_streamperf.exceptions import (
        ResponsivenessInconclusive as ResponsivenessInconclusive,
    )
    from pytest_streamperf.exceptions import (
        ServerExceeded as ServerExceeded,
    )
    from pytest_streamperf.exceptions import (
        ServerInconclusive as ServerInconclusive,
    )
    from pytest_streamperf.exceptions import (
        StreamperfWarning as StreamperfWarning,
    )
    from pytest_streamperf.exceptions import (
        ThrottlingExceeded as ThrottlingExceeded,
    )
    from pytest_streamperf.exceptions import (
        ThrottlingInconclusive as ThrottlingInconclusive,
    )
    from pytest_streamperf.exceptions import (
        VirtualTimeError as VirtualTimeError,
    )
    from pytest_streamperf.growth import (
        Blame as Blame,
    )
    from pytest_streamperf.growth import (
        GrowthResult as GrowthResult,
    )
    from pytest_streamperf.growth import (
        assert_linear as assert_linear,
    )
    from pytest_streamperf.growth import (
        assert_linear_async as assert_linear_async,
    )
    from pytest_streamperf.growth import (
        measure_growth as measure_growth,
    )
    from pytest_streamperf.growth import (
        measure_growth_async as measure_growth_async,
    )
    from pytest_streamperf.growth.chunking_invariance import (
        assert_chunking_invariant as assert_chunking_invariant,
    )
    from pytest_streamperf.network import (
        FetchGuard as FetchGuard,
    )
    from pytest_streamperf.network import (
        assert_fetch_is_gated as assert_fetch_is_gated,
    )
    from pytest_streamperf.network import (
        assert_order_independent as assert_order_independent,
    )
    from pytest_streamperf.network import (
        assert_same_requests as assert_same_requests,
    )
    from pytest_streamperf.responsiveness import (
        ResponsivenessResult as ResponsivenessResult,
    )
    from pytest_streamperf.responsiveness import (
        StallWatch as StallWatch,
    )
    from pytest_streamperf.server import (
        assert_atomic_reads as assert_atomic_reads,
    )
    from pytest_streamperf.server import (
        assert_backpressure as assert_backpressure,
    )
    from pytest_streamperf.server import (
        assert_cors as assert_cors,
    )
    from pytest_streamperf.server import (
        assert_fallback_parity as assert_fallback_parity,
    )
    from pytest_streamperf.server import (
        assert_gauges_settle as assert_gauges_settle,
    )
    from pytest_streamperf.server import (
        assert_loaded_once as assert_loaded_once,
    )
    from pytest_streamperf.server import (
        assert_responsive as assert_responsive,
    )
    from pytest_streamperf.server import (
        assert_stops as assert_stops,
    )
    from pytest_streamperf.server import (
        assert_streamed as assert_streamed,
    )
    from pytest_streamperf.server import (
        assert_survives as assert_survives,
    )
    from pytest_streamperf.streams import (
        Failure as Failure,
    )
    from pytest_streamperf.streams import (
        Reasoning as Reasoning,
    )
    from pytest_streamperf.streams import (
        ReasoningDelta as ReasoningDelta,
    )
    from pytest_streamperf.streams import (
        Text as Text,
    )
    from pytest_streamperf.streams import (
        TokenStream as TokenStream,
    )
    from pytest_streamperf.streams import (
        ToolCall as ToolCall,
    )
    from pytest_streamperf.streams import (
        ToolCallDelta as ToolCallDelta,
    )
    from pytest_streamperf.streams import (
        Turn as Turn,
    )
    from pytest_streamperf.streams import (
        Usage as Usage,
    )
    from pytest_streamperf.streams import (
        object_arguments as object_arguments,
    )
    from pytest_streamperf.streams import (
        string_arguments as string_arguments,
    )
    from pytest_streamperf.throttling import (
        THROTTLE_MUTANTS as THROTTLE_MUTANTS,
    )
    from pytest_streamperf.throttling import (
        FlushCounter as FlushCounter,
    )
    from pytest_streamperf.throttling import (
        ThrottlingResult as ThrottlingResult,
    )
    from pytest_streamperf.throttling import (
        UpdateCounter as UpdateCounter,
    )
    from pytest_streamperf.throttling import (
        assert_test_detects as assert_test_detects,
    )
    from pytest_streamperf.virtual_clock import VirtualClock as VirtualClock
    from pytest_streamperf.wire import WireStream as WireStream

__version__ = "0.1.0"

_HOME_OF = {
    "Verdict": "_results.verdict",
    "BudgetError": "exceptions",
    "BudgetExceeded": "exceptions",
    "GrowthExceeded": "exceptions",
    "GrowthInconclusive": "exceptions",
    "Inconclusive": "exceptions",
    "NetworkExceeded": "exceptions",
    "NetworkInconclusive": "exceptions",
    "NothingMeasured": "exceptions",
    "ResponsivenessExceeded": "exceptions",
    "ResponsivenessInconclusive": "exceptions",
    "ServerExceeded": "exceptions",
    "ServerInconclusive": "exceptions",
    "StreamperfWarning": "exceptions",
    "ThrottlingExceeded": "exceptions",
    "ThrottlingInconclusive": "exceptions",
    "VirtualTimeError": "exceptions",
    "Blame": "growth",
    "GrowthResult": "growth",
    "assert_linear": "growth",
    "assert_linear_async": "growth",
    "measure_growth": "growth",
    "measure_growth_async": "growth",
    "assert_chunking_invariant": "growth.chunking_invariance",
    "FetchGuard": "network",
    "assert_fetch_is_gated": "network",
    "assert_order_independent": "network",
    "assert_same_requests": "network",
    "ResponsivenessResult": "responsiveness",
    "StallWatch": "responsiveness",
    "assert_atomic_reads": "server",
    "assert_backpressure": "server",
    "assert_cors": "server",
    "assert_fallback_parity": "server",
    "assert_gauges_settle": "server",
    "assert_loaded_once": "server",
    "assert_responsive": "server",
    "assert_stops": "server",
    "assert_streamed": "server",
    "assert_survives": "server",
    "Failure": "streams",
    "Reasoning": "streams",
    "ReasoningDelta": "streams",
    "Text": "streams",
    "TokenStream": "streams",
    "ToolCall": "streams",
    "ToolCallDelta": "streams",
    "Turn": "streams",
    "Usage": "streams",
    "object_arguments": "streams",
    "string_arguments": "streams",
    "FlushCounter": "throttling",
    "THROTTLE_MUTANTS": "throttling",
    "ThrottlingResult": "throttling",
    "UpdateCounter": "throttling",
    "assert_test_detects": "throttling",
    "VirtualClock": "virtual_clock",
    "WireStream": "wire",
}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        msg = f"module {__name__!r} has no attribute {name!r}; it has {', '.join(sorted(_HOME_OF))}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
