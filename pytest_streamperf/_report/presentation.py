"""Parts that the renderings of a report share: terminal, Markdown and HTML.

The module holds the mark of each verdict, the order and the number of checks by verdict, and the
escaping of text for people. Its functions take checks or text from a report.
"""

from collections.abc import Mapping
from typing import Any

MARKS = {"exceeded": "\N{BALLOT X}", "inconclusive": "?", "within": "\N{CHECK MARK}"}


def worst_first(checks: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the checks in the order exceeded, inconclusive, within.

    Checks with the same verdict are in the order of stem, test and number.

    >>> one = {"stem": "growth", "test": "test_a", "number": 1}
    >>> [check["verdict"] for check in worst_first([one | {"verdict": v} for v in MARKS][::-1])]
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
    """Return the number of checks with each verdict, the worst verdict first.

    >>> tally([{"verdict": "within"}, {"verdict": "exceeded"}])
    {'exceeded': 1, 'inconclusive': 0, 'within': 1}
    """
    return {name: sum(check["verdict"] == name for check in checks) for name in MARKS}


def printable(text: str) -> str:
    r"""Return the text as one line, with escapes instead of unprintable characters.

    >>> printable("a\nb")
    'a\\nb'
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
