"""What all faces of a report share: marks, the order of checks, and text that is safe to show."""

from collections.abc import Mapping
from typing import Any

MARKS = {"exceeded": "\N{BALLOT X}", "inconclusive": "?", "within": "\N{CHECK MARK}"}


def worst_first(checks: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Exceeded, inconclusive, within; then by stem, test and number.

    >>> one = {"stem": "growth", "test": "test_a", "number": 1}
    >>> [each["verdict"] for each in worst_first([one | {"verdict": v} for v in MARKS][::-1])]
    ['exceeded', 'inconclusive', 'within']
    """
    ranks = list(MARKS)
    return sorted(
        checks,
        key=lambda check: (
            ranks.index(check["verdict"]),
            check["stem"],
            check["test"],
            check["number"],
        ),
    )


def tally(checks: list[Mapping[str, Any]]) -> dict[str, int]:
    """How many checks came to each verdict, the worst first.

    >>> tally([{"verdict": "within"}, {"verdict": "exceeded"}])
    {'exceeded': 1, 'inconclusive': 0, 'within': 1}
    """
    return {name: sum(check["verdict"] == name for check in checks) for name in MARKS}


def printable(text: str) -> str:
    r"""What a person sees of a text: one line, with escapes for what cannot be seen.

    >>> printable("a\nb")
    'a\\nb'
    """
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
