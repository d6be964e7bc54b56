"""What steps in for the fast implementation has to answer as that would have."""

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

_ROW = (list, bytes)
_MOST_ROWS, _WIDEST = 4, 28


class Gap(NamedTuple):
    """How far two answers are apart at a place; `inf` where they have to be equal."""

    place: Place
    by: float


class Odd(NamedTuple):
    """An answer that differs: whose, from whose, where first, by how much at most.

    `scale` is the largest number in the two that is no int.
    """

    name: str
    other: str
    gap: Gap
    most: float
    scale: float


@dataclass(frozen=True, slots=True)
class Raised:
    """An answer that was raised; two are the same where their types are."""

    kind: str
    text: str = field(compare=False)


def assert_fallback_parity(
    implementations: Sequence[Implementation] | Mapping[str, Implementation],
    *,
    inputs: Iterable[Any],
    tolerance: float = 1e-6,
) -> Verdict:
    """Call each implementation with each of the inputs, and hold that all answer the same.

    Answers are numbers, texts, bytes, lists, mappings, iterators and arrays (what has `tolist`), in
    each other as you like; anything else is compared by `==`. Two numbers may differ by `tolerance`
    of the largest finite number in the two answers, if they are not both ints; ints count for
    nothing in that. All else has to be equal, NaN to NaN; and where one raises, all have to raise
    the same type. Of three or more, the one that most others differ from is named. A mapping names
    the implementations; in a sequence they go by names of their own.

    Raises `ServerExceeded`; `NothingMeasured` where there are fewer than two implementations, no
    inputs, or none that is answered with something other than None, what is empty, NaN, infinity
    and errors; `ValueError` for a `tolerance` that is negative or not finite; `TypeError` for an
    awaitable answer.

        assert_fallback_parity([render_wasm, render_numpy, render_python], inputs=[line, circle])
    """
    if not 0 <= tolerance < inf:
        raise ValueError(f"tolerance={tolerance!r}: must be 0 or more, and finite")
    named = _named(implementations)
    if len(named) < 2:  # noqa: PLR2004 - two can agree
        raise nothing_measured(
            "server",
            f"{next(iter(named), 'nothing')} has no other implementation to agree with",
            "give two or more, and install what they need",
        )
    count, compared, farthest = 0, 0, 0.0
    answers: dict[str, Any] = {}
    for given in inputs:
        answers = {name: _answer(name, each, given) for name, each in named.items()}
        odd, apart = compared_with_others(answers, tolerance)
        if odd is not None:
            return concluded(
                _different(odd, answers, f"inputs[{count}]: {short(given)}", tolerance)
            )
        count, farthest = count + 1, max(farthest, apart)
        compared += sum(map(_tells, _leaves(next(iter(answers.values())))))
    if not compared:
        raise nothing_measured(
            "server",
            f"{_many(count, 'input')}, and no answer with anything to compare",
            f"give inputs that have one; the last was {_shown(next(iter(answers.values())))}"
            if answers
            else "give inputs=[...]",
        )
    return concluded(_same(named, count, compared, farthest, tolerance))


def compared_with_others(answers: Mapping[str, Any], tolerance: float) -> tuple[Odd | None, float]:
    """Find the answer that differs from most, if one does; and how far any two are apart else.

    >>> odd, _ = compared_with_others({"a": [1.0], "b": [1.5], "c": [1.0]}, 1e-6)
    >>> odd.name, odd.other, odd.gap
    ('b', 'a', Gap(place=(0,), by=0.5))
    """
    farthest = 0.0
    found: dict[tuple[str, str], Odd] = {}
    for one, other in combinations(answers, 2):
        pair = answers[one], answers[other]
        scale = max((size for answer in pair for size in _sizes(answer)), default=0.0)
        first, most = None, 0.0
        for gap in gaps(*pair):
            most = max(most, gap.by)
            if first is None and gap.by > tolerance * scale:
                first = gap
        if first is not None:
            found[one, other] = Odd(one, other, first, most, scale)
            found[other, one] = Odd(other, one, first, most, scale)
        elif scale:
            farthest = max(farthest, most / scale)
    # Where two differ, the first is the one that the other steps in for.
    right = min(answers, key=lambda name: sum(one == name for one, _ in found))
    return next((odd for odd in found.values() if odd.other == right), None), farthest


def gaps(one: Any, other: Any, place: Place = ()) -> Iterator[Gap]:
    """Lay two answers beside each other; where one has another shape, that is the gap.

    >>> list(gaps([1.0, [2]], [1.5, [2, 3]]))
    [Gap(place=(0,), by=0.5), Gap(place=(1,), by=inf)]
    """
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from gaps(one[key], other[key], (*place, key))
    elif isinstance(one, _ROW) and type(one) is type(other) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from gaps(*pair, (*place, index))
    else:
        yield Gap(place, _apart(one, other))


