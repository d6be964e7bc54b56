"""What is worse in one report than in another, what is not compared, and how that reads."""

import json
import re
from copy import deepcopy

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_streamperf._cli.baseline import baseline
from pytest_streamperf._cli.compare import _FORMATS, lines
from pytest_streamperf._report.compare import SAME_SHARE, compare
from pytest_streamperf._report.document import key_of, merge
from pytest_streamperf._report.schema import fault
from tests.report_builders import a_check, a_report, reports


def _compared(before, after, **changes):
    """One check in two runs: how each differs from a check within its limit."""
    return compare(a_report(a_check(**before)), a_report(a_check(**after), **changes))


def _said(comparison):
    return "\n".join(lines(comparison))


# -- what is worse


@given(report=reports)
def test_a_report_and_itself(report):
    """Nothing is worse, nothing better, nothing gone."""
    comparison = compare(report, report)
    assert comparison.green
    assert (comparison.better, comparison.gone, comparison.new) == ((), (), ())


@given(report=reports, data=st.data())
def test_every_count_that_is_more_is_found(report, data):
    """Whichever it is: that one check is worse, by that count; and better the other way round."""
    counted = [each for each in report["checks"] if each["counts"]]
    counted = [each for each in counted if each["verdict"] != "inconclusive"]
    assume(counted)
    key = key_of(data.draw(st.sampled_from(counted)))
    head = deepcopy(report)
    check = next(each for each in head["checks"] if key_of(each) == key)
    name = data.draw(st.sampled_from(sorted(check["counts"])))
    was = check["counts"][name]
    more = data.draw(st.integers(1, 10**6)) + abs(was) * 0.02 * (check["stem"] == "growth")
    assume(was + more > was)
    check["counts"][name] = was + more
    (worse,) = compare(report, head).worse
    assert worse.key == key
    assert [(change.name, change.kind) for change in worse.changes] == [(name, "count")]
    there_and_back = compare(head, report)
    assert [each.key for each in there_and_back.better] == [key]
    assert there_and_back.green


@pytest.mark.parametrize(
    ("was", "now", "found"),
    [
        ("within", "exceeded", "worse"),
        ("within", "inconclusive", "worse"),
        ("inconclusive", "exceeded", "worse"),
        ("exceeded", "within", "better"),
        ("inconclusive", "within", "better"),
        ("exceeded", "inconclusive", "refused"),
        ("inconclusive", "inconclusive", "refused"),
        ("exceeded", "exceeded", None),
    ],
)
def test_a_verdict(was, now, found):
    """What could not be measured is never better, and of two that could not nothing is known."""
    comparison = _compared({"verdict": was}, {"verdict": now})
    names = {name: getattr(comparison, name) for name in ("worse", "better", "refused")}
    assert [name for name, checks in names.items() if checks] == ([found] if found else [])


def test_a_verdict_that_changed_decides():
    """A check that fails stops early: what it had counted by then is less."""
    early = {"verdict": "exceeded", "counts": {"copied": 100}}
    (better,) = _compared(early, {"counts": {"copied": 200}}).better
    assert [change.name for change in better.changes] == ["verdict", "copied"]
    assert "copied   100 -> 200 (2 times), which is worse" in _said(
        _compared(early, {"counts": {"copied": 200}})
    )
    assert _compared({"counts": {"copied": 200}}, early).worse


def test_what_was_not_measured_to_the_end_has_no_figures():
    """Only its verdict counts."""
    (better,) = _compared({"verdict": "inconclusive"}, {"counts": {"copied": 10**9}}).better
    assert [change.name for change in better.changes] == ["verdict"]


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        ({"x": 0.25}, {"x": 0.25 + SAME_SHARE}, False),
        ({"x": 0.02}, {"x": 0.03 + SAME_SHARE}, True),
        ({"x": 0.1, "x high": 0.3}, {"x": 0.6, "x low": 0.4}, True),
        ({"x": 0.1, "x high": 0.5}, {"x": 0.6, "x low": 0.4}, False),
        ({"x": 0.1, "x high": 0.1}, {"x": 0.2, "x low": 0.2}, False),
        ({"x": 0.1, "x low": 0.0, "x high": 0.2}, {"x": 0.1, "x low": 0.9, "x high": 0.9}, False),
    ],
)
def test_a_share(before, after, worse):
    """It is worse where it is clearly more, and its interval lies above."""
    there = _compared({"shares": before}, {"shares": after})
    assert bool(there.worse) == worse
    assert not there.better


