"""What goes wrong on the way: each fault does what it says, and its client can tell."""

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

TURN = Turn(Text("It is in the notes."), ToolCall("read", {"path": "notes.md"}))
ITEMS = st.lists(st.text(min_size=1), min_size=1)


def decoded(stream, decoder=None):
    """The deltas that a client gets before it fails, and whether it does."""
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


def added_at_once(stream, fault):
    """Make the stream with the fault, to which it could be added."""
    return WireStream(stream.turn, stream.dialect, every=stream.every, faults=[fault])


# -- of any items


@given(items=ITEMS, data=st.data())
def test_what_faults_do_to_items(items, data):
    """Nothing but what each says, wherever it happens."""
    at = data.draw(st.integers(0, len(items) - 1))
    stream = TokenStream(items)
    assert stream.with_fault(Truncate(at)).deltas == items[:at]
    assert stream.with_fault(Disconnect(at)).deltas == items[:at]
    assert stream.with_fault(Duplicate(at)).deltas == [*items[: at + 1], *items[at:]]
    assert stream.with_fault(ErrorEvent(at)).deltas[:-1] == items[:at]
    if at + 1 < len(items):
        one, other = items[at : at + 2]
        assert list(Reorder(at)(items)) == [*items[:at], other, one, *items[at + 2 :]]


def test_a_rate_limit_comes_before_anything():
    """It says how long to wait."""
    stream = TokenStream(5).with_fault(RateLimit(retry_after=2.5))
    with pytest.raises(RateLimited, match=r"rate limited: HTTP 429, Retry-After: 2\.5") as limited:
        next(iter(stream))
    assert limited.value.retry_after == 2.5


@pytest.mark.parametrize(
    ("seconds", "header"),
    [(0, "0"), (0.01, "0.01"), (2.5, "2.5"), (3.0, "3"), (90, "90"), (1e6, "1000000")],
)
def test_how_long_to_wait_is_a_decimal_number(seconds, header):
    """As a header says it: without an exponent, and whole where it is."""
    error = TokenStream(1).with_fault(RateLimit(seconds)).error
    assert (error.header, error.retry_after) == (header, seconds)


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf])
def test_how_long_to_wait_is_a_number_of_seconds(seconds):
    """Nobody can wait for others."""
    with pytest.raises(
        ValueError, match=r"retry_after must be a time, 0 or more and finite, as .*, not"
    ):
        RateLimit(seconds)


def test_arguments_that_never_close():
    """Their last character is not there; without a tool call it is that of the text."""
    (first, *more), unclosed = list(TURN), list(Unclosed()(TURN))
    assert first in unclosed
    assert "".join(map(text_of, unclosed)) == "".join(map(text_of, (first, *more)))[:-1]
    assert (
        TokenStream.tool_call(3).with_fault(Unclosed()).text == TokenStream.tool_call(3).text[:-1]
    )


# -- of a wire stream


@pytest.mark.parametrize("cut", [per_event, per_byte, worst_case])
@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize(
    ("fault", "fails"),
    [
        (Disconnect(after=3), ConnectionResetError),
        (Truncate(after=3), WireError),
        (RateLimit(), RateLimited),
        (Corrupt(at=0), WireError),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_client_can_tell(name, fault, fails, cut):
    """In every dialect the stream breaks off, or its decoder says where it is wrong."""
    whole, _ = decoded(WireStream(TURN, name))
    deltas, error = decoded(WireStream(TURN, name, cut=cut).with_fault(fault))
    assert isinstance(error, fails), error
    assert deltas == whole[: len(deltas)]


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_endless_line(name):
    """No decoder holds more than it is allowed to."""
    stream = WireStream(TURN, name).with_fault(EndlessLine(after=3, size=18 * 2**20))
    deltas, error = decoded(stream)
    assert "a line of more than 16,777,216 bytes" in str(error)
    assert deltas == decoded(WireStream(TURN, name))[0][: len(deltas)]


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_error_event(name):
    """After so many deltas the server says that it failed, in each dialect's own way."""
    deltas, error = decoded(WireStream(TURN, name).with_fault(ErrorEvent(after=2)))
    assert error is None
    assert deltas[:-1] == list(TURN)[:2]
    assert isinstance(deltas[-1], Failure)
    assert deltas[-1].message == "Overloaded"


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_error_event_anywhere(name):
    """In the middle of a tool call, too, of which those that send calls whole have sent nothing."""
    for after in range(len(TURN) + 1):
        deltas, error = decoded(WireStream(TURN, name).with_fault(ErrorEvent(after)))
        whole = name != "ollama-chat" or after == len(TURN)
        sent = [delta for delta in TURN[:after] if whole or isinstance(delta, str)]
        assert (error, deltas[-1].message) == (None, "Overloaded")
        assert "".join(map(text_of, deltas[:-1])) == "".join(map(text_of, sent))


def test_a_call_before_the_one_that_an_error_cuts_off():
    """It was sent; and one that never closes cannot be, whatever comes later."""
    turn = Turn(ToolCall("read", {"path": "a.md"}), ToolCall("read", {"path": "b.md"}))
    cut_off = WireStream(turn, "ollama-chat").with_fault(ErrorEvent(len(turn) - 1))
    (call, failure), _ = decoded(cut_off)
    assert (call.arguments, failure.message) == ('{"path": "a.md"}', "Overloaded")
    open_call = replace(turn[0], arguments="{")
    with pytest.raises(ValueError, match="ollama-chat sends arguments whole"):
        WireStream(Turn.of([open_call, turn[-1], Failure("Overloaded")]), "ollama-chat")


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "ollama-chat"])
def test_arguments_that_never_close_on_the_wire(name):
    """All is as it should be but for them."""
    deltas, error = decoded(WireStream(TURN, name).with_fault(Unclosed()))
    assert error is None
    called = "".join(delta.arguments for delta in deltas if isinstance(delta, ToolCallDelta))
    assert called == TURN.parts[1].json[:-1]


