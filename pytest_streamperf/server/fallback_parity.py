"""Check that a fallback implementation gives the same answers as the fast one.

`assert_fallback_parity` takes two or more functions and inputs for them, and returns a `Verdict`.
It calls each function with each input, and compares the answers in pairs.

- Numbers are compared with a tolerance relative to the largest number in both answers, not to each
  number. Rounding near zero is as large as elsewhere.
- Texts, integers, shapes and types of errors must be equal.
- Of three or more functions, the message names the function that most others differ from.
"""

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from inspect import isawaitable
from itertools import combinations
from math import ceil, floor, inf, isfinite, isnan, log10
from numbers import Number
from reprlib import repr as short
from sys import float_info
from typing import Any, NamedTuple

from pytest_streamperf._results.conclusion import nothing_measured
from pytest_streamperf._results.metrics import Figures
from pytest_streamperf._results.text import fit_line, labelled_lines, table_lines
from pytest_streamperf._results.verdict import Verdict
from pytest_streamperf.server.verdicts import concluded, exceeded, passed

__tracebackhide__ = True  # pytest shows the user's own frames

Implementation = Callable[[Any], Any]
Place = tuple[Any, ...]

# Types whose items are compared one by one.
_ROW_TYPES = (list, bytes)
# Rows of the table in a message, which has at most 16 lines.
_MAX_ROWS = 4
# Columns of a name or a value in that table, so that a row fits into 80 columns.
_MAX_WIDTH = 28


class Gap(NamedTuple):
    """The difference of two answers at a place.

    `place` is the keys and indices that lead there. `by` is the difference of two numbers, or `inf`
    for values that must be equal and are not.
    """

    place: Place
    by: float


class Odd(NamedTuple):
    """An answer that differs from that of another implementation.

    `name` gave the answer, and `other` the one to compare with. `gap` is the first gap over the
    tolerance, and `most` the largest difference. `scale` is the largest finite number in both
    answers that is no int.
    """

    name: str
    other: str
    gap: Gap
    most: float
    scale: float


@dataclass(frozen=True, slots=True)
class Raised:
    """An error that an implementation raised; errors of the same type are equal."""

    kind: str
    text: str = field(compare=False)


def assert_fallback_parity(
    implementations: Sequence[Implementation] | Mapping[str, Implementation],
    *,
    inputs: Iterable[Any],
    tolerance: float = 1e-6,
) -> Verdict:
    """Call each implementation with each of the inputs, and check that all give the same answers.

    Answers may be numbers, texts, bytes, lists, mappings, iterators and arrays (objects with
    `tolist`), nested in any way; other objects are compared by `==`. Two numbers that are not both
    ints may differ by `tolerance`, a share of the largest finite number in the two answers. Ints do
    not count for that largest number. All other values must be equal, and NaN equals NaN. Where one
    implementation raises an error, all must raise the same type.

    Of three or more implementations, the message names the one that most others differ from. A
    mapping gives the names; in a sequence, each implementation has its own `__name__`.

    Raises `ServerExceeded` for answers that differ. Raises `NothingMeasured` for fewer than two
    implementations, for no inputs, and where no answer has a value to compare: None, empty values,
    NaN, infinity and errors prove nothing. Raises `ValueError` for a `tolerance` that is negative
    or not finite, and `TypeError` for an awaitable answer.

        assert_fallback_parity([render_wasm, render_numpy, render_python], inputs=[line, circle])
    """
    if not 0 <= tolerance < inf:
        raise ValueError(f"tolerance={tolerance!r}: must be 0 or more, and finite")
    named = _named(implementations)
    if len(named) < 2:  # noqa: PLR2004 - a comparison needs two
        raise nothing_measured(
            "server",
            f"{next(iter(named), 'nothing')} has no other implementation to agree with",
            "give two or more, and install what they need",
        )
    count, compared, farthest = 0, 0, 0.0
    answers: dict[str, Any] = {}
    for given in inputs:
        answers = {
            name: _answer(name, implementation, given) for name, implementation in named.items()
        }
        odd, difference = compared_with_others(answers, tolerance)
        if odd is not None:
            return concluded(
                _differing(odd, answers, f"inputs[{count}]: {short(given)}", tolerance)
            )
        count, farthest = count + 1, max(farthest, difference)
        compared += sum(map(_proves_parity, _leaves(next(iter(answers.values())))))
    if not compared:
        raise nothing_measured(
            "server",
            f"{_counted(count, 'input')}, and no answer with anything to compare",
            f"give inputs that have one; the last was {_shown(next(iter(answers.values())))}"
            if answers
            else "give inputs=[...]",
        )
    return concluded(_agreeing(named, count, compared, farthest, tolerance))