def test_a_share_that_is_less():
    """It is better where the other way round would be worse."""
    more = {"shares": {"x": 0.9, "x low": 0.8, "x high": 1.0}}
    less = {"shares": {"x": 0.1, "x low": 0.0, "x high": 0.2}}
    comparison = _compared(more, less)
    assert (len(comparison.worse), len(comparison.better)) == (0, 1)
    assert _compared(more, less | {"shares": less["shares"] | {"x high": 0.85}}).better == ()


def test_seconds_are_never_compared():
    """And that is said."""
    comparison = _compared({"seconds": {"longest gap": 0.1}}, {"seconds": {"longest gap": 9.0}})
    assert (comparison.green, comparison.better, comparison.compared) == (True, (), 1)
    assert _said(comparison).endswith("Seconds are never compared: they are those of one machine.")


def test_the_worst_comes_first():
    """Verdicts before figures, and of those the one that rose most."""
    base = [a_check(f"test_{name}", counts={"updates": 10}) for name in "abcd"]
    head = deepcopy(base)
    for check, updates in zip(head, (20, 30, 20, 20), strict=True):
        check["counts"] = {"updates": updates}
    head[2]["verdict"], head[3]["verdict"] = "inconclusive", "exceeded"
    comparison = compare(a_report(*base), a_report(*head))
    assert [each.test[-1] for each in comparison.worse] == ["d", "c", "b", "a"]


# -- what is not compared


@pytest.mark.parametrize(
    ("before", "after", "what", "reason"),
    [
        (
            {"given": {"up_to": 20_000}},
            {"given": {"up_to": 50_000, "every": 0.1}, "verdict": "exceeded"},
            "check",
            "every was not set and is 0.1; up_to was 20000 and is 50000",
        ),
        (
            {"limits": {"superlinear": 0.25}},
            {"limits": {"superlinear": 0.1}, "verdict": "exceeded"},
            "verdict",
            "the limit of superlinear was 0.25 and is 0.1",
        ),
        ({"counts": {"a": 1}}, {"counts": {}}, "count a", "only base has it"),
        (
            {"shares": {}},
            {"shares": {"a": 1, "a low": 1, "a high": 1}},
            "share a",
            "only head has it",
        ),
    ],
)
def test_what_cannot_be_compared(before, after, what, reason):
    """It is neither worse nor better, and why is said."""
    comparison = _compared(before, after)
    assert comparison.green
    assert [(each.what, each.reason) for each in comparison.refused] == [(what, reason)]
    assert reason in _said(comparison)


def test_what_growth_counts_wavers():
    """Bytes are not the same to the last of them; what others count is."""
    before, after = {"counts": {"copied": 10_000}}, {"counts": {"copied": 10_100}}
    assert _compared(before, after).green
    assert _compared(before, {"counts": {"copied": 10_101}}).worse
    assert _compared(before | {"stem": "throttling"}, after | {"stem": "throttling"}).worse


@pytest.mark.parametrize("name", ["check", "verdict", "counts"])
def test_a_count_with_the_name_of_something_else(name):
    """It hides nothing."""
    before, after = {"counts": {name: 1, "a": 1}}, {"counts": {"a": 2}, "verdict": "exceeded"}
    comparison = _compared(before, after)
    assert comparison.compared == 1
    assert [change.name for change in comparison.worse[0].changes] == ["verdict", "a"]


@pytest.mark.parametrize("python", ["3.12.7", "3.1"])
def test_what_growth_counts_on_another_python(python):
    """Its counts depend on the interpreter; its share does not, nor what others count."""
    base, head = a_report(a_check()), a_report(a_check(counts={"copied": 10**9}), python=python)
    comparison = compare(base, head)
    assert comparison.worse == ()
    assert [each.what for each in comparison.refused] == ["counts"]
    for reason in ("CPython 3.11", f"CPython {python[:4].removesuffix('.')}"):
        assert reason in comparison.refused[0].reason
    head["checks"][0]["shares"] = {"superlinear": 0.9}
    assert compare(base, head).worse
    base["checks"][0]["stem"] = head["checks"][0]["stem"] = "throttling"
    assert [each.what for each in compare(base, head).refused] == ["count calls"]


