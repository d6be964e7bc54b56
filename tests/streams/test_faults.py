"""Tests of the faults of a connection or a server: each fault breaks a stream as it says.

The tests add faults to streams of any items, and to a `WireStream` in every dialect. They decode
the broken stream in memory, or serve it and read it over a socket.
"""

import doctest
import math
import sys
import time
from dataclasses import replace
from itertools import accumulate

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf import (
    Failure,
    Text,
    TokenStream,
    ToolCall,
    ToolCallDelta,
    Turn,
    VirtualClock,
    WireStream,
)
from pytest_streamperf.exceptions import RateLimited
from pytest_streamperf.streams import faults
from pytest_streamperf.streams.chunking import per_byte, per_event, worst_case
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
from pytest_streamperf.streams.messages import text_of
from pytest_streamperf.wire import BUILT_IN, WireError, openai_chat
from pytest_streamperf.wire.server import serve

# The turn that the wire streams of these tests carry.
TURN = Turn(Text("It is in the notes."), ToolCall("read", {"path": "notes.md"}))
# Items of a stream, as Hypothesis draws them.
ITEMS = st.lists(st.text(min_size=1), min_size=1)


def decode_until_error(stream, decoder=None):
    """Return the deltas that a client decodes, and the error that ends the stream, or None."""
    decoder = decoder or stream.dialect.Decoder()
    deltas = []
    try:
        for chunk in stream:
            deltas += decoder.feed(chunk)
        decoder.close()
    except WireError as error:
        return [*deltas, *error.decoded], error
    except ConnectionError as error:
        return deltas, error
    return deltas, None


def made_with_fault(stream, fault):
    """Return a copy of a wire stream that takes the fault as an argument, not by `with_fault`."""
    return WireStream(stream.turn, stream.dialect, every=stream.every, faults=[fault])


# -- faults of any items


@given(items=ITEMS, data=st.data())
def test_what_faults_do_to_items(items, data):
    """A fault changes the items at its own place only, wherever that place is."""
    at = data.draw(st.integers(0, len(items) - 1))
    stream = TokenStream(items)
    assert stream.with_fault(Truncate(at)).deltas == items[:at]
    assert stream.with_fault(Disconnect(at)).deltas == items[:at]
    assert stream.with_fault(Duplicate(at)).deltas == [*items[: at + 1], *items[at:]]
    assert stream.with_fault(ErrorEvent(at)).deltas[:-1] == items[:at]
    if at + 1 < len(items):
        item, next_item = items[at : at + 2]
        assert list(Reorder(at)(items)) == [*items[:at], next_item, item, *items[at + 2 :]]


def test_a_rate_limit_comes_before_anything():
    """A rate limit refuses the request before any delta, and its error says how long to wait."""
    stream = TokenStream(5).with_fault(RateLimit(retry_after=2.5))
    with pytest.raises(RateLimited, match=r"rate limited: HTTP 429, Retry-After: 2\.5") as limited:
        next(iter(stream))
    assert limited.value.retry_after == 2.5


@pytest.mark.parametrize(
    ("seconds", "header"),
    [(0, "0"), (0.01, "0.01"), (2.5, "2.5"), (3.0, "3"), (90, "90"), (1e6, "1000000")],
)
def test_how_long_to_wait_is_a_decimal_number(seconds, header):
    """The `Retry-After` header is a decimal number without an exponent or a needless `.0`."""
    error = TokenStream(1).with_fault(RateLimit(seconds)).error
    assert (error.header, error.retry_after) == (header, seconds)


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf])
def test_how_long_to_wait_is_a_number_of_seconds(seconds):
    """A `retry_after` that is negative, infinite or not a number raises a `ValueError`."""
    with pytest.raises(
        ValueError, match=r"retry_after must be a time, 0 or more and finite, as .*, not"
    ):
        RateLimit(seconds)


def test_arguments_that_never_close():
    """`Unclosed` drops the last character of a turn's arguments, or of a stream of text deltas."""
    (first, *rest), unclosed = list(TURN), list(Unclosed()(TURN))
    assert first in unclosed
    assert "".join(map(text_of, unclosed)) == "".join(map(text_of, (first, *rest)))[:-1]
    assert (
        TokenStream.tool_call(3).with_fault(Unclosed()).text == TokenStream.tool_call(3).text[:-1]
    )


# -- faults of a wire stream