def test_arguments_that_come_whole_are_closed():
    """Ollama has no way to send others."""
    with pytest.raises(ValueError, match="ollama-chat sends arguments whole"):
        WireStream(TURN, "ollama-chat").with_fault(Unclosed())


def test_bytes_that_are_not_utf_8():
    """Event streams have U+FFFD there, as the standard says; NDJSON clients may refuse them."""
    hello = Turn.of(["Hello"])
    events = WireStream(hello, cut=per_event).deltas
    middle = next(at for at, event in enumerate(events) if b"Hello" in event)
    _, error = decoded(WireStream(hello).with_fault(InvalidUtf8(middle)))
    assert b"\xff" in WireStream(hello).with_fault(InvalidUtf8(middle)).deltas[middle]
    assert error is None
    _, error = decoded(WireStream(hello, "ollama-chat").with_fault(InvalidUtf8(0)))
    assert "a line must be UTF-8" in str(error)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_comment_flood(name):
    """Comments are no events, however many there are; JSON has none, and empty lines are sent."""
    whole = WireStream(TURN, name)
    flooded = whole.with_fault(CommentFlood(after=2, comments=1_000))
    assert decoded(flooded) == decoded(whole)
    comment = b"\n" if name == "ollama-chat" else b": ping\n\n"
    assert flooded.deltas == (*whole.deltas[:2], *[comment] * 1_000, *whole.deltas[2:])


@pytest.mark.parametrize("size", [0, 3, 6, 7, 2**16, 2**16 + 6, 100_000])
def test_an_endless_line_is_as_long_as_it_says(size):
    """With what it starts with."""
    line = b"".join(WireStream(TURN).with_fault(EndlessLine(after=0, size=size)).deltas)
    assert line == (b"data: " + b"x" * size)[:size]


def test_an_endless_line_takes_no_memory_of_its_own():
    """Its pieces are one object, but for the last."""
    line = WireStream(TURN).with_fault(EndlessLine(after=0, size=32 * 2**20)).deltas
    assert sum(map(len, line)) > 31 * 2**20
    assert sum({id(piece): sys.getsizeof(piece) for piece in line}.values()) < 2**18


def test_faults_of_deltas_and_of_events_go_together():
    """An error event that comes twice, after a delta that does."""
    stream = WireStream(TURN).with_fault(ErrorEvent(after=1)).with_fault(Duplicate(1))
    first = TURN[0]
    assert decoded(stream)[0] == [first, first, Failure("Overloaded", "overloaded_error")]


@pytest.mark.parametrize("make", [WireStream.with_fault, added_at_once])
def test_measured_gaps_are_for_what_is_not_broken(make):
    """A fault may add chunks, which come at once, or take some away."""
    hello = WireStream(Turn.of(["Hello"]))
    whole = WireStream(hello.turn, every=[0.5] * len(hello))
    with VirtualClock():
        start = time.monotonic()
        came = [(time.monotonic() - start, chunk) for chunk in make(whole, Duplicate(1))]
    times = [*accumulate(whole.every), 0.5 * len(hello)]
    first, second, *rest = hello.deltas
    assert came == list(zip(times, [first, second, second, *rest], strict=True))
    assert make(whole, Truncate(1)).deltas == (first,)


