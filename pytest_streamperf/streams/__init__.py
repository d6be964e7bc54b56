"""Simulated input for code under test: streams of deltas, with messages, pace, chunks and faults.

    messages       the parts of an agent's turn, and the deltas that they are cut into
    token_stream   `TokenStream`, a sync and async iterable of deltas
    pacing         the seconds before each delta
    faults         disconnects, rate limits, corrupt bytes and other faults of a connection
    chunking       cuts of the bytes on the wire into chunks
    recording      real streams, saved to a file and played back
    strategies     Hypothesis strategies for the above

Import `strategies` by its full name: Hypothesis is an extra, so this module does not import it.
"""

from pytest_streamperf.exceptions import RateLimited, RecordingError
from pytest_streamperf.streams.chunking import (
    Cut,
    at,
    at_random,
    fixed,
    per_byte,
    per_event,
    worst_case,
)
from pytest_streamperf.streams.faults import (
    CommentFlood,
    Corrupt,
    Disconnect,
    Duplicate,
    EndlessLine,
    ErrorEvent,
    InvalidUtf8,
    RateLimit,
    Reorder,
    Truncate,
    Unclosed,
)
from pytest_streamperf.streams.messages import (
    Delta,
    Failure,
    Part,
    Reasoning,
    ReasoningDelta,
    Text,
    ToolCall,
    ToolCallDelta,
    Turn,
    Usage,
)
from pytest_streamperf.streams.pacing import Bursts, Jittered, Stalled, slow_first
from pytest_streamperf.streams.recording import Recorder, Recording
from pytest_streamperf.streams.token_stream import (
    Fault,
    Stream,
    TokenStream,
    object_arguments,
    string_arguments,
)

__all__ = [
    "Bursts",
    "CommentFlood",
    "Corrupt",
    "Cut",
    "Delta",
    "Disconnect",
    "Duplicate",
    "EndlessLine",
    "ErrorEvent",
    "Failure",
    "Fault",
    "InvalidUtf8",
    "Jittered",
    "Part",
    "RateLimit",
    "RateLimited",
    "Reasoning",
    "ReasoningDelta",
    "Recorder",
    "Recording",
    "RecordingError",
    "Reorder",
    "Stalled",
    "Stream",
    "Text",
    "TokenStream",
    "ToolCall",
    "ToolCallDelta",
    "Truncate",
    "Turn",
    "Unclosed",
    "Usage",
    "at",
    "at_random",
    "fixed",
    "object_arguments",
    "per_byte",
    "per_event",
    "slow_first",
    "string_arguments",
    "worst_case",
]