@pytest.mark.parametrize("cut", [per_event, per_byte, worst_case])
@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize(
    ("fault", "error_type"),
    [
        (Disconnect(after=3), ConnectionResetError),
        (Truncate(after=3), WireError),
        (RateLimit(), RateLimited),
        (Corrupt(at=0), WireError),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_client_can_tell(name, fault, error_type, cut):
    """A client of any dialect gets an error of the connection or of the decoder."""
    whole, _ = decode_until_error(WireStream(TURN, name))
    deltas, error = decode_until_error(WireStream(TURN, name, cut=cut).with_fault(fault))
    assert isinstance(error, error_type), error
    assert deltas == whole[: len(deltas)]


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_endless_line(name):
    """The decoder of every dialect raises an error for a line of more than 16 MiB."""
    stream = WireStream(TURN, name).with_fault(EndlessLine(after=3, size=18 * 2**20))
    deltas, error = decode_until_error(stream)
    assert "a line of more than 16,777,216 bytes" in str(error)
    assert deltas == decode_until_error(WireStream(TURN, name))[0][: len(deltas)]


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_error_event(name):
    """A client of any dialect decodes an error event after two deltas as a `Failure`."""
    deltas, error = decode_until_error(WireStream(TURN, name).with_fault(ErrorEvent(after=2)))
    assert error is None
    assert deltas[:-1] == list(TURN)[:2]
    assert isinstance(deltas[-1], Failure)
    assert deltas[-1].message == "Overloaded"


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_error_event_anywhere(name):
    """A server may send an error event after any delta, also inside a tool call.

    Ollama sends a tool call as a whole, so it sends nothing of a call that the error cuts off.
    """
    for after in range(len(TURN) + 1):
        deltas, error = decode_until_error(WireStream(TURN, name).with_fault(ErrorEvent(after)))
        sends_calls = name != "ollama-chat" or after == len(TURN)
        sent = [delta for delta in TURN[:after] if sends_calls or isinstance(delta, str)]
        assert (error, deltas[-1].message) == (None, "Overloaded")
        assert "".join(map(text_of, deltas[:-1])) == "".join(map(text_of, sent))


def test_a_call_before_the_one_that_an_error_cuts_off():
    """Ollama sends a complete tool call before the call that an error event cuts off.

    A turn with an unclosed call before a complete one raises a `ValueError`.
    """
    turn = Turn(ToolCall("read", {"path": "a.md"}), ToolCall("read", {"path": "b.md"}))
    cut_off = WireStream(turn, "ollama-chat").with_fault(ErrorEvent(len(turn) - 1))
    (call, failure), _ = decode_until_error(cut_off)
    assert (call.arguments, failure.message) == ('{"path": "a.md"}', "Overloaded")
    open_call = replace(turn[0], arguments="{")
    with pytest.raises(ValueError, match="ollama-chat sends arguments whole"):
        WireStream(Turn.of([open_call, turn[-1], Failure("Overloaded")]), "ollama-chat")


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "ollama-chat"])
def test_arguments_that_never_close_on_the_wire(name):
    """A client decodes unclosed arguments without an error; only the last character is missing."""
    deltas, error = decode_until_error(WireStream(TURN, name).with_fault(Unclosed()))
    assert error is None
    called = "".join(delta.arguments for delta in deltas if isinstance(delta, ToolCallDelta))
    assert called == TURN.parts[1].json[:-1]


def test_arguments_that_come_whole_are_closed():
    """`Unclosed` raises a `ValueError` for Ollama, which sends arguments only as complete JSON."""
    with pytest.raises(ValueError, match="ollama-chat sends arguments whole"):
        WireStream(TURN, "ollama-chat").with_fault(Unclosed())


def test_bytes_that_are_not_utf_8():
    """A decoder of server-sent events accepts invalid UTF-8, and a decoder of NDJSON refuses it.

    The standard of server-sent events asks for U+FFFD in place of invalid bytes.
    """
    hello = Turn.of(["Hello"])
    events = WireStream(hello, cut=per_event).deltas
    middle = next(at for at, event in enumerate(events) if b"Hello" in event)
    _, error = decode_until_error(WireStream(hello).with_fault(InvalidUtf8(middle)))
    assert b"\xff" in WireStream(hello).with_fault(InvalidUtf8(middle)).deltas[middle]
    assert error is None
    _, error = decode_until_error(WireStream(hello, "ollama-chat").with_fault(InvalidUtf8(0)))
    assert "a line must be UTF-8" in str(error)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_comment_flood(name):
    """A flood of comments leaves the decoded deltas unchanged.

    JSON has no comments, so a stream of NDJSON receives empty lines instead.
    """
    whole = WireStream(TURN, name)
    flooded = whole.with_fault(CommentFlood(after=2, comments=1_000))
    assert decode_until_error(flooded) == decode_until_error(whole)
    comment = b"\n" if name == "ollama-chat" else b": ping\n\n"
    assert flooded.deltas == (*whole.deltas[:2], *[comment] * 1_000, *whole.deltas[2:])


