"""What a check concluded: the verdicts, the exceptions, the words for them, and where they go.

Nothing here measures anything, and nothing is imported but the standard library's lightest parts.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pytest_streamperf import beside
from pytest_streamperf.figures import Figures, Place
from pytest_streamperf.sink import current_sink

__tracebackhide__ = True  # pytest shows the user's own frames

Outcome = Literal["within", "exceeded", "unproven"]

# pytest puts 8 columns before a message raised in a function; 80 are promised.
_WIDTH = 72
_MOST_LINES = 13
_INDENT = 9
# Figures have three digits; those that round to a thousand take the next unit.
_THREE_DIGITS, _THOUSAND = 99.95, 999.5

_LOWEST_BAR = ord("\N{LOWER ONE EIGHTH BLOCK}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one check concluded.

    `stem` names the kind of check ("growth"), `headline` says in one line what was measured and the
    limit, `details` are the lines that follow it when the check fails. `figures` are for machines,
    with who disturbed the check among their facts, `where` the guilty lines, `series` rows to draw,
    and `picture` the lines that a verbose report shows. A check that is not `measured` had nothing
    to measure: no policy accepts that.

    >>> Verdict(stem="growth", verdict="within", headline="2% superlinear, limit 25%").verdict
    'within'
    """

    stem: str
    verdict: Outcome
    headline: str
    details: Sequence[str] = ()
    figures: Figures = field(default_factory=Figures)
    where: Sequence[Place] = ()
    series: Mapping[str, Sequence[Sequence[float | str]]] = field(default_factory=dict)
    picture: Sequence[str] = ()
    measured: bool = True

    def __post_init__(self) -> None:
        if said := beside.note(self.stem):
            facts = {**self.figures.facts, "beside": said}
            object.__setattr__(self, "figures", replace(self.figures, facts=facts))  # made frozen

    @property
    def message(self) -> str:
        """All that a failure says, and who disturbed the check, if there is room for that."""
        lines = [self.headline, *self.details]
        note = lines_of({"note": self.figures.facts.get("beside", "")})
        return "\n".join(lines + note * (len(lines) + len(note) <= _MOST_LINES))


class _Raised(AssertionError):  # noqa: N818 - an outcome, not an error
    def __init__(self, verdict: Verdict) -> None:
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


