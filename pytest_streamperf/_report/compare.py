"""What got worse, and what better, from one run to another."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pytest_streamperf._report.document import Document, Key, interpreter, key_of

# Two shares that are no farther apart count as the same: see `compare`.
SAME_SHARE = 0.25
# So do two counts of growth, by this part of the first.
SAME_GROWTH = 0.01

_RANK = {"within": 0, "inconclusive": 1, "exceeded": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Which run it was. `started` is ISO 8601, in UTC; `python` as in "CPython 3.11"."""

    commit: str | None
    dirty: bool
    started: str
    python: str
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is not as it was: the verdict, or a figure by its name. Shares are parts, 0 to 1.

    `limit` is that of head, if it has one for this figure.
    """

    name: str
    kind: Literal["verdict", "count", "share"]
    base: Any
    head: Any
    limit: float | None
    worse: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfACheck:
    test: str
    stem: str
    number: int

    @property
    def key(self) -> Key:
        """Which check it is about."""
        return self.test, self.stem, self.number


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed(_OfACheck):
    """A check that got worse, or better; what it says of itself is head's.

    A verdict that changed decides which of both it is: what a check counts before it fails is less
    than what it counts to the end. Where the verdict is as it was, any figure that is worse does.
    """

    worse: bool
    changes: tuple[Change, ...]
    headline: str
    place: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(_OfACheck):
    """What of a check was not compared ("check", "verdict", "counts", "share x"), and why."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What came of it: checks in order, but of those that got worse the worst first.

    `compared` is how many checks were. `gone` are those that only base has, `new` those that only
    head has, `lost` those that head would have, too, if all of it had run.
    """

    base: Run
    head: Run
    compared: int
    worse: tuple[Changed, ...]
    better: tuple[Changed, ...]
    refused: tuple[Refused, ...]
    gone: tuple[Key, ...]
    lost: tuple[Key, ...]
    new: tuple[Key, ...]

    @property
    def green(self) -> bool:
        """Whether nothing got worse, and nothing that was checked before was lost on the way.

        A check that is gone is no regression: somebody took it away, and it shows in review. Of one
        that an interrupted run did not come to, nobody knows.
        """
        return not (self.worse or self.lost)


def compare(base: Document, head: Document) -> Comparison:
    """Compare the checks that two runs have in common, by test, stem and number.

    Only checks of which the same was asked (`given`) are compared. The verdict is, where its limits
    are what they were. Counts are equal or they are not. Those of growth depend on the interpreter:
    they are compared on the same Python only, and within 1%, as bytes that were copied are not the
    same to the last of them (up to 0.3% apart in three processes). Seconds are never compared.

    Shares count as the same within 0.25, and where their intervals are known (`"<name> low"`,
    `"<name> high"`) unless those lie apart, too. They are of one run against itself, but what comes
    from time is an estimate. Twelve linear consumers were run eight times each, on two cores, in
    three rounds, idle and busy: of 1,988 comparisons of two runs 144 came out more than 0.1 worse,
    0.24 at most, and in 26 of these, up to 0.21, the intervals lay apart. A check calls less than
    0.25 linear, and a comparison is no finer. Growth that is real comes to more.

    >>> compare(report, report).green
    True
    """
    before = {key_of(check): check for check in base["checks"]}
    after = {key_of(check): check for check in head["checks"]}
    pythons = sorted({interpreter(base), interpreter(head)})
    changed: list[Changed] = []
    refused: list[Refused] = []
    common = sorted(before.keys() & after.keys())
    for test, stem, number in common:
        pair = before[test, stem, number], after[test, stem, number]
        reasons = _incomparable(*pair, pythons)
        refused += (
            Refused(test=test, stem=stem, number=number, what=what, reason=reason)
            for what, reason in reasons.items()
        )
        changed += _changed(*pair, reasons)
    missing = sorted(before.keys() - after.keys())
    crashed = set(head["lost"])
    lost = [key for key in missing if not head["complete"] or key[0] in crashed]
    worse = sorted((each for each in changed if each.worse), key=_severity, reverse=True)
    return Comparison(
        base=_run(base),
        head=_run(head),
        compared=len(common) - sum(each.what == "check" for each in refused),
        worse=tuple(worse),
        better=tuple(each for each in changed if not each.worse),
        refused=tuple(refused),
        gone=tuple(sorted(set(missing).difference(lost))),
        lost=tuple(lost),
        new=tuple(sorted(after.keys() - before.keys())),
    )


def _run(document: Document) -> Run:
    commit = document["commit"] or {"id": None, "dirty": False}
    return Run(
        commit=commit["id"],
        dirty=commit["dirty"],
        started=document["started"],
        python=interpreter(document),
        complete=document["complete"],
    )


def _incomparable(
    before: Mapping[str, Any], after: Mapping[str, Any], pythons: Sequence[str]
) -> dict[str, str]:
    """What of a check is not compared: all of it, its verdict, its counts or a figure; and why."""
    if before["given"] != after["given"]:
        return {"check": _differences(before["given"], after["given"], "")}
    was, now = before["verdict"], after["verdict"]
    if now == "inconclusive" and was != "within":
        return {"check": f"it was {was} and is inconclusive, which is no better and no worse"}
    if "inconclusive" in (
        was,
        now,
    ):  # the verdict is all there is: half a measurement has no figures
        return {}
    reasons = {}
    if before["limits"] != after["limits"]:
        reasons["verdict"] = _differences(before["limits"], after["limits"], "the limit of ")
    kinds = ["counts", "shares"]
    if before["stem"] == "growth" and len(pythons) > 1 and before["counts"]:
        kinds.remove("counts")
        reasons["counts"] = f"what growth counts depends on Python: {' and '.join(pythons)}"
    if was != now and "verdict" not in reasons:  # which decides; one that fails counts less
        return reasons
    for kind in kinds:
        for name in sorted(_names(before, kind) ^ _names(after, kind)):
            which = "base" if name in before[kind] else "head"
            reasons[f"{kind[:-1]} {name}"] = f"only {which} has it"
    return reasons


def _differences(before: Mapping[str, Any], after: Mapping[str, Any], words: str) -> str:
    return "; ".join(
        f"{words}{key} was {before.get(key, 'not set')} and is {after.get(key, 'not set')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    )


def _names(check: Mapping[str, Any], kind: str) -> set[str]:
    """Its figures of a kind; the ends of an interval are none."""
    names = set(check[kind])
    return names - {f"{name} {end}" for name in names for end in ("low", "high")}


def _changed(
    before: Mapping[str, Any], after: Mapping[str, Any], reasons: Mapping[str, str]
) -> list[Changed]:
    """How the check changed, if it did: a list of one, or of none."""
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
        more = _noticeably_more if after["stem"] == "growth" else _more
        counts = () if "counts" in reasons else _changes(before, after, "count", more)
        changes += [*counts, *_changes(before, after, "share", _clearly_more)]
    if not changes:
        return []
    decisive = [change for change in changes if change.kind == "verdict"] or changes
    guilty = after["where"][0] if after["where"] else {"place": "", "source": ""}
    test, stem, number = key_of(after)
    return [
        Changed(
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


_Holds = Callable[[str, Mapping[str, float], Mapping[str, float]], bool]


def _changes(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    kind: Literal["count", "share"],
    more: _Holds,
) -> list[Change]:
    """The figures of a kind that are not the same; `more` says which are more."""
    base, head = before[f"{kind}s"], after[f"{kind}s"]
    names = sorted(_names(before, f"{kind}s") & _names(after, f"{kind}s"))
    return [
        Change(
            name=name,
            kind=kind,
            base=base[name],
            head=head[name],
            limit=after["limits"].get(name),
            worse=more(name, base, head),
        )
        for name in names
        if more(name, base, head) or more(name, head, base)
    ]


def _more(name: str, base: Mapping[str, float], head: Mapping[str, float]) -> bool:
    return head[name] > base[name]


def _noticeably_more(name: str, base: Mapping[str, float], head: Mapping[str, float]) -> bool:
    return head[name] - base[name] > SAME_GROWTH * abs(base[name])


def _clearly_more(name: str, base: Mapping[str, float], head: Mapping[str, float]) -> bool:
    low, high = head.get(f"{name} low", head[name]), base.get(f"{name} high", base[name])
    return head[name] > base[name] + SAME_SHARE and low > high


def _severity(changed: Changed) -> tuple[int, float]:
    """A verdict that fell before figures that rose, and of those the one that rose most."""
    fell = max((_RANK.get(str(change.head), 0) for change in changed.changes), default=0)
    times = [
        change.head / change.base if change.base > 0 else float("inf")
        for change in changed.changes
        if change.kind != "verdict" and change.worse
    ]
    return fell, max(times, default=0.0)
