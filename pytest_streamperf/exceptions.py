"""Exceptions and warnings: every one that a user may meet, with its base class.

A check that does not pass raises a subclass of `BudgetExceeded` or of `Inconclusive`. Both are
assertion errors and carry the verdict. They pickle, so that xdist's workers can send them.

The other classes report wrong input: `BudgetError` a setting, `WireError` bytes on the wire,
`RecordingError` a recording, `ReportError` a report.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_streamperf._results.verdict import Verdict


class _CheckOutcome(AssertionError):  # noqa: N818 - an outcome, not an error
    def __init__(self, verdict: "Verdict") -> None:
        super().__init__(verdict)
        self.verdict = verdict

    def __str__(self) -> str:
        return self.verdict.message

    def __reduce__(self) -> tuple[object, ...]:
        # `__module__` is set to `builtins` below, so pickle would look for the class there.
        return _restored_outcome, (type(self).__name__, self.verdict), self.__dict__


class BudgetExceeded(_CheckOutcome):
    """A check measured a value above its limit. `verdict` holds the evidence."""


class GrowthExceeded(BudgetExceeded):
    """The work of the code under test grows faster than the length of the stream."""


class Inconclusive(_CheckOutcome):
    """A check could not be decided, so the test does not pass. `verdict` gives the reason."""


class GrowthInconclusive(Inconclusive):
    """A growth check could not decide whether work grows faster than the stream."""


class ThrottlingExceeded(BudgetExceeded):
    """Updates or flushes break the limits of their throttling check."""


class ThrottlingInconclusive(Inconclusive):
    """A throttling check had too little evidence to decide about updates or flushes."""


class ResponsivenessExceeded(BudgetExceeded):
    """A stream exceeds a limit on gaps, stalls, pauses, memory or CPU time."""


class ResponsivenessInconclusive(Inconclusive):
    """A responsiveness check could not decide whether a stream keeps to its limits."""


class NetworkExceeded(BudgetExceeded):
    """Code attempted a network access that was not allowed."""


class ServerExceeded(BudgetExceeded):
    """A server failed one of the server checks."""


class NetworkInconclusive(Inconclusive):
    """A network check could not decide whether code attempted a network access."""


class ServerInconclusive(Inconclusive):
    """A server check could not decide whether the server behaves as it should."""


class NothingMeasured(Inconclusive):
    """A check had nothing to measure."""


class StreamperfWarning(UserWarning):
    """A check failed or was inconclusive, and a setting turned the failure into a warning."""


class VirtualTimeError(RuntimeError):
    """Virtual time cannot advance: every task waits for ever, or for a real event."""


class BudgetError(ValueError):
    """A setting is wrong. The text names the setting, its value and the allowed values."""


class WireError(ValueError):
    """Bytes on the wire cannot be decoded. The text names the place and the expected content.

    `offset` is where the wrong event or line begins, in bytes from the start of the stream.
    `number` is the count of events before it. Both are the same for every way to cut the stream.
    If the stream ended too early, they count all its bytes and events. `decoded` holds the events
    that the same chunk contained before the error, so no event is lost.

    >>> WireError("a line of more than 8 bytes", offset=20, number=3).offset
    20
    """

    def __init__(
        self, problem: str, *, offset: int, number: int, decoded: Sequence[Any] = ()
    ) -> None:
        events = "1 event" if number == 1 else f"{number:,} events"
        super().__init__(f"{problem}, at byte {offset:,}, after {events}")
        self.offset = offset
        self.number = number
        self.decoded = decoded


class RecordingError(ValueError):
    """A file is no recording. The text names the line, its content and the expected content."""


class ReportError(ValueError):
    """A report cannot be used. The text names the file, the place, the fault and the rule."""


class BlockedFetch(ConnectionRefusedError):  # noqa: N818 - code that catches OSError catches it
    """The network guard blocked a network access."""


class RateLimited(ConnectionRefusedError):  # noqa: N818 - like its base
    """The server refuses requests for `retry_after` seconds: HTTP 429, with no delta sent.

    `header` is the value of the Retry-After header: decimal seconds, to the microsecond.
    """

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after
        self.header = f"{retry_after:.6f}".rstrip("0").rstrip(".")
        super().__init__(f"rate limited: HTTP 429, Retry-After: {self.header}")


# pytest shows an exception of `builtins` without its module, so a report starts with the name
# alone. pytest does the same with its own outcomes.
_OUTCOMES: tuple[type[_CheckOutcome], ...] = (
    BudgetExceeded,
    *BudgetExceeded.__subclasses__(),
    Inconclusive,
    *Inconclusive.__subclasses__(),
)
_CLASSES = {kind.__name__: kind for kind in _OUTCOMES}
for _kind in _OUTCOMES:
    _kind.__module__ = "builtins"


def _restored_outcome(name: str, verdict: "Verdict") -> _CheckOutcome:
    return _CLASSES[name](verdict)


def missing_extra(module: str, extra: str, purpose: str) -> ModuleNotFoundError:
    """Make the error for a library that is not installed, with the command that installs it."""
    return ModuleNotFoundError(
        f"{purpose} needs {module}: pip install 'pytest-streamperf[{extra}]'",
        name=module,
    )