def test_what_growth_counts_on_another_patch_of_the_same_python():
    """It is compared."""
    assert compare(
        a_report(a_check()), a_report(a_check(counts={"copied": 10**9}), python="3.11.9")
    ).worse


def test_a_check_that_is_gone_and_one_that_is_new():
    """They are listed, and no regression: taking a test away shows in review."""
    old, new = a_check("test_old"), a_check("test_new")
    comparison = compare(a_report(old), a_report(new))
    assert (comparison.gone, comparison.new) == ((key_of(old),), (key_of(new),))
    assert (comparison.green, comparison.compared) == (True, 0)


@pytest.mark.parametrize("changes", [{"complete": False}, {"lost": ["test_lost"]}])
def test_a_check_that_was_lost(changes):
    """An interrupted run, or a worker that crashed, is not green."""
    kept, lost = a_check("test_kept"), a_check("test_lost")
    comparison = compare(a_report(kept, lost), a_report(kept, **changes))
    assert (comparison.lost, comparison.gone) == ((key_of(lost),), ())
    assert not comparison.green
    assert _said(comparison).startswith("Incomplete, 1 lost; none of the other 1 checks got worse")


def test_a_check_that_stopped_early_is_said_once():
    """Its verdict fell: what it did not come to count is no news besides."""
    stopped = a_check(verdict="exceeded", counts={})
    comparison = compare(a_report(a_check()), a_report(stopped))
    assert [each.key for each in comparison.worse] == [key_of(stopped)]
    assert not comparison.refused


def test_an_incomplete_run_that_lost_nothing():
    """What it has is compared, and that it is incomplete is said."""
    comparison = compare(a_report(a_check()), a_report(a_check(), complete=False))
    assert comparison.green
    assert _said(comparison).count("incomplete") == 1


# -- how it reads


def test_what_somebody_reads_at_midnight():
    """What got worse, from what to what, in which test, and the guilty line."""
    worse = a_check(
        verdict="exceeded",
        shares={"superlinear": 0.84},
        counts={"copied": 1_000_000, "calls": 40_000},
        headline="20,000 deltas copied 1.0 MB, 84% superlinear, limit 25%",
    )
    updates = [a_check("t.py::test_ui", "throttling", 2, counts={"updates": n}) for n in (51, 50)]
    base = a_report(a_check(), updates[0], a_check("t.py::test_b"))
    head = a_report(worse, updates[1], a_check("t.py::test_b"), python="3.11.9", commit=None)
    assert _said(compare(base, head)) == (
        "1 of 3 checks got worse, 1 better, 1 the same\n"
        "\n"
        "Worse\n"
        "  tests/test_chat.py::test_reply  growth\n"
        "    verdict      within -> exceeded\n"
        "    copied       51,200 -> 1,000,000 (20 times)\n"
        "    superlinear  2% -> 84%, limit 25%\n"
        "    where        agent.py:41 in feed: self.text += delta\n"
        "    says         20,000 deltas copied 1.0 MB, 84% superlinear, limit 25%\n"
        "\n"
        "Better\n"
        "  t.py::test_ui  throttling 2\n"
        "    updates  51 -> 50\n"
        "\n"
        "base  1234567890, 2026-11-22 19:40 UTC, CPython 3.11\n"
        "head  2026-11-22 19:40 UTC, CPython 3.11\n"
        "Seconds are never compared: they are those of one machine."
    )


def test_a_check_of_many_figures():
    """What makes it worse is shown, whatever else changed."""
    before = {"counts": {**dict.fromkeys("abcdefgh", 2), "the one": 1}}
    after = {"counts": {**dict.fromkeys("abcdefgh", 1), "the one": 2}}
    said = _said(_compared(before, after))
    assert "the one  1 -> 2" in said
    assert "and      4 more figures" in said


HOSTILE = "\x1b[31m`` @all\n# <img src=x onerror=y> | [a](https://b) \u202e" * 9


