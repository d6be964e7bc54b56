"""Every exception and warning that a user may meet, with its base class.

`BudgetExceeded` and `Inconclusive` are outcomes of checks and carry the verdict; `BudgetError` is
for settings. Outcomes pickle, so that they travel from xdist's workers.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_streamperf._results.verdict import Verdict


class _Raised(AssertionError):  # noqa: N818 - an outcome, not an error
    def __init__(self, verdict: "Verdict") -> None:
        super().__init__(verdict)
        self.verdict = verdict

    def __str__(self) -> str:
        return self.verdict.message

    def __reduce__(self) -> tuple[object, ...]:
        # By `__module__`, below, pickle would look for the class in `builtins`.
        return _raised, (type(self).__name__, self.verdict), self.__dict__


class BudgetExceeded(_Raised):
    """Something was measured, and it is over its limit. `verdict` holds the evidence."""


class GrowthExceeded(BudgetExceeded):
    """Work grows faster than the stream does."""


class Inconclusive(_Raised):
    """A check could not be concluded; it is not green. `verdict` says why."""


class GrowthInconclusive(Inconclusive):
    """Whether work grows faster than the stream could not be told."""


class ThrottlingExceeded(BudgetExceeded):
    """Updates or flushes do not keep to what was promised of them."""


class ThrottlingInconclusive(Inconclusive):
    """Whether updates or flushes keep to it could not be told, for want of evidence."""


class ResponsivenessExceeded(BudgetExceeded):
    """A stream does not run smoothly: gaps, stalls, pauses, memory or CPU time."""


class ResponsivenessInconclusive(Inconclusive):
    """Whether a stream runs smoothly could not be told."""


class NetworkExceeded(BudgetExceeded):
    """Something reached for the network, and was not allowed to."""


class ServerExceeded(BudgetExceeded):
    """A server does not do what is expected of one."""


class NetworkInconclusive(Inconclusive):
    """Whether anything reached for the network could not be told."""


class ServerInconclusive(Inconclusive):
    """Whether a server does what is expected of one could not be told."""


class NothingMeasured(Inconclusive):
    """A check had nothing to measure."""


class StreamperfWarning(UserWarning):
    """Something that a setting accepts, and that would fail without it."""


class VirtualTimeError(RuntimeError):
    """Virtual time cannot go on: everything waits for ever, or for something real."""


class BudgetError(ValueError):
    """A setting is wrong: the text names it, what it is, and what is allowed."""


class WireError(ValueError):
    """What cannot be decoded: where it is, and what was expected there.

    `offset` is where what is wrong begins, an event or a line, in bytes from the start of the
    stream, and `number` how many events came before it: the same, however the stream was cut.
    Where more should have come, they are all the bytes and events there were. `decoded` is what the
    same piece held before, so that nothing is lost.

    >>> WireError("a line of more than 8 bytes", offset=20, number=3).offset
    20
    """

    def __init__(self, what: str, *, offset: int, number: int, decoded: Sequence[Any] = ()) -> None:
        events = "1 event" if number == 1 else f"{number:,} events"
        super().__init__(f"{what}, at byte {offset:,}, after {events}")
        self.offset = offset
        self.number = number
        self.decoded = decoded


class RecordingError(ValueError):
    """A file is no recording: which line, what it is, and what was expected."""


class ReportError(ValueError):
    """A report cannot be used: the text names it, the place, what was wrong and what is allowed."""


class BlockedFetch(ConnectionRefusedError):  # noqa: N818 - what happened, to who catches OSError
    """Nothing may be reached from here."""


class RateLimited(ConnectionRefusedError):  # noqa: N818 - like its base
    """The server takes no more for `retry_after` seconds: HTTP 429, before anything was sent.

    `header` says so: a decimal number of seconds, to the microsecond.
    """

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after
        self.header = f"{retry_after:.6f}".rstrip("0").rstrip(".")
        super().__init__(f"rate limited: HTTP 429, Retry-After: {self.header}")


# As pytest does with its own outcomes: a report starts with the name alone.
_OUTCOMES: tuple[type[_Raised], ...] = (
    BudgetExceeded,
    *BudgetExceeded.__subclasses__(),
    Inconclusive,
    *Inconclusive.__subclasses__(),
)
_CLASSES = {kind.__name__: kind for kind in _OUTCOMES}
for _kind in _OUTCOMES:
    _kind.__module__ = "builtins"


def _raised(name: str, verdict: "Verdict") -> _Raised:
    return _CLASSES[name](verdict)


def missing_extra(module: str, extra: str, purpose: str) -> ModuleNotFoundError:
    """Make the error for a library that is not installed, with the command that installs it."""
    return ModuleNotFoundError(
        f"{purpose} needs {module}: pip install 'pytest-streamperf[{extra}]'",
        name=module,
    )
