"""Compare two reports: list the checks that got worse, that got better, and that were not compared.

The earlier report is the base, the later one the head. `compare` takes both and returns a
`Comparison`. `streamperf compare --format json` prints its fields, so their names are public.
Seconds are never compared, and shares only roughly: both depend on the machine.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pytest_streamperf._report.document import Document, Key, interpreter, key_of

# Two shares, 0 to 1, count as the same if they differ by at most this. Twelve linear consumers were
# run eight times each, on two cores, in three rounds, idle and busy. In 144 of 1,988 comparisons of
# two runs, a share rose by more than 0.1, and by 0.24 at most. In 26 of these, with rises up to
# 0.21, the intervals lay apart. A check calls a share below 0.25 linear, so a comparison need
# not be finer. Real growth comes to more.
SHARE_TOLERANCE = 0.25
# Two counts of a growth check count as the same within this part of the base count: the number of
# copied bytes differed by up to 0.3% in three processes.
GROWTH_COUNT_TOLERANCE = 0.01

_VERDICT_RANKS = {"within": 0, "inconclusive": 1, "exceeded": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDescription:
    """Facts that identify a run: commit, start and interpreter.

    `started` is ISO 8601, in UTC; `python` has the form "CPython 3.11". `dirty` means that tracked
    files differed from the commit. A run that was interrupted, or lost a worker, is not
    `complete`.
    """

    commit: str | None
    dirty: bool
    started: str
    python: str
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A difference between two runs of a check: in its verdict, or in one of its figures.

    `name` is "verdict" or the name of the figure. `base` and `head` are the values of both runs;
    shares are fractions, 0 to 1. `limit` is the limit of this figure in the head run, or None.
    """

    name: str
    kind: Literal["verdict", "count", "share"]
    base: Any
    head: Any
    limit: float | None
    worse: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _CheckIdentity:
    """Fields that identify one check: its test, its stem, and its number within both."""

    test: str
    stem: str
    number: int

    @property
    def key(self) -> Key:
        """The test, stem and number of the check, as `key_of` returns them."""
        return self.test, self.stem, self.number


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedCheck(_CheckIdentity):
    """A check that got worse or better, with its changes; the texts are those of the head run.

    A changed verdict alone decides between worse and better. A check that fails stops early, so its
    counts are lower than those of a full run. With an unchanged verdict, any worse figure decides.
    """

    worse: bool
    changes: tuple[Change, ...]
    headline: str
    place: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal(_CheckIdentity):
    """A part of a check that was not compared, and the reason.

    `what` names the part: "check", "verdict", "counts", or one figure as in "share superlinear".
    """

    what: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of comparing two runs: checks by kind of change, in the order of their keys.

    `compared` is the number of checks that were compared. `worse` begins with the worst check.
    `gone` checks are only in base, and `new` checks only in head. `lost` checks are only in base
    too, because the head run was interrupted or lost the worker that ran their test.
    """

    base: RunDescription
    head: RunDescription
    compared: int
    worse: tuple[ChangedCheck, ...]
    better: tuple[ChangedCheck, ...]
    refused: tuple[Refusal, ...]
    gone: tuple[Key, ...]
    lost: tuple[Key, ...]
    new: tuple[Key, ...]

    @property
    def green(self) -> bool:
        """True if no check got worse and no check was lost.

        A check that is gone does no harm here: somebody removed it, and the review shows that.
        The result of a lost check is unknown, because the run did not finish it.
        """
        return not (self.worse or self.lost)


def compare(base: Document, head: Document) -> Comparison:
    """Return the differences between the checks that two runs have in common.

    Checks match by test, stem and number. Two checks are compared only if their `given` values are
    equal, and their verdicts only if their limits are equal. Counts must be equal, with two
    exceptions for growth checks: they depend on the interpreter, so they are compared only on the
    same minor version of Python, and they count as the same within 1%.

    Shares count as the same within 0.25. Beyond that, they count as the same while their intervals
    (`"<name> low"` to `"<name> high"`, where a report has them) overlap. A share relates a run to
    itself, but a share that comes from time is an estimate. Seconds are never compared.

    >>> compare(report, report).green
    True
    """
    before = {key_of(check): check for check in base["checks"]}
    after = {key_of(check): check for check in head["checks"]}
    pythons = sorted({interpreter(base), interpreter(head)})
    changed: list[ChangedCheck] = []
    refused: list[Refusal] = []
    common = sorted(before.keys() & after.keys())
    for test, stem, number in common:
        pair = before[test, stem, number], after[test, stem, number]
        reasons = _refusal_reasons(*pair, pythons)
        refused += (
            Refusal(test=test, stem=stem, number=number, what=part, reason=reason)
            for part, reason in reasons.items()
        )
        changed += _changed_check(*pair, reasons)
    missing = sorted(before.keys() - after.keys())
    crashed = set(head["lost"])
    lost = [key for key in missing if not head["complete"] or key[0] in crashed]
    worse = sorted((check for check in changed if check.worse), key=_severity, reverse=True)
    return Comparison(
        base=_run_description(base),
        head=_run_description(head),
        compared=len(common) - sum(refusal.what == "check" for refusal in refused),
        worse=tuple(worse),
        better=tuple(check for check in changed if not check.worse),
        refused=tuple(refused),
        gone=tuple(sorted(set(missing).difference(lost))),
        lost=tuple(lost),
        new=tuple(sorted(after.keys() - before.keys())),
    )


def _run_description(document: Document) -> RunDescription:
    commit = document["commit"] or {"id": None, "dirty": False}
    return RunDescription(
        commit=commit["id"],
        dirty=commit["dirty"],
        started=document["started"],
        python=interpreter(document),
        complete=document["complete"],
    )


def _refusal_reasons(
    before: Mapping[str, Any], after: Mapping[str, Any], pythons: Sequence[str]
) -> dict[str, str]:
    """Return the reasons against comparing a check, by the part of the check that they concern.

    The parts are named as in `Refusal.what`. `pythons` are the different interpreters of both runs.
    """
    if before["given"] != after["given"]:
        return {"check": _difference_text(before["given"], after["given"], "")}
    was, now = before["verdict"], after["verdict"]
    if now == "inconclusive" and was != "within":
        return {"check": f"it was {was} and is inconclusive, which is no better and no worse"}
    if "inconclusive" in (was, now):  # an unfinished measurement has no comparable figures
        return {}
    reasons = {}
    if before["limits"] != after["limits"]:
        reasons["verdict"] = _difference_text(before["limits"], after["limits"], "the limit of ")
    kinds = ["counts", "shares"]
    if before["stem"] == "growth" and len(pythons) > 1 and before["counts"]:
        kinds.remove("counts")
        reasons["counts"] = f"counts of growth checks depend on Python: {' and '.join(pythons)}"
    # A changed verdict decides alone, and a check that fails early lacks figures.
    if was != now and "verdict" not in reasons:
        return reasons
    for kind in kinds:
        for name in sorted(_figure_names(before, kind) ^ _figure_names(after, kind)):
            owner = "base" if name in before[kind] else "head"
            reasons[f"{kind[:-1]} {name}"] = f"only {owner} has it"
    return reasons


def _difference_text(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str) -> str:
    return "; ".join(
        f"{prefix}{key} was {before.get(key, 'not set')} and is {after.get(key, 'not set')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    )


def _figure_names(check: Mapping[str, Any], kind: str) -> set[str]:
    """Return the names of the figures of one kind, without the bounds of their intervals."""
    names = set(check[kind])
    return names - {f"{name} {end}" for name in names for end in ("low", "high")}


def _changed_check(
    before: Mapping[str, Any], after: Mapping[str, Any], reasons: Mapping[str, str]
) -> list[ChangedCheck]:
    """Return a list with the changed check, or an empty list if nothing changed.

    `reasons` are those of `_refusal_reasons`; the parts that they name are not compared.
    """
    if "check" in reasons:
        return []
    was, now = before["verdict"], after["verdict"]
    changes = []
    if was != now and "verdict" not in reasons:
        worse = now != "within"
        changes.append(
            Change(name="verdict", kind="verdict", base=was, head=now, limit=None, worse=worse)
        )
    if "inconclusive" not in (was, now):
        is_more = _is_growth_count_more if after["stem"] == "growth" else _is_count_more
        counts = () if "counts" in reasons else _figure_changes(before, after, "count", is_more)
        changes += [*counts, *_figure_changes(before, after, "share", _is_share_more)]
    if not changes:
        return []
    decisive = [change for change in changes if change.kind == "verdict"] or changes
    guilty = after["where"][0] if after["where"] else {"place": "", "source": ""}
    test, stem, number = key_of(after)
    return [
        ChangedCheck(
            test=test,
            stem=stem,
            number=number,
            worse=any(change.worse for change in decisive),
            changes=tuple(changes),
            headline=after["headline"],
            place=guilty["place"],
            source=guilty["source"],
        )
    ]


# Takes the name of a figure and the figures of both runs: is the figure of the second run more?
_IsMore = Callable[[str, Mapping[str, float], Mapping[str, float]], bool]


def _figure_changes(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    kind: Literal["count", "share"],
    is_more: _IsMore,
) -> list[Change]:
    """Return the changes of the figures of one kind, where `is_more` finds a difference."""
    base, head = before[f"{kind}s"], after[f"{kind}s"]
    names = sorted(_figure_names(before, f"{kind}s") & _figure_names(after, f"{kind}s"))
    return [
        Change(
            name=name,
            kind=kind,
            base=base[name],
            head=head[name],
            limit=after["limits"].get(name),
            worse=is_more(name, base, head),
        )
        for name in names
        if is_more(name, base, head) or is_more(name, head, base)
    ]


def _is_count_more(name: str, base: Mapping[str, float], head: Mapping[str, float]) -> bool:
    return head[name] > base[name]


def _is_growth_count_more(name: str, base: Mapping[str, float], head: Mapping[str, float]) -> bool:
    return head[name] - base[name] > GROWTH_COUNT_TOLERANCE * abs(base[name])


def _is_share_more(name: str, base: Mapping[str, float], head: Mapping[str, float]) -> bool:
    low, high = head.get(f"{name} low", head[name]), base.get(f"{name} high", base[name])
    return head[name] > base[name] + SHARE_TOLERANCE and low > high


def _severity(changed: ChangedCheck) -> tuple[int, float]:
    """Return the sort key of a worse check: the rank of its new verdict, then its largest rise.

    The rank is 0 for an unchanged verdict. The rise of a figure is the head value over the base
    value.
    """
    verdict_rank = max(
        (_VERDICT_RANKS.get(str(change.head), 0) for change in changed.changes), default=0
    )
    rises = [
        change.head / change.base if change.base > 0 else float("inf")
        for change in changed.changes
        if change.kind != "verdict" and change.worse
    ]
    return verdict_rank, max(rises, default=0.0)
