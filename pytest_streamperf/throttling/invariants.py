"""The policy of a throttle and its fifteen invariants.

`ThrottlePolicy` holds the arguments of `assert_throttled`. `INVARIANTS` maps the number of an
invariant to its name, the evidence it needs, its meaning and its remedy. `Breach` is one broken
invariant.
"""

from typing import Literal, NamedTuple

from pytest_streamperf.throttling.record import EvidenceKind


class ThrottlePolicy(NamedTuple):
    """The rules that a throttle must keep; `every` and `tolerance` are in seconds."""

    every: float
    trailing: Literal["timer", "next", "end"] = "timer"
    on_cancel: Literal["drop", "flush"] = "drop"
    on_error: Literal["drop", "flush"] = "flush"
    on_retry: Literal["clear", "keep"] = "clear"
    tolerance: float = 1e-6


class Breach(NamedTuple):
    """A broken invariant, with its key, its time in seconds and a description of the breach."""

    number: int
    key: str
    time: float
    says: str


class Invariant(NamedTuple):
    """An invariant: its name, the evidence it needs, the meaning of a breach and the remedy."""

    name: str
    needs: frozenset[EvidenceKind]
    means: str
    remedy: str


def _needs(*names: EvidenceKind) -> frozenset[EvidenceKind]:
    return frozenset(names)


INVARIANTS = {
    1: Invariant(
        "first update immediate",
        _needs("of"),
        "people see nothing until the first interval is over",
        "send the first value at once, and start the interval then",
    ),
    2: Invariant(
        "rate bound per key",
        _needs(),
        "the sink gets more updates than allowed, perhaps one per delta",
        "compare the time of the last update before you send another",
    ),
    3: Invariant(
        "latest value",
        _needs("of", "value"),
        "the update carried a value that was out of date",
        "read the value when the update is sent, not when it is planned",
    ),
    4: Invariant(
        "bounded staleness",
        _needs("of"),
        "the last words stay invisible while the stream pauses",
        "when a value has to wait, set a timer for it",
    ),
    5: Invariant(
        "final flush, whole and once",
        _needs("of"),
        "the value pending at the end is lost, late or sent twice",
        "send the pending value before the end event",
    ),
    6: Invariant(
        "nothing after the end",
        _needs(),
        "an update comes after the end, or a task or timer still runs",
        "cancel the timer at the end, and when the stream is cancelled",
    ),
    7: Invariant(
        "policy on error, cancel and retry",
        _needs("of"),
        "the pending value is not handled as the policy says",
        "flush on error, drop on cancel, clear on retry, or pass on_...=",
    ),
    8: Invariant(
        "keys independent",
        _needs("of", "key"),
        "two tool calls share one throttle: one hides the other",
        "throttle by the call's index where it has no id",
    ),
    9: Invariant(
        "no starvation",
        _needs("of"),
        "while deltas keep coming, no update is sent",
        "do not restart the timer for every delta: that is a debounce",
    ),
    10: Invariant(
        "order across kinds",
        _needs("of", "key"),
        "text appears after the tool call that it announces",
        "flush the text before the first update of a tool call",
    ),
    11: Invariant(
        "terminal updates bypass the throttle",
        _needs("of"),
        "the final state waits for an interval that no longer matters",
        "send the final state at once",
    ),
    12: Invariant(
        "a skipped update uses up no time",
        _needs("of", "value"),
        "a delta that changed nothing delays one that changes the value",
        "start the interval when you send, not when you skip an update",
    ),
    13: Invariant(
        "fresh timestamps",
        _needs("stamp"),
        "updates carry the time they were planned for, not sent at",
        "read the clock when the update is sent",
    ),
    14: Invariant(
        "work inside the throttle",
        _needs("parses"),
        "costly work is done for every delta, and thrown away",
        "parse only when an update goes out",
    ),
    15: Invariant(
        "one at a time to a slow sink",
        _needs(),
        "a second update is sent before the first one has arrived",
        "wait for the sink to return before you send the next update",
    ),
}