def compared_with_others(answers: Mapping[str, Any], tolerance: float) -> tuple[Odd | None, float]:
    """Return the answer that most others differ from, or None if all agree.

    The second value is the largest difference of two answers that agree, as a share of their scale.

    >>> odd, _ = compared_with_others({"a": [1.0], "b": [1.5], "c": [1.0]}, 1e-6)
    >>> odd.name, odd.other, odd.gap
    ('b', 'a', Gap(place=(0,), by=0.5))
    """
    farthest = 0.0
    differing: dict[tuple[str, str], Odd] = {}
    for one, other in combinations(answers, 2):
        pair = answers[one], answers[other]
        scale = max((size for answer in pair for size in _sizes(answer)), default=0.0)
        first, most = None, 0.0
        for gap in gaps(*pair):
            most = max(most, gap.by)
            if first is None and gap.by > tolerance * scale:
                first = gap
        if first is not None:
            differing[one, other] = Odd(one, other, first, most, scale)
            differing[other, one] = Odd(other, one, first, most, scale)
        elif scale:
            farthest = max(farthest, most / scale)
    # Of two implementations, the first is the reference: `min` returns the first of equals.
    reference = min(answers, key=lambda name: sum(one == name for one, _ in differing))
    return next((odd for odd in differing.values() if odd.other == reference), None), farthest


def gaps(one: Any, other: Any, place: Place = ()) -> Iterator[Gap]:
    """Yield the difference of two answers at each place; another shape gives a gap of `inf`.

    >>> list(gaps([1.0, [2]], [1.5, [2, 3]]))
    [Gap(place=(0,), by=0.5), Gap(place=(1,), by=inf)]
    """
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from gaps(one[key], other[key], (*place, key))
    elif isinstance(one, _ROW_TYPES) and type(one) is type(other) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from gaps(*pair, (*place, index))
    else:
        yield Gap(place, _difference(one, other))


def _difference(one: Any, other: Any) -> float:
    """Return the difference of two values, or `inf` for values that must be equal and are not."""
    if _is_number(one) and _is_number(other):
        if one == other or (one != one and other != other):  # noqa: PLR0124 - as NaN does
            return 0.0
        if isinstance(one, int) and isinstance(other, int):  # counts and ids have no rounding error
            return inf
        try:
            by = float(abs(one - other))
        except (TypeError, OverflowError):  # types that cannot be subtracted, or too large a number
            return inf
        return inf if isnan(by) else by
    return 0.0 if type(one) is type(other) and one == other else inf


def _is_number(value: Any) -> bool:
    return isinstance(value, Number) and not isinstance(value, bool)


def _sizes(answer: Any) -> Iterator[float]:
    """Yield the absolute value of each finite number in an answer that is no int."""
    for leaf in _leaves(answer):
        if _is_number(leaf) and not isinstance(leaf, int):
            with suppress(OverflowError):
                size = float(abs(leaf))
                if isfinite(size):
                    yield size


def _leaves(answer: Any) -> Iterator[Any]:
    """Yield each value in an answer that holds no other values."""
    if isinstance(answer, (dict, *_ROW_TYPES)):
        for item in answer.values() if isinstance(answer, dict) else answer:
            yield from _leaves(item)
    else:
        yield answer


def _proves_parity(leaf: Any) -> bool:
    """Return whether equality of this value says something about the implementations."""
    if isinstance(leaf, float):
        return isfinite(leaf)
    return not (leaf is None or leaf == "" or isinstance(leaf, Raised))


def _answer(name: str, implementation: Implementation, given: Any) -> Any:
    """Return the answer to one input as plain values, or `Raised`.

    Raises `TypeError` for an awaitable answer.
    """
    try:
        answer = implementation(given)
        plain = _plain(answer)
    except Exception as error:  # noqa: BLE001 - the others are to raise it, too
        return Raised(type(error).__name__, str(error))
    if isawaitable(answer):
        if isinstance(answer, Coroutine):
            answer.close()
        raise TypeError(f"{name} answers with an awaitable: give a function that runs it, instead")
    return plain


