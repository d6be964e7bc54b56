"""What goes wrong on the way: each fault does what it says, and its client can tell."""

import doctest
import sys

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
    WireStream,
    faults,
)
from pytest_streamperf.cutting import per_byte, per_event, worst_case
from pytest_streamperf.faults import (
    CommentFlood,
    Corrupt,
    Disconnect,
    Duplicate,
    EndlessLine,
    ErrorEvent,
    InvalidUtf8,
    RateLimit,
    RateLimited,
    Reorder,
    Truncate,
    Unclosed,
)
from pytest_streamperf.turns import text_of
from pytest_streamperf.wire import BUILT_IN, WireError, openai_chat

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


def test_a_comment_flood():
    """Comments are no events, however many there are."""
    deltas, error = decoded(WireStream(TURN).with_fault(CommentFlood(after=2, comments=1_000)))
    assert (deltas, error) == (list(TURN), None)


def test_an_endless_line_takes_no_memory_of_its_own():
    """Its pieces are one object."""
    line = WireStream(TURN).with_fault(EndlessLine(after=0, size=32 * 2**20)).deltas
    assert sum(map(len, line)) > 31 * 2**20
    assert sum({id(piece): sys.getsizeof(piece) for piece in line}.values()) < 2**17


def test_faults_of_deltas_and_of_events_go_together():
    """An error event that comes twice, after a delta that does."""
    stream = WireStream(TURN).with_fault(ErrorEvent(after=1)).with_fault(Duplicate(1))
    first = TURN[0]
    assert decoded(stream)[0] == [first, first, Failure("Overloaded", "overloaded_error")]


def test_a_stream_is_not_changed():
    """What a fault is added to stays whole."""
    stream = WireStream(TURN)
    stream.with_fault(Disconnect(2))
    assert decoded(stream, openai_chat.Decoder()) == (list(TURN), None)


# -- faults that cannot be


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (Disconnect(4), ValueError, r"Disconnect\(after=4\) would never happen: there are 3 items"),
        (Truncate(-1), ValueError, r"Truncate\(after=-1\) counts items from 0"),
        (Duplicate(3), ValueError, "would never happen: there are 3 items"),
        (Reorder(2), ValueError, "would never happen: there are 3 items"),
        (ErrorEvent(4), ValueError, "would never happen: there are 3 items"),
        (Corrupt(1), TypeError, r"Corrupt\(at=1\) is for the bytes of a WireStream, not for 'b'"),
        (InvalidUtf8(0), TypeError, "is for the bytes of a WireStream, not for 'a'"),
    ],
)
def test_a_fault_that_would_never_happen_is_refused(fault, error, says):
    """A test of it would be green for ever."""
    with pytest.raises(error, match=says):
        TokenStream(["a", "b", "c"]).with_fault(fault)


def test_no_call_to_leave_open():
    """There has to be something that is not closed."""
    with pytest.raises(ValueError, match=r"Unclosed\(\) needs a tool call, which is not there"):
        TokenStream([Failure("Overloaded")]).with_fault(Unclosed())


def test_examples_in_docstrings():
    """The module's doctests hold."""
    failed, attempted = doctest.testmod(faults)
    assert attempted
    assert not failed