@pytest.mark.parametrize("size", [0, 3, 6, 7, 2**16, 2**16 + 6, 100_000])
def test_an_endless_line_is_as_long_as_it_says(size):
    """The size of an endless line includes the `data: ` at its start."""
    line = b"".join(WireStream(TURN).with_fault(EndlessLine(after=0, size=size)).deltas)
    assert line == (b"data: " + b"x" * size)[:size]


def test_an_endless_line_takes_no_memory_of_its_own():
    """An endless line of 32 MiB takes less than 256 KiB, because it repeats one piece."""
    line = WireStream(TURN).with_fault(EndlessLine(after=0, size=32 * 2**20)).deltas
    assert sum(map(len, line)) > 31 * 2**20
    assert sum({id(piece): sys.getsizeof(piece) for piece in line}.values()) < 2**18


def test_faults_of_deltas_and_of_events_go_together():
    """A stream can combine a fault of its deltas with a fault of its events."""
    stream = WireStream(TURN).with_fault(ErrorEvent(after=1)).with_fault(Duplicate(1))
    first = TURN[0]
    assert decode_until_error(stream)[0] == [
        first,
        first,
        Failure("Overloaded", "overloaded_error"),
    ]


@pytest.mark.parametrize("make", [WireStream.with_fault, made_with_fault])
def test_measured_gaps_are_for_what_is_not_broken(make):
    """A fault may add chunks, which come at once after the last gap, or remove chunks."""
    hello = WireStream(Turn.of(["Hello"]))
    whole = WireStream(hello.turn, every=[0.5] * len(hello))
    with VirtualClock():
        start = time.monotonic()
        arrived = [(time.monotonic() - start, chunk) for chunk in make(whole, Duplicate(1))]
    times = [*accumulate(whole.every), 0.5 * len(hello)]
    first, second, *rest = hello.deltas
    assert arrived == list(zip(times, [first, second, second, *rest], strict=True))
    assert make(whole, Truncate(1)).deltas == (first,)


def test_a_stream_is_not_changed():
    """`with_fault` returns a copy, and the stream itself stays unbroken."""
    stream = WireStream(TURN)
    stream.with_fault(Disconnect(2))
    assert decode_until_error(stream, openai_chat.Decoder()) == (list(TURN), None)


# -- faults over a socket


# The events that a server sends for `TURN`.
SENT_EVENTS = list(openai_chat.encode(TURN))
# `TURN` with an error event after two deltas, and `TURN` with unclosed arguments.
FAILED_TURN = Turn.of([*TURN[:2], Failure("Overloaded", "overloaded_error")])
UNCLOSED_TURN = Turn.of([*TURN[:-1], replace(TURN[-1], arguments=TURN[-1].arguments[:-1])])
# The index of the byte in the middle of the second event, where some faults change the bytes.
MIDDLE = len(SENT_EVENTS[1]) // 2
# The chunks that arrive for each fault; None where the server refuses the request.
ARRIVING_CHUNKS = {
    Disconnect(2): SENT_EVENTS[:2],
    Truncate(2): SENT_EVENTS[:2],
    RateLimit(2): None,
    Duplicate(1): [*SENT_EVENTS[:2], *SENT_EVENTS[1:]],
    Reorder(1): [SENT_EVENTS[0], SENT_EVENTS[2], SENT_EVENTS[1], *SENT_EVENTS[3:]],
    Corrupt(1): [
        SENT_EVENTS[0],
        SENT_EVENTS[1][:MIDDLE],
        b"\0",
        SENT_EVENTS[1][MIDDLE + 1 :],
        *SENT_EVENTS[2:],
    ],
    InvalidUtf8(1): [
        SENT_EVENTS[0],
        SENT_EVENTS[1][:MIDDLE],
        b"\xff",
        SENT_EVENTS[1][MIDDLE:],
        *SENT_EVENTS[2:],
    ],
    CommentFlood(2, comments=9): [*SENT_EVENTS[:2], b": ping\n\n" * 9, *SENT_EVENTS[2:]],
    EndlessLine(2, size=100_000): [*SENT_EVENTS[:2], b"data: ", b"x" * 99_994],
    ErrorEvent(2): list(openai_chat.encode(FAILED_TURN)),
    Unclosed(): list(openai_chat.encode(UNCLOSED_TURN)),
}