def _raised(name: str, verdict: Verdict) -> _Raised:
    return _CLASSES[name](verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a project's settings say: the arguments of its checks, and what comes of a verdict.

    `growth` are arguments of `assert_linear`, where a call does not give them, and `network` those
    of a guard of every test: `background_fetch`, `allow_hosts`, `block_network`, `exact_network`.
    `budgets` are what a test as a whole is held to: the default, under "", and profiles by name;
    `defaults` is what the arguments above would be as one of these.
    With `mode="warn"` a check that would fail warns, with `unproven="warn"` only one that could not
    be concluded.

    >>> Policy(unproven="warn").accepts("unproven"), Policy().accepts("exceeded")
    (True, False)
    """

    growth: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)
    budgets: Mapping[str, Any] = field(default_factory=dict)
    defaults: Any = field(default=None, compare=False)
    unproven: Literal["fail", "warn"] = "fail"
    mode: Literal["fail", "warn"] = "fail"

    def accepts(self, outcome: Outcome) -> bool:
        """Whether this outcome is no failure."""
        return (
            outcome == "within"
            or self.mode == "warn"
            or (outcome == "unproven" and self.unproven == "warn")
        )


def current_policy() -> Policy:
    """The policy of the current sink; without one, every default."""
    sink = current_sink()
    return sink.policy if sink is not None else Policy()


def report(verdict: Verdict) -> None:
    """Tell the current sink, if there is one, what a check concluded."""
    sink = current_sink()
    if sink is not None:
        sink.report(verdict)


def progress(text: str) -> None:
    """Tell the current sink, if there is one, where a check is; nothing that it is done."""
    sink = current_sink()
    if sink is not None:
        sink.progress(text)


def concerns(subject: object) -> None:
    """Tell the current sink, if there is one, of a counter, or of a stream that is to be read."""
    sink = current_sink()
    if sink is not None:
        sink.concerns(subject)


def conclude(
    verdict: Verdict, exceeded: type[BudgetExceeded], unproven: type[Unproven], *, stacklevel: int
) -> None:
    """Report a verdict; raise it unless it is within its limit, or warn where the policy says so.

    `stacklevel` is that of `warnings.warn`, as seen by the caller.
    """
    report(verdict)
    if verdict.verdict == "within":
        return
    if current_policy().accepts(verdict.verdict):
        warnings.warn(verdict.message, StreamperfWarning, stacklevel=stacklevel + 1)
    else:
        raise (exceeded if verdict.verdict == "exceeded" else unproven)(verdict)


def nothing_measured(stem: str, what: str, advice: str) -> NothingMeasured:
    """Report a check that had nothing to measure, and make the error for it."""
    details = lines_of({"try": advice})
    verdict = Verdict(stem=stem, verdict="unproven", headline=what, details=details, measured=False)
    report(verdict)
    return NothingMeasured(verdict)


def missing_extra(module: str, extra: str, purpose: str) -> ModuleNotFoundError:
    """Make the error for a library that is not installed, with the command that installs it."""
    return ModuleNotFoundError(
        f"{purpose} needs {module}: pip install 'pytest-streamperf[{extra}]'",
        name=module,
    )


def size(count: float) -> str:
    """Bytes, for people: 1 kB is 1000 bytes.

    >>> size(25_100)
    '25.1 kB'
    """
    return _scaled(count, (" B", " kB", " MB", " GB", " TB"))


def thousands(count: float) -> str:
    """A large count, for people.

    >>> thousands(640), thousands(12_100_000)
    ('640', '12.1M')
    """
    return _scaled(count, ("", "k", "M", "G", "T"))


def _scaled(count: float, units: Sequence[str]) -> str:
    power = 0
    while count >= _THOUSAND and power < len(units) - 1:
        count, power = count / 1000, power + 1
    digits = 1 if power and count < _THREE_DIGITS else 0
    return f"{count:,.{digits}f}{units[power]}"


def duration(seconds: float) -> str:
    """Seconds, for people, in ASCII.

    >>> duration(0.0000024), duration(0.021), duration(2.1)
    ('2.40 us', '21.0 ms', '2.1 s')
    """
    if seconds < _THOUSAND / 1e6:
        return f"{seconds * 1e6:.2f} us" if seconds < 9.9995e-5 else f"{seconds * 1e6:.0f} us"  # noqa: PLR2004
    if seconds < _THOUSAND / 1e3:
        thousandths = seconds * 1e3
        return f"{thousandths:.{0 if thousandths >= _THREE_DIGITS else 1}f} ms"
    return f"{seconds:,.{0 if seconds >= _THREE_DIGITS else 1}f} s"


def percent(share: float) -> str:
    """A share, for people.

    >>> percent(0.25)
    '25%'
    """
    return f"{share * 100:.0f}%"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> list[str]:
    """Lay out a small right-aligned table; `note` stands behind its last row."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    laid = [
        "  " + "   ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in (head, *rows)
    ]
    return [*laid[:-1], fit(f"{laid[-1]}   <- {note}")] if note else laid


def sparkline(values: Sequence[float]) -> str:
    """Draw values as bars of 1 to 8 eighths, 0 at the bottom, the greatest at the top.

    >>> sparkline([0, 1, 2, 4]).encode("ascii", "namereplace").count(b"BLOCK")
    4
    """
    top = max(values, default=0.0) or 1.0
    return "".join(chr(_LOWEST_BAR + min(7, int(8 * max(0.0, value) / top))) for value in values)


def lines_of(entries: Mapping[str, str]) -> list[str]:
    """Lay out `where`, `means`, `costs`, `try`, `allow`; an empty one is left out."""
    from textwrap import wrap  # noqa: PLC0415 - not loaded by a run without failures

    return [
        line
        for key, text in entries.items()
        if text
        for line in wrap(f"  {key:5}  {_ascii(text)}", _WIDTH, subsequent_indent=" " * _INDENT)
    ]


def fit(line: str) -> str:
    """Cut a line to the width of a message, and to ASCII."""
    line = _ascii(line)
    return line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "..."


def _ascii(text: str) -> str:
    return (
        "".join(each if each.isprintable() else " " for each in text)
        .encode("ascii", "backslashreplace")
        .decode()
    )


def where(places: Sequence[str], source: str, part: str) -> list[str]:
    """Lay out the guilty line: in one line if it fits, else in two.

    `places` say the same, each shorter than the one before it: the first that fits is taken. What
    is cut for want of room is the end of the source, or the start of the last place.
    """
    shown, source = [_ascii(place) for place in places], _ascii(source)
    place = shown[0]
    line = " ".join(filter(None, (f"  where  {place}{':' if source else ''}", source, part)))
    if len(line) <= _WIDTH:
        return [line]
    room = _WIDTH - _INDENT - 1
    place = next((each for each in shown if len(each) <= room), f"...{shown[-1][3 - room :]}")
    room -= len(part)
    if len(source) > room:
        source = f"{source[: room - 3]}..."
    return [f"  where  {place}:", f"{'':{_INDENT}}{source} {part}"]
