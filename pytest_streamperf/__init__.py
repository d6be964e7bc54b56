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
    from pytest_streamperf.exceptions import BudgetError as BudgetError
    from pytest_streamperf.exceptions import BudgetExceeded as BudgetExceeded
    from pytest_streamperf.exceptions import CadenceExceeded as CadenceExceeded
    from pytest_streamperf.exceptions import CadenceUnproven as CadenceUnproven
    from pytest_streamperf.exceptions import GrowthExceeded as GrowthExceeded
    from pytest_streamperf.exceptions import GrowthUnproven as GrowthUnproven
    from pytest_streamperf.exceptions import NetworkExceeded as NetworkExceeded
    from pytest_streamperf.exceptions import NetworkUnproven as NetworkUnproven
    from pytest_streamperf.exceptions import NothingMeasured as NothingMeasured
    from pytest_streamperf.exceptions import PulseExceeded as PulseExceeded
    from pytest_streamperf.exceptions import PulseUnproven as PulseUnproven
    from pytest_streamperf.exceptions import ServiceExceeded as ServiceExceeded
    from pytest_streamperf.exceptions import StreamperfWarning as StreamperfWarning
    from pytest_streamperf.exceptions import Unproven as Unproven
    from pytest_streamperf.growth.blame import Blame as Blame
    from pytest_streamperf.growth.checks import Growth as Growth
    from pytest_streamperf.growth.checks import assert_linear as assert_linear
    from pytest_streamperf.growth.checks import assert_linear_async as assert_linear_async
    from pytest_streamperf.growth.checks import measure_growth as measure_growth
    from pytest_streamperf.growth.checks import measure_growth_async as measure_growth_async
    from pytest_streamperf.network.fetch_guard import FetchGuard as FetchGuard
    from pytest_streamperf.network.gate import assert_order_independent as assert_order_independent
    from pytest_streamperf.network.gate import assert_same_requests as assert_same_requests
    from pytest_streamperf.network.gate import prove_gate as prove_gate
    from pytest_streamperf.responsiveness.stall_watch import Pulse as Pulse
    from pytest_streamperf.responsiveness.stall_watch import StallWatch as StallWatch
    from pytest_streamperf.streams.messages import Failure as Failure
    from pytest_streamperf.streams.messages import Reasoning as Reasoning
    from pytest_streamperf.streams.messages import ReasoningDelta as ReasoningDelta
    from pytest_streamperf.streams.messages import Text as Text
    from pytest_streamperf.streams.messages import ToolCall as ToolCall
    from pytest_streamperf.streams.messages import ToolCallDelta as ToolCallDelta
    from pytest_streamperf.streams.messages import Turn as Turn
    from pytest_streamperf.streams.messages import Usage as Usage
    from pytest_streamperf.streams.token_stream import TokenStream as TokenStream
    from pytest_streamperf.streams.token_stream import object_arguments as object_arguments
    from pytest_streamperf.streams.token_stream import string_arguments as string_arguments
    from pytest_streamperf.throttling.detection import prove_test as prove_test
    from pytest_streamperf.throttling.flush_counter import FlushCounter as FlushCounter
    from pytest_streamperf.throttling.mutants import THROTTLE_MUTANTS as THROTTLE_MUTANTS
    from pytest_streamperf.throttling.update_counter import Cadence as Cadence
    from pytest_streamperf.throttling.update_counter import UpdateCounter as UpdateCounter
    from pytest_streamperf.virtual_clock import VirtualClock as VirtualClock
    from pytest_streamperf.virtual_clock import VirtualTimeError as VirtualTimeError
    from pytest_streamperf.wire.wire_stream import WireStream as WireStream

__version__ = "0.1.0"

_HOME_OF = {
    "Verdict": "_results.verdict",
    "BudgetError": "exceptions",
    "BudgetExceeded": "exceptions",
    "CadenceExceeded": "exceptions",
    "CadenceUnproven": "exceptions",
    "GrowthExceeded": "exceptions",
    "GrowthUnproven": "exceptions",
    "NetworkExceeded": "exceptions",
    "NetworkUnproven": "exceptions",
    "NothingMeasured": "exceptions",
    "PulseExceeded": "exceptions",
    "PulseUnproven": "exceptions",
    "ServiceExceeded": "exceptions",
    "StreamperfWarning": "exceptions",
    "Unproven": "exceptions",
    "Blame": "growth.blame",
    "Growth": "growth.checks",
    "assert_linear": "growth.checks",
    "assert_linear_async": "growth.checks",
    "measure_growth": "growth.checks",
    "measure_growth_async": "growth.checks",
    "FetchGuard": "network.fetch_guard",
    "assert_order_independent": "network.gate",
    "assert_same_requests": "network.gate",
    "prove_gate": "network.gate",
    "Pulse": "responsiveness.stall_watch",
    "StallWatch": "responsiveness.stall_watch",
    "Failure": "streams.messages",
    "Reasoning": "streams.messages",
    "ReasoningDelta": "streams.messages",
    "Text": "streams.messages",
    "ToolCall": "streams.messages",
    "ToolCallDelta": "streams.messages",
    "Turn": "streams.messages",
    "Usage": "streams.messages",
    "TokenStream": "streams.token_stream",
    "object_arguments": "streams.token_stream",
    "string_arguments": "streams.token_stream",
    "prove_test": "throttling.detection",
    "FlushCounter": "throttling.flush_counter",
    "THROTTLE_MUTANTS": "throttling.mutants",
    "Cadence": "throttling.update_counter",
    "UpdateCounter": "throttling.update_counter",
    "VirtualClock": "virtual_clock",
    "VirtualTimeError": "virtual_clock",
    "WireStream": "wire.wire_stream",
}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        msg = f"module {__name__!r} has no attribute {name!r}; it has {', '.join(sorted(_HOME_OF))}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
