"""What a run says in a comment of a pull request, or in the summary of a step."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pytest_streamperf._report.presentation import MARKS, printable, tally, worst_first

# A comment on GitHub has at most 65,536 characters. Each part leaves room for those after it.
_MOST = {"rows": 20_000, "messages": 54_000, "checks": 60_000}
_LONGEST_NAME, _LONGEST_MESSAGE = 300, 6_000

_ANYTHING_BUT_WORDS = re.compile(r"[!-$&-+.:-@\[-`{-~]")


def markdown(document: Mapping[str, Any]) -> str:
    """Write a report as GitHub's Markdown, in at most 60,000 characters.

    `document` is a report as `read` returns it. What is left out for want of room is counted.

    >>> markdown({"checks": [], "tests": 3, "complete": True, "lost": []}).splitlines()[0]
    '### streamperf: nothing was checked'
    """
    checks = worst_first(document["checks"])
    bad = [check for check in checks if check["verdict"] != "within"]
    good = [check for check in checks if check["verdict"] == "within"]
    text = _head(document)
    if bad:
        text += "\n| Verdict | Test | Check | Found | Where |\n|---|---|---|---|---|\n"
        text += _fitting(map(_row, bad), len(text), "rows")
        text += "\n"
        text += _fitting(map(_message, bad), len(text), "messages")
    if good:
        text += f"\n<details><summary>{len(good):,} within</summary>\n\n"
        text += "| Test | Check | Found |\n|---|---|---|\n"
        end = "\n</details>\n"
        text += _fitting(map(_short_row, good), len(text) + len(end), "checks") + end
    return text


def _head(document: Mapping[str, Any]) -> str:
    checks, lost = document["checks"], len(document["lost"])
    said = ", ".join(f"{count:,} {name}" for name, count in tally(checks).items() if count)
    head = f"### streamperf: {said or 'nothing was checked'}\n"
    head += f"\n{len(checks):,} checks in {document['tests']:,} tests.\n"
    if not document["complete"]:
        head += "\n**The run was cut short: this is not all of it.**\n"
    if lost:
        head += f"\n**{lost:,} tests were lost with the worker that ran them.**\n"
    return head


def _fitting(pieces: Iterable[str], taken: int, what: str) -> str:
    """Join as many pieces as there is room for; say how many there was none for."""
    left_out = "\n*{:,} more {} left out here; the report has them.*\n"
    room = _MOST[what] - taken - len(left_out.format(10**12, what))
    kept, left = [], 0
    for piece in pieces:
        room -= len(piece)
        if room < 0:
            left += 1
        else:
            kept.append(piece)
    return "".join(kept) + (left_out.format(left, what) if left else "")


def _row(check: Mapping[str, Any]) -> str:
    guilty = [
        _code(text) for each in check["where"][:1] for text in (each["place"], each["source"])
    ]
    return f"| {_verdict(check)} {_short_row(check).rstrip()} {'<br>'.join(guilty)} |\n"


def _short_row(check: Mapping[str, Any]) -> str:
    return f"| {_code(check['test'])} | {_text(check['stem'])} | {_text(check['headline'])} |\n"


def _message(check: Mapping[str, Any]) -> str:
    lines = "\n".join(map(printable, (check["headline"], *check["details"])))[:_LONGEST_MESSAGE]
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
    # Outside of code, GitHub looks for people and issues in what is left of the escapes.
    return re.sub("&#(?:64|35);", r"\g<0>&#8203;", _escaped(text))


def _escaped(text: str) -> str:
    """As entities, which are never markup, wherever they stand."""
    cut = printable(text[:_LONGEST_NAME])[:_LONGEST_NAME]
    return _ANYTHING_BUT_WORDS.sub(lambda found: f"&#{ord(found[0])};", cut)
