"""How a turn looks on the wire: events and dialects, encoded and decoded by pure functions."""

from pytest_streamperf.exceptions import WireError
from pytest_streamperf.wire.dialects import BUILT_IN, DeltaDecoder, Dialect, dialect, register
from pytest_streamperf.wire.wire_stream import WireStream

__all__ = ["BUILT_IN", "DeltaDecoder", "Dialect", "WireError", "WireStream", "dialect", "register"]