def _plain(answer: Any) -> Any:
    """Return an answer as lists, dicts, bytes and other values; this uses up its iterators."""
    if isinstance(answer, (bytes, bytearray)):
        return bytes(answer)
    if callable(getattr(answer, "tolist", None)):
        return _plain(answer.tolist())
    if isinstance(answer, Mapping):
        return {key: _plain(item) for key, item in answer.items()}
    if isinstance(answer, (list, tuple, range, Iterator)):
        return [_plain(item) for item in answer]
    return answer


def _named(
    implementations: Sequence[Implementation] | Mapping[str, Implementation],
) -> Mapping[str, Implementation]:
    """Return the implementations by name; a number makes a repeated name unique."""
    if isinstance(implementations, Mapping):
        return implementations
    named: dict[str, Implementation] = {}
    for number, implementation in enumerate(implementations, 1):
        name = getattr(implementation, "__name__", type(implementation).__name__)
        named[f"{name} ({number})" if name in named else name] = implementation
    return named


def _agreeing(
    named: Iterable[str], inputs: int, compared: int, farthest: float, tolerance: float
) -> Verdict:
    """Return the verdict on implementations that agree on all inputs."""
    figures = Figures(
        given={"implementations": ", ".join(named), "inputs": inputs, "values": compared},
        facts={"farthest apart": f"{farthest:.1g}"},
    )
    agreement = f"{', '.join(named)} agree on {_counted(inputs, 'input')}"
    return passed(fit_line(f"{agreement}, to {farthest:.1g}, limit {tolerance:g}"), figures)


def _differing(odd: Odd, answers: Mapping[str, Any], given: str, tolerance: float) -> Verdict:
    """Return the verdict on an answer that differs; `given` describes the input."""
    name, other, gap, most, scale = odd
    place = "".join(f"[{short(key)}]" for key in gap.place)
    at = f" at {place}" if place else ""
    remaining = [label for label in answers if label not in {name, other}][: _MAX_ROWS - 2]
    shown = {
        label: _shown(_value_at(answers[label], gap.place)) for label in (other, *remaining, name)
    }
    if isfinite(gap.by):
        headline = f"{name} differs from {other} by {gap.by:.2g}{at}, limit {tolerance * scale:.2g}"
    else:
        headline = f"{name} differs from {other}{at}: {shown[name]}, not {shown[other]}"
    answer = answers[name]
    entries = {
        "given": given,
        "says": answer.text if isinstance(answer, Raised) else "",
        "means": "what people get depends on which of them runs",
        "try": "take the same steps in the same order, at the ends and in errors, too",
        "allow": (
            f"tolerance={_rounded_up(most / scale)}, of the largest number, which is {scale:.3g}"
        )
        if isfinite(most)
        else "",
    }
    rows = [[label[:_MAX_WIDTH], value] for label, value in shown.items()]
    table = table_lines(["", place or "answer"], rows, "differs")
    figures = Figures(given={"implementations": ", ".join(answers)})
    return exceeded(headline, figures, labelled_lines(entries), [*map(fit_line, table)])


def _value_at(answer: Any, place: Place) -> Any:
    """Return the value at a place of an answer, or None where a key is missing.

    Where the place leads into a value that is no container, return that value.
    """
    for key in place:
        if not isinstance(answer, (dict, *_ROW_TYPES)):
            return answer
        try:
            answer = answer[key]
        except LookupError:
            return None
    return answer


def _shown(value: Any) -> str:
    """Return a text of at most `_MAX_WIDTH` characters for a value."""
    if isinstance(value, (dict, list)):
        return _counted(len(value), "value")
    text = f"raises {value.kind}" if isinstance(value, Raised) else short(value)
    return text if len(text) <= _MAX_WIDTH else f"{text[: _MAX_WIDTH - 3]}..."


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _rounded_up(share: float) -> str:
    """Return a share as text, rounded up to one digit.

    >>> _rounded_up(0.0413), _rounded_up(0.05)
    ('0.05', '0.05')
    """
    share = max(share, float_info.min)  # `digit` may be 0 for a smaller share
    digit = 10.0 ** floor(log10(share))
    return f"{ceil(share / digit) * digit:.1g}"
