"""Every exception and warning that a user may meet, with its base class.

`BudgetExceeded` and `Inconclusive` are outcomes of checks and carry the verdict; `BudgetError` is
for settings. All of them pickle, so that they travel from xdist's workers.
"""

from typing import TYPE_CHECKING

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


class Unproven(_Raised):
    """A check could not be concluded; it is not green. `verdict` says why."""


class GrowthUnproven(Unproven):
    """Whether work grows faster than the stream could not be told."""


class CadenceExceeded(BudgetExceeded):
    """Updates or flushes do not keep to what was promised of them."""


class CadenceUnproven(Unproven):
    """Whether updates or flushes keep to it could not be told, for want of evidence."""


class PulseExceeded(BudgetExceeded):
    """A stream does not run smoothly: gaps, stalls, pauses, memory or CPU time."""


class PulseUnproven(Unproven):
    """Whether a stream runs smoothly could not be told."""


class NetworkExceeded(BudgetExceeded):
    """Something reached for the network, and was not allowed to."""


class ServiceExceeded(BudgetExceeded):
    """A server does not do what is expected of one."""


class NetworkUnproven(Unproven):
    """Whether anything reached for the network could not be told."""


class NothingMeasured(Unproven):
    """A check had nothing to measure."""


class StreamperfWarning(UserWarning):
    """Something that a setting accepts, and that would fail without it."""


class BudgetError(ValueError):
    """A setting is wrong: the text names it, what it is, and what is allowed."""


# As pytest does with its own outcomes: a report starts with the name alone.
_CLASSES = {
    kind.__name__: kind
    for kind in (
        *(BudgetExceeded, GrowthExceeded, CadenceExceeded, PulseExceeded, NetworkExceeded),
        ServiceExceeded,
        *(Unproven, GrowthUnproven, CadenceUnproven, PulseUnproven, NetworkUnproven),
        NothingMeasured,
    )
}
for _kind in _CLASSES.values():
    _kind.__module__ = "builtins"


def _raised(name: str, verdict: "Verdict") -> _Raised:
    return _CLASSES[name](verdict)


def missing_extra(module: str, extra: str, purpose: str) -> ModuleNotFoundError:
    """Make the error for a library that is not installed, with the command that installs it."""
    return ModuleNotFoundError(
        f"{purpose} needs {module}: pip install 'pytest-streamperf[{extra}]'",
        name=module,
    )
