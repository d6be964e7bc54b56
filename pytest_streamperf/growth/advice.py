"""Advise on a guilty line: state its meaning and a remedy, by the look of its source.

In go the source of the line and the call that it made; out comes an `Advice`.
"""

import re
from typing import NamedTuple


class Advice(NamedTuple):
    """The meaning of a guilty line whose source matches `looks_like`, and the remedy.

    `copies` is true where the advice is about copies, which are no calls.
    """

    looks_like: re.Pattern[str]
    means: str
    remedy: str
    copies: bool = False


_ADVICE = (
    Advice(
        re.compile(r"^[\w.\[\]'\"]+ \+= [\w.\[\]'\"]+$"),
        "every delta copies all the text before it",
        "collect deltas in a list and ''.join once at the end",
        copies=True,
    ),
    Advice(
        re.compile(r"pars|loads|json|decode", re.IGNORECASE),
        "every delta parses all earlier deltas again",
        "parse at the end, or each time the length has doubled",
    ),
    Advice(
        re.compile(r"render|markdown|highlight|format\(", re.IGNORECASE),
        "every delta renders all earlier deltas again",
        "render only the new part, or each time the length has doubled",
    ),
    Advice(
        re.compile(
            r"^(?!.*\bfor\b).*\S in \w"
            r"|\.(find\w*|count|r?index|search|(full)?match|r?split|startswith|sub)\("
        ),
        "every delta searches all earlier deltas again",
        "search only the new part, from where the last search ended",
    ),
    Advice(
        re.compile(r"\.join\("),
        "every delta joins all earlier deltas again",
        "keep the deltas in a list and join it once at the end",
    ),
    Advice(
        re.compile(r"\bb['\"]|encode|bytes"),
        "every delta copies all the bytes before it",
        "extend a bytearray, or join a list of chunks once at the end",
        copies=True,
    ),
    Advice(
        re.compile(r"\+=|\+|\bf['\"]"),
        "every delta copies all the text before it",
        "collect deltas in a list and ''.join once at the end",
        copies=True,
    ),
)
_OTHERWISE = Advice(
    re.compile(""),
    "every delta processes all earlier deltas again",
    "do this once at the end, or for the new delta only",
)


_OF_A_CALL = Advice(
    re.compile(""),
    "the function it calls processes all earlier deltas again",
    "call it once at the end, or use an incremental version",
)


def advice_for(source: str, call: str = "", *, counted: bool = False) -> Advice:
    """Return the advice for a guilty line of source, and for the library call that it was in.

    `counted` is true where the number of calls grew.

    >>> advice_for("self.text += delta").remedy
    "collect deltas in a list and ''.join once at the end"
    """
    fits = (
        advice
        for advice in _ADVICE
        if advice.looks_like.search(source) and not (counted and advice.copies)
    )
    return next(fits, _OF_A_CALL if call else _OTHERWISE)