def _apart(one: Any, other: Any) -> float:
    if _is_number(one) and _is_number(other):
        if one == other or (one != one and other != other):  # noqa: PLR0124 - as NaN does
            return 0.0
        if isinstance(one, int) and isinstance(other, int):  # who counts is not off a little
            return inf
        try:
            by = float(abs(one - other))
        except (TypeError, OverflowError):  # kinds that do not mix, or far too large
            return inf
        return inf if isnan(by) else by
    return 0.0 if type(one) is type(other) and one == other else inf


def _is_number(value: Any) -> bool:
    return isinstance(value, Number) and not isinstance(value, bool)


def _sizes(answer: Any) -> Iterator[float]:
    """How large the numbers of an answer are: those that are finite, and no ints."""
    for leaf in _leaves(answer):
        if _is_number(leaf) and not isinstance(leaf, int):
            with suppress(OverflowError):
                size = float(abs(leaf))
                if isfinite(size):
                    yield size


def _leaves(answer: Any) -> Iterator[Any]:
    if isinstance(answer, (dict, *_ROW)):
        for each in answer.values() if isinstance(answer, dict) else answer:
            yield from _leaves(each)
    else:
        yield answer


def _tells(leaf: Any) -> bool:
    if isinstance(leaf, float):
        return isfinite(leaf)
    return not (leaf is None or leaf == "" or isinstance(leaf, Raised))


def _answer(name: str, implementation: Implementation, given: Any) -> Any:
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
    """Make lists, dicts and bytes of an answer; its iterators are read, once."""
    if isinstance(answer, (bytes, bytearray)):
        return bytes(answer)
    if callable(getattr(answer, "tolist", None)):
        return _plain(answer.tolist())
    if isinstance(answer, Mapping):
        return {key: _plain(each) for key, each in answer.items()}
    if isinstance(answer, (list, tuple, range, Iterator)):
        return [_plain(each) for each in answer]
    return answer


def _named(
    implementations: Sequence[Implementation] | Mapping[str, Implementation],
) -> Mapping[str, Implementation]:
    if isinstance(implementations, Mapping):
        return implementations
    named: dict[str, Implementation] = {}
    for number, each in enumerate(implementations, 1):
        name = getattr(each, "__name__", type(each).__name__)
        named[f"{name} ({number})" if name in named else name] = each
    return named


def _same(
    named: Iterable[str], inputs: int, compared: int, farthest: float, tolerance: float
) -> Verdict:
    figures = Figures(
        given={"implementations": ", ".join(named), "inputs": inputs, "values": compared},
        facts={"farthest apart": f"{farthest:.1g}"},
    )
    agree = f"{', '.join(named)} agree on {_many(inputs, 'input')}"
    return passed(fit_line(f"{agree}, to {farthest:.1g}, limit {tolerance:g}"), figures)


def _different(odd: Odd, answers: Mapping[str, Any], given: str, tolerance: float) -> Verdict:
    name, other, gap, most, scale = odd
    place = "".join(f"[{short(each)}]" for each in gap.place)
    at = f" at {place}" if place else ""
    rest = [each for each in answers if each not in {name, other}][: _MOST_ROWS - 2]
    shown = {each: _shown(_at(answers[each], gap.place)) for each in (other, *rest, name)}
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
    rows = [[each[:_WIDEST], value] for each, value in shown.items()]
    table = table_lines(["", place or "answer"], rows, "differs")
    figures = Figures(given={"implementations": ", ".join(answers)})
    return exceeded(headline, figures, labelled_lines(entries), [*map(fit_line, table)])


def _at(answer: Any, place: Place) -> Any:
    for key in place:
        if not isinstance(answer, (dict, *_ROW)):
            return answer
        try:
            answer = answer[key]
        except LookupError:
            return None
    return answer


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return _many(len(value), "value")
    shown = f"raises {value.kind}" if isinstance(value, Raised) else short(value)
    return shown if len(shown) <= _WIDEST else f"{shown[: _WIDEST - 3]}..."


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _rounded_up(share: float) -> str:
    """To one digit.

    >>> _rounded_up(0.0413), _rounded_up(0.05)
    ('0.05', '0.05')
    """
    share = max(share, float_info.min)  # less than that may be 0
    digit = 10.0 ** floor(log10(share))
    return f"{ceil(share / digit) * digit:.1g}"