def test_a_stream_is_not_changed():
    """What a fault is added to stays whole."""
    stream = WireStream(TURN)
    stream.with_fault(Disconnect(2))
    assert decoded(stream, openai_chat.Decoder()) == (list(TURN), None)


# -- over a socket


SENT = list(openai_chat.encode(TURN))
FAILED = Turn.of([*TURN[:2], Failure("Overloaded", "overloaded_error")])
OPEN = Turn.of([*TURN[:-1], replace(TURN[-1], arguments=TURN[-1].arguments[:-1])])
HALF = len(SENT[1]) // 2
ARRIVES = {
    Disconnect(2): SENT[:2],
    Truncate(2): SENT[:2],
    RateLimit(2): None,
    Duplicate(1): [*SENT[:2], *SENT[1:]],
    Reorder(1): [SENT[0], SENT[2], SENT[1], *SENT[3:]],
    Corrupt(1): [SENT[0], SENT[1][:HALF], b"\0", SENT[1][HALF + 1 :], *SENT[2:]],
    InvalidUtf8(1): [SENT[0], SENT[1][:HALF], b"\xff", SENT[1][HALF:], *SENT[2:]],
    CommentFlood(2, comments=9): [*SENT[:2], b": ping\n\n" * 9, *SENT[2:]],
    EndlessLine(2, size=100_000): [*SENT[:2], b"data: ", b"x" * 99_994],
    ErrorEvent(2): list(openai_chat.encode(FAILED)),
    Unclosed(): list(openai_chat.encode(OPEN)),
}


@pytest.mark.parametrize(
    ("fault", "arrives"), ARRIVES.items(), ids=lambda each: type(each).__name__
)
def test_what_a_client_gets_of_a_fault(fault, arrives):
    """The bytes that it stands for, and an error where the connection breaks."""
    got, error = b"", None
    with (
        serve(WireStream(TURN).with_fault(fault)) as script,
        httpx.stream("POST", script.url + openai_chat.PATH) as response,
    ):
        try:
            for chunk in response.iter_raw():
                got += chunk
        except httpx.RemoteProtocolError as broken:
            error = broken
    assert bool(error) == isinstance(fault, Disconnect)
    if arrives is None:
        assert (response.status_code, response.headers["retry-after"]) == (429, "2")
    else:
        assert got == b"".join(arrives)


def test_every_fault_is_served():
    """A new one is put into the table."""
    has = {
        name for name, each in vars(faults).items() if "__call__" in getattr(each, "__dict__", {})
    }
    assert {type(fault).__name__ for fault in ARRIVES} == has


# -- faults that cannot be


@pytest.mark.parametrize(
    ("fault", "error", "says"),
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
def test_a_fault_that_would_never_happen_is_refused(fault, error, says):
    """A test of it would be green for ever."""
    with pytest.raises(error, match=says):
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
    """Where it is made it says what is below that."""
    said = ", ".join(f"{name}={value}" for name, value in arguments.items())
    below = next(name for name, value in arguments.items() if value < 0)
    match = f"{fault.__name__}\\({said}.*: {below} must be at least 0, and items are counted from 0"
    with pytest.raises(ValueError, match=match):
        fault(**arguments)


def test_an_endless_line_has_a_size_in_bytes():
    """A size below 0 is refused where the fault is made."""
    with pytest.raises(ValueError, match=r"^size must be a number of bytes, .*, not -1$"):
        EndlessLine(after=0, size=-1)


def test_no_call_to_leave_open():
    """There has to be something that is not closed."""
    with pytest.raises(ValueError, match=r"Unclosed\(\) needs a tool call, which is not there"):
        TokenStream([Failure("Overloaded")]).with_fault(Unclosed())


def test_examples_in_docstrings():
    """The module's doctests hold."""
    failed, attempted = doctest.testmod(faults)
    assert attempted
    assert not failed


@pytest.mark.parametrize("after", [3, 5])
def test_a_good_end_before_a_bad_one(after):
    """Who hangs up first does not see the connection break."""
    broken = TokenStream(10).with_fault(Disconnect(5)).with_fault(Truncate(after))
    assert (len(broken), broken.error) == (after, None)
    assert TokenStream(10).with_fault(Disconnect(5), Duplicate(1)).error
