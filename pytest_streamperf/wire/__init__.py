"""The formats in which turns go over the wire: encoders, decoders, and streams of their bytes.

A dialect encodes a `Turn` to bytes and decodes bytes back to deltas; both are pure functions of
their input. `dialect` finds a dialect by its name, and `register` adds one. A `WireStream` is the
stream of a turn's chunks, with a pace and faults. The module `server` serves such streams over
sockets; import it from there.
"""

from pytest_streamperf.exceptions import WireError
from pytest_streamperf.wire.dialects import BUILT_IN, DeltaDecoder, Dialect, dialect, register
from pytest_streamperf.wire.wire_stream import WireStream

__all__ = ["BUILT_IN", "DeltaDecoder", "Dialect", "WireError", "WireStream", "dialect", "register"]