def _hostile():
    def run(count):
        names = {f"{HOSTILE}{n}": count for n in range(30)}
        where = [{"place": HOSTILE, "source": HOSTILE, "share": 1}]
        return [
            a_check(f"{kind}{n}{HOSTILE}", counts=names, given=given, headline=HOSTILE, where=where)
            for kind in "abcde"
            for n in range(100)
            for given in [{HOSTILE: count * (kind == "a") * n}]
            if kind != "bc"[count - 1]
        ]

    return compare(a_report(*run(1)), a_report(*run(2)))


def test_a_hostile_report_in_a_comment():
    """It is short enough for one, and all that comes from the report is code, on its line."""
    said = list(_FORMATS["markdown"](_hostile()))
    assert len("\n".join(said)) < 65_536
    assert any("onerror" in line for line in said)
    for line in said:
        assert line.isprintable()
        outside = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", line)  # as CommonMark has it
        assert not set(outside) & set("`<@|[\\")


def test_a_hostile_report_on_a_terminal():
    """A screen or a few of it, each line short."""
    said = list(lines(_hostile()))
    assert len(said) < 300
    assert max(map(len, said)) < 400


def test_for_a_machine():
    """Everything, as JSON."""
    comparison = _compared({"counts": {"updates": 1}}, {"counts": {"updates": 3}})
    said = json.loads("\n".join(_FORMATS["json"](comparison)))
    assert (said["green"], said["compared"]) == (False, 1)
    assert said["worse"][0]["changes"] == [
        {"name": "updates", "kind": "count", "base": 1, "head": 3, "limit": None, "worse": True}
    ]


# -- the baseline


@given(report=reports)
def test_a_baseline_is_a_report_to_compare_with(report):
    """It says of the report that it was made from what that says of itself."""
    kept, _ = baseline(report, report | {"checks": []})
    assert fault(kept) is None
    here, there = compare(kept, report), compare(report, report)
    assert (here.worse, here.better, here.refused) == (there.worse, there.better, there.refused)


def test_a_baseline_has_only_what_compares():
    """So that its diff is small."""
    kept, _ = baseline(a_report(a_check("b"), a_check("a")), a_report())
    assert [check["test"] for check in kept["checks"]] == ["a", "b"]
    assert (kept["took"], kept["commit"], kept["noise"]["waited"]) == (0, None, None)
    check = kept["checks"][0]
    full = {"test", "stem", "number", "verdict", "accepted", "given", "counts", "shares", "limits"}
    assert {key for key, value in check.items() if value} == full
    assert list(check["counts"]) == ["calls", "copied"]


def test_a_baseline_stays_as_it_is():
    """What wavers within what counts as the same is no change, nor is another day."""
    kept, _ = baseline(a_report(a_check(), a_check("b")), a_report())
    later = a_report(
        a_check(shares={"superlinear": 0.11}, seconds={"longest gap": 3}),
        a_check("b"),
        started="2027-01-01T00:00:00+00:00",
        tests=501,
    )
    assert baseline(later, kept)[0] == kept


def test_a_baseline_takes_what_changed():
    """And leaves the other checks as they are, to the digit."""
    kept, _ = baseline(a_report(a_check(), a_check("b"), a_check("c")), a_report())
    wavers = {"superlinear": 0.11}
    later = a_report(a_check(shares=wavers, counts={"copied": 9}), a_check("b", shares=wavers))
    updated, comparison = baseline(later, kept)
    assert [check["shares"]["superlinear"] for check in updated["checks"]] == [0.02, 0.11]
    assert updated["checks"][0] == kept["checks"][0]
    assert comparison.gone == (("c", "growth", 1),)


def test_a_baseline_on_another_python():
    """It is made anew: what growth counts is not what it was."""
    kept, _ = baseline(a_report(a_check()), a_report())
    updated, _ = baseline(a_report(a_check(counts={"copied": 7}), python="3.13.0"), kept)
    assert updated["checks"][0]["counts"] == {"copied": 7}
    assert updated["environment"]["python"] == "3.13.0"
    same, _ = baseline(a_report(a_check(), python="3.13.0"), kept)
    assert same["environment"]["python"] == "3.13.0"


def test_shards_compare_as_the_whole_does():
    """A job in parts and one in a piece have the same checks."""
    one, other = a_check("a"), a_check("b")
    assert compare(a_report(one, other), merge([a_report(one), a_report(other)])).compared == 2
