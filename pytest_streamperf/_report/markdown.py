"""Convert a report into GitHub Markdown, for a pull request comment or a CI job summary.

In: a report as `read` returns it. Out: Markdown with a table of the checks and their messages,
the worst first. The text stays below the limit of a GitHub comment, and counts what it leaves out.
Text from the report becomes HTML entities or fenced code, because anyone may have written it.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pytest_streamperf._report.presentation import MARKS, printable, tally, worst_first

# The text may have this many characters at the end of each part, in the order of the parts.
# A comment on GitHub has at most 65,536 characters, and each part leaves room for those after it.
_MAX_CHARACTERS_AFTER = {"rows": 20_000, "messages": 54_000, "checks": 60_000}
# Not measured: no source is on record. One long check must not push out all others.
_MAX_NAME_CHARACTERS, _MAX_MESSAGE_CHARACTERS = 300, 6_000

# ASCII punctuation, except for `%`, `,`, `-` and `/`, which mark nothing up within a line.
_MARKUP_CHARACTERS = re.compile(r"[!-$&-+.:-@\[-`{-~]")


def markdown(document: Mapping[str, Any]) -> str:
    """Return a report as GitHub Markdown of at most 60,000 characters.

    `document` is a report as `read` returns it. Each part states how many entries it leaves out.

    >>> markdown({"checks": [], "tests": 3, "complete": True, "lost": []}).splitlines()[0]
    '### streamperf: nothing was checked'
    """
    checks = worst_first(document["checks"])
    bad = [check for check in checks if check["verdict"] != "within"]
    good = [check for check in checks if check["verdict"] == "within"]
    text = _head(document)
    if bad:
        text += "\n| Verdict | Test | Check | Found | Where |\n|---|---|---|---|---|\n"
        text += _join_within_limit(map(_row, bad), len(text), "rows")
        text += "\n"
        text += _join_within_limit(map(_message, bad), len(text), "messages")
    if good:
        text += f"\n<details><summary>{len(good):,} within</summary>\n\n"
        text += "| Test | Check | Found |\n|---|---|---|\n"
        end = "\n</details>\n"
        text += _join_within_limit(map(_short_row, good), len(text) + len(end), "checks") + end
    return text


def _head(document: Mapping[str, Any]) -> str:
    checks, lost = document["checks"], len(document["lost"])
    verdict_counts = ", ".join(
        f"{count:,} {verdict}" for verdict, count in tally(checks).items() if count
    )
    head = f"### streamperf: {verdict_counts or 'nothing was checked'}\n"
    head += f"\n{len(checks):,} checks in {document['tests']:,} tests.\n"
    if not document["complete"]:
        head += "\n**The run was cut short, so this report is incomplete.**\n"
    if lost:
        head += f"\n**{lost:,} tests were lost, because the worker that ran them crashed.**\n"
    return head


def _join_within_limit(pieces: Iterable[str], characters_before: int, part: str) -> str:
    """Return the joined pieces that fit into a part of the text, and the number of the others.

    `part` is a key of `_MAX_CHARACTERS_AFTER`, and `characters_before` the length of the text
    before it.
    """
    left_out = "\n*{:,} more {} left out here; the report has them.*\n"
    room = _MAX_CHARACTERS_AFTER[part] - characters_before - len(left_out.format(10**12, part))
    kept, left_out_count = [], 0
    for piece in pieces:
        room -= len(piece)
        if room < 0:
            left_out_count += 1
        else:
            kept.append(piece)
    return "".join(kept) + (left_out.format(left_out_count, part) if left_out_count else "")


def _row(check: Mapping[str, Any]) -> str:
    guilty = [
        _code(text) for place in check["where"][:1] for text in (place["place"], place["source"])
    ]
    return f"| {_verdict(check)} {_short_row(check).rstrip()} {'<br>'.join(guilty)} |\n"


def _short_row(check: Mapping[str, Any]) -> str:
    return f"| {_code(check['test'])} | {_text(check['stem'])} | {_text(check['headline'])} |\n"


def _message(check: Mapping[str, Any]) -> str:
    lines = "\n".join(map(printable, (check["headline"], *check["details"])))[
        :_MAX_MESSAGE_CHARACTERS
    ]
    fence = "`" * (1 + max(2, *map(len, re.findall("`+", lines)), 0))
    summary = f"{_verdict(check)} {_text(check['stem'])} {_code(check['test'])}"
    return (
        f"\n<details><summary>{summary}</summary>\n\n{fence}text\n{lines}\n{fence}\n\n</details>\n"
    )


def _verdict(check: Mapping[str, Any]) -> str:
    passed = ", accepted" if check["accepted"] and check["verdict"] != "within" else ""
    return f"{MARKS[check['verdict']]} {check['verdict']}{passed}"


def _code(text: str) -> str:
    return f"<code>{_escaped(text)}</code>" if text else ""


def _text(text: str) -> str:
    # Outside of code, GitHub turns @name and #12 into links even where an entity stands for the
    # sign. A zero-width space after the entity prevents that.
    return re.sub("&#(?:64|35);", r"\g<0>&#8203;", _escaped(text))


def _escaped(text: str) -> str:
    """Return at most 300 printable characters, with entities for those that may be markup."""
    cut = printable(text[:_MAX_NAME_CHARACTERS])[:_MAX_NAME_CHARACTERS]
    return _MARKUP_CHARACTERS.sub(lambda match: f"&#{ord(match[0])};", cut)