@pytest.mark.parametrize(
    ("fault", "arrives"), ARRIVING_CHUNKS.items(), ids=lambda value: type(value).__name__
)
def test_what_a_client_gets_of_a_fault(fault, arrives):
    """A client receives the bytes of the broken stream, and an error if the connection breaks."""
    received, error = b"", None
    with (
        serve(WireStream(TURN).with_fault(fault)) as script,
        httpx.stream("POST", script.url + openai_chat.PATH) as response,
    ):
        try:
            for chunk in response.iter_raw():
                received += chunk
        except httpx.RemoteProtocolError as broken:
            error = broken
    assert bool(error) == isinstance(fault, Disconnect)
    if arrives is None:
        assert (response.status_code, response.headers["retry-after"]) == (429, "2")
    else:
        assert received == b"".join(arrives)


def test_every_fault_is_served():
    """The table of arriving chunks has an entry for every fault in `streams.faults`."""
    fault_names = {
        name
        for name, member in vars(faults).items()
        if "__call__" in getattr(member, "__dict__", {})
    }
    assert {type(fault).__name__ for fault in ARRIVING_CHUNKS} == fault_names


# -- faults that are refused


@pytest.mark.parametrize(
    ("fault", "error", "pattern"),
    [
        (Disconnect(4), ValueError, r"Disconnect\(after=4\) would never happen: there are 3 items"),
        (Duplicate(3), ValueError, "would never happen: there are 3 items"),
        (Reorder(2), ValueError, "would never happen: there are 3 items"),
        (ErrorEvent(4), ValueError, "would never happen: there are 3 items"),
        (Corrupt(1), TypeError, r"Corrupt\(at=1\) is for the bytes of a WireStream, not for 'a'"),
        (InvalidUtf8(0), TypeError, "is for the bytes of a WireStream, not for 'a'"),
        (CommentFlood(0), TypeError, "is for the bytes of a WireStream, not for 'a'"),
        (EndlessLine(0), TypeError, "is for the bytes of a WireStream, not for 'a'"),
    ],
)
def test_a_fault_that_would_never_happen_is_refused(fault, error, pattern):
    """A fault beyond the end of the stream, or for bytes in a stream of text, raises an error.

    A test with such a fault would pass without testing anything.
    """
    with pytest.raises(error, match=pattern):
        TokenStream(["a", "b", "c"]).with_fault(fault)


@pytest.mark.parametrize(
    ("fault", "arguments"),
    [
        *((fault, {"after": -1}) for fault in (Disconnect, Truncate, ErrorEvent)),
        *((fault, {"at": -1}) for fault in (Duplicate, Reorder, Corrupt, InvalidUtf8)),
        *((CommentFlood, {"after": after, "comments": after ^ -1}) for after in (0, -1)),
        (EndlessLine, {"after": -1, "size": 0}),
    ],
)
def test_a_fault_counts_from_0(fault, arguments):
    """A fault with a number below 0 raises a `ValueError` that names the number's argument."""
    shown = ", ".join(f"{name}={value}" for name, value in arguments.items())
    below = next(name for name, value in arguments.items() if value < 0)
    match = (
        f"{fault.__name__}\\({shown}.*: {below} must be at least 0, and items are counted from 0"
    )
    with pytest.raises(ValueError, match=match):
        fault(**arguments)


def test_an_endless_line_has_a_size_in_bytes():
    """An endless line with a size below 0 raises a `ValueError` when it is made."""
    with pytest.raises(ValueError, match=r"^size must be a number of bytes, .*, not -1$"):
        EndlessLine(after=0, size=-1)


def test_no_call_to_leave_open():
    """`Unclosed` raises a `ValueError` if the stream has neither a tool call nor text."""
    with pytest.raises(ValueError, match=r"Unclosed\(\) needs a tool call, which is not there"):
        TokenStream([Failure("Overloaded")]).with_fault(Unclosed())


def test_examples_in_docstrings():
    """The doctests of `streams.faults` pass."""
    failed, attempted = doctest.testmod(faults)
    assert attempted
    assert not failed


@pytest.mark.parametrize("after", [3, 5])
def test_a_good_end_before_a_bad_one(after):
    """A stream that is truncated at or before a disconnect ends without the disconnect's error."""
    broken = TokenStream(10).with_fault(Disconnect(5)).with_fault(Truncate(after))
    assert (len(broken), broken.error) == (after, None)
    assert TokenStream(10).with_fault(Disconnect(5), Duplicate(1)).error
