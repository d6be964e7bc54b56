"""Tests of comparing two reports: worse checks, refused comparisons, output and baselines.

`_report/compare.py` compares, and `_cli/compare.py` and `_cli/baseline.py` print and store results.
A report is the JSON document of one run. A comparison is green if no check got worse or was lost.
"""

import json
import re
from copy import deepcopy

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_streamperf._cli.baseline import baseline
from pytest_streamperf._cli.compare import _FORMATS, lines
from pytest_streamperf._report.compare import SHARE_TOLERANCE, compare
from pytest_streamperf._report.document import key_of, merge
from pytest_streamperf._report.schema import violation
from tests.report_builders import a_check, a_report, reports


def _comparison(before, after, **changes):
    """Return the comparison of two reports with one check each.

    `before` and `after` are the fields in which the check of each report differs from the default
    of `a_check`; `changes` are fields of the later report.
    """
    return compare(a_report(a_check(**before)), a_report(a_check(**after), **changes))


def _text(comparison):
    return "\n".join(lines(comparison))


# -- checks that got worse or better


@given(report=reports)
def test_a_report_and_itself(report):
    """A comparison of a report with itself is green and lists no change."""
    comparison = compare(report, report)
    assert comparison.green
    assert (comparison.better, comparison.gone, comparison.new) == ((), (), ())


@given(report=reports, data=st.data())
def test_every_count_that_is_more_is_found(report, data):
    """A higher count makes its check worse by that count, and better in the reverse comparison."""
    counted = [check for check in report["checks"] if check["counts"]]
    counted = [check for check in counted if check["verdict"] != "inconclusive"]
    assume(counted)
    key = key_of(data.draw(st.sampled_from(counted)))
    head = deepcopy(report)
    check = next(check for check in head["checks"] if key_of(check) == key)
    name = data.draw(st.sampled_from(sorted(check["counts"])))
    base_count = check["counts"][name]
    more = data.draw(st.integers(1, 10**6)) + abs(base_count) * 0.02 * (check["stem"] == "growth")
    assume(base_count + more > base_count)
    check["counts"][name] = base_count + more
    (worse,) = compare(report, head).worse
    assert worse.key == key
    assert [(change.name, change.kind) for change in worse.changes] == [(name, "count")]
    reverse = compare(head, report)
    assert [check.key for check in reverse.better] == [key]
    assert reverse.green


@pytest.mark.parametrize(
    ("was", "now", "listed_as"),
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
def test_a_verdict(was, now, listed_as):
    """A verdict gets worse from within to inconclusive to exceeded, and better only to within.

    An inconclusive check that was not within before is not compared.
    """
    comparison = _comparison({"verdict": was}, {"verdict": now})
    names = {name: getattr(comparison, name) for name in ("worse", "better", "refused")}
    assert [name for name, checks in names.items() if checks] == ([listed_as] if listed_as else [])


def test_a_verdict_that_changed_decides():
    """A changed verdict decides alone, because a check that fails stops early and counts less."""
    early = {"verdict": "exceeded", "counts": {"copied": 100}}
    (better,) = _comparison(early, {"counts": {"copied": 200}}).better
    assert [change.name for change in better.changes] == ["verdict", "copied"]
    assert "copied   100 -> 200 (2 times), which is worse" in _text(
        _comparison(early, {"counts": {"copied": 200}})
    )
    assert _comparison({"counts": {"copied": 200}}, early).worse


def test_what_was_not_measured_to_the_end_has_no_figures():
    """The figures of an inconclusive check are not compared; only its verdict is."""
    (better,) = _comparison({"verdict": "inconclusive"}, {"counts": {"copied": 10**9}}).better
    assert [change.name for change in better.changes] == ["verdict"]


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        ({"x": 0.25}, {"x": 0.25 + SHARE_TOLERANCE}, False),
        ({"x": 0.02}, {"x": 0.03 + SHARE_TOLERANCE}, True),
        ({"x": 0.1, "x high": 0.3}, {"x": 0.6, "x low": 0.4}, True),
        ({"x": 0.1, "x high": 0.5}, {"x": 0.6, "x low": 0.4}, False),
        ({"x": 0.1, "x high": 0.1}, {"x": 0.2, "x low": 0.2}, False),
        ({"x": 0.1, "x low": 0.0, "x high": 0.2}, {"x": 0.1, "x low": 0.9, "x high": 0.9}, False),
    ],
)
def test_a_share(before, after, worse):
    """A share is worse only if it is over 0.25 higher and its interval lies above the other."""
    comparison = _comparison({"shares": before}, {"shares": after})
    assert bool(comparison.worse) == worse
    assert not comparison.better


def test_a_share_that_is_less():
    """A share is better where the reverse comparison would call it worse."""
    more = {"shares": {"x": 0.9, "x low": 0.8, "x high": 1.0}}
    less = {"shares": {"x": 0.1, "x low": 0.0, "x high": 0.2}}
    comparison = _comparison(more, less)
    assert (len(comparison.worse), len(comparison.better)) == (0, 1)
    assert _comparison(more, less | {"shares": less["shares"] | {"x high": 0.85}}).better == ()


def test_seconds_are_never_compared():
    """Seconds are never compared, and the output states that."""
    comparison = _comparison({"seconds": {"longest gap": 0.1}}, {"seconds": {"longest gap": 9.0}})
    assert (comparison.green, comparison.better, comparison.compared) == (True, (), 1)
    assert _text(comparison).endswith("Seconds are never compared: they are those of one machine.")


def test_the_worst_comes_first():
    """Worse checks are ordered by their new verdict, then by the largest rise of a figure."""
    base = [a_check(f"test_{name}", counts={"updates": 10}) for name in "abcd"]
    head = deepcopy(base)
    for check, updates in zip(head, (20, 30, 20, 20), strict=True):
        check["counts"] = {"updates": updates}
    head[2]["verdict"], head[3]["verdict"] = "inconclusive", "exceeded"
    comparison = compare(a_report(*base), a_report(*head))
    assert [check.test[-1] for check in comparison.worse] == ["d", "c", "b", "a"]


# -- refused comparisons


@pytest.mark.parametrize(
    ("before", "after", "part", "reason"),
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
def test_what_cannot_be_compared(before, after, part, reason):
    """A part that cannot be compared is neither worse nor better, and the output has the reason."""
    comparison = _comparison(before, after)
    assert comparison.green
    assert [(refusal.what, refusal.reason) for refusal in comparison.refused] == [(part, reason)]
    assert reason in _text(comparison)


def test_what_growth_counts_wavers():
    """A growth count may rise by 1%; a throttling count may not rise at all."""
    before, after = {"counts": {"copied": 10_000}}, {"counts": {"copied": 10_100}}
    assert _comparison(before, after).green
    assert _comparison(before, {"counts": {"copied": 10_101}}).worse
    assert _comparison(before | {"stem": "throttling"}, after | {"stem": "throttling"}).worse


@pytest.mark.parametrize("name", ["check", "verdict", "counts"])
def test_a_count_with_the_name_of_something_else(name):
    """A count that is named like a part of a check does not hide any change."""
    before, after = {"counts": {name: 1, "a": 1}}, {"counts": {"a": 2}, "verdict": "exceeded"}
    comparison = _comparison(before, after)
    assert comparison.compared == 1
    assert [change.name for change in comparison.worse[0].changes] == ["verdict", "a"]


@pytest.mark.parametrize("python", ["3.12.7", "3.1"])
def test_what_growth_counts_on_another_python(python):
    """Growth counts are not compared across minor versions of Python; shares still are."""
    base, head = a_report(a_check()), a_report(a_check(counts={"copied": 10**9}), python=python)
    comparison = compare(base, head)
    assert comparison.worse == ()
    assert [refusal.what for refusal in comparison.refused] == ["counts"]
    for reason in ("CPython 3.11", f"CPython {python[:4].removesuffix('.')}"):
        assert reason in comparison.refused[0].reason
    head["checks"][0]["shares"] = {"superlinear": 0.9}
    assert compare(base, head).worse
    base["checks"][0]["stem"] = head["checks"][0]["stem"] = "throttling"
    assert [refusal.what for refusal in compare(base, head).refused] == ["count calls"]


def test_what_growth_counts_on_another_patch_of_the_same_python():
    """Growth counts are compared between two patch releases of one Python version."""
    assert compare(
        a_report(a_check()), a_report(a_check(counts={"copied": 10**9}), python="3.11.9")
    ).worse


def test_a_check_that_is_gone_and_one_that_is_new():
    """Gone and new checks are listed, and do no harm: a removed test shows in review."""
    old, new = a_check("test_old"), a_check("test_new")
    comparison = compare(a_report(old), a_report(new))
    assert (comparison.gone, comparison.new) == ((key_of(old),), (key_of(new),))
    assert (comparison.green, comparison.compared) == (True, 0)


@pytest.mark.parametrize("changes", [{"complete": False}, {"lost": ["test_lost"]}])
def test_a_check_that_was_lost(changes):
    """A check that an interrupted run or a crashed worker lost makes the comparison not green."""
    kept, lost = a_check("test_kept"), a_check("test_lost")
    comparison = compare(a_report(kept, lost), a_report(kept, **changes))
    assert (comparison.lost, comparison.gone) == ((key_of(lost),), ())
    assert not comparison.green
    assert _text(comparison).startswith("Incomplete, 1 lost; none of the other 1 checks got worse")


def test_a_check_that_stopped_early_is_said_once():
    """A check that failed early is listed as worse, and its missing counts are not listed too."""
    stopped = a_check(verdict="exceeded", counts={})
    comparison = compare(a_report(a_check()), a_report(stopped))
    assert [check.key for check in comparison.worse] == [key_of(stopped)]
    assert not comparison.refused


def test_an_incomplete_run_that_lost_nothing():
    """An incomplete run with all checks of base is green, and the output calls it incomplete."""
    comparison = compare(a_report(a_check()), a_report(a_check(), complete=False))
    assert comparison.green
    assert _text(comparison).count("incomplete") == 1


# -- the output formats


def test_what_somebody_reads_at_midnight():
    """The table shows worse checks with old and new values, the test and the guilty line."""
    worse = a_check(
        verdict="exceeded",
        shares={"superlinear": 0.84},
        counts={"copied": 1_000_000, "calls": 40_000},
        headline="20,000 deltas copied 1.0 MB, 84% superlinear, limit 25%",
    )
    updates = [a_check("t.py::test_ui", "throttling", 2, counts={"updates": n}) for n in (51, 50)]
    base = a_report(a_check(), updates[0], a_check("t.py::test_b"))
    head = a_report(worse, updates[1], a_check("t.py::test_b"), python="3.11.9", commit=None)
    assert _text(compare(base, head)) == (
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
    """The table shows the figure that makes a check worse, however many others changed."""
    before = {"counts": {**dict.fromkeys("abcdefgh", 2), "the one": 1}}
    after = {"counts": {**dict.fromkeys("abcdefgh", 1), "the one": 2}}
    text = _text(_comparison(before, after))
    assert "the one  1 -> 2" in text
    assert "and      4 more figures" in text


HOSTILE = "\x1b[31m`` @all\n# <img src=x onerror=y> | [a](https://b) \u202e" * 9


def _hostile_comparison():
    """Return the comparison of two reports with hostile texts, with long lists of every kind."""

    def checks(count):
        names = {f"{HOSTILE}{n}": count for n in range(30)}
        where = [{"place": HOSTILE, "source": HOSTILE, "share": 1}]
        return [
            a_check(f"{kind}{n}{HOSTILE}", counts=names, given=given, headline=HOSTILE, where=where)
            for kind in "abcde"
            for n in range(100)
            for given in [{HOSTILE: count * (kind == "a") * n}]
            if kind != "bc"[count - 1]
        ]

    return compare(a_report(*checks(1)), a_report(*checks(2)))


def test_a_hostile_report_in_a_comment():
    """Markdown of hostile reports fits into a GitHub comment; their texts stay in code spans."""
    comment = list(_FORMATS["markdown"](_hostile_comparison()))
    assert len("\n".join(comment)) < 65_536
    assert any("onerror" in line for line in comment)
    for line in comment:
        assert line.isprintable()
        outside = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", line)  # code spans of CommonMark
        assert not set(outside) & set("`<@|[\\")


def test_a_hostile_report_on_a_terminal():
    """The table of hostile reports has fewer than 300 lines, each below 400 characters."""
    table = list(lines(_hostile_comparison()))
    assert len(table) < 300
    assert max(map(len, table)) < 400


def test_for_a_machine():
    """The JSON format holds every field of the comparison."""
    comparison = _comparison({"counts": {"updates": 1}}, {"counts": {"updates": 3}})
    output = json.loads("\n".join(_FORMATS["json"](comparison)))
    assert (output["green"], output["compared"]) == (False, 1)
    assert output["worse"][0]["changes"] == [
        {"name": "updates", "kind": "count", "base": 1, "head": 3, "limit": None, "worse": True}
    ]


# -- the baseline: the comparable part of a report, for the repository


@given(report=reports)
def test_a_baseline_is_a_report_to_compare_with(report):
    """A report compares with its baseline as it compares with itself."""
    kept, _ = baseline(report, report | {"checks": []})
    assert violation(kept) is None
    first, second = compare(kept, report), compare(report, report)
    assert (first.worse, first.better, first.refused) == (
        second.worse,
        second.better,
        second.refused,
    )


def test_a_baseline_has_only_what_compares():
    """A baseline holds only the compared fields, in a fixed order, so that its diff is small."""
    kept, _ = baseline(a_report(a_check("b"), a_check("a")), a_report())
    assert [check["test"] for check in kept["checks"]] == ["a", "b"]
    assert (kept["took"], kept["commit"], kept["noise"]["waited"]) == (0, None, None)
    check = kept["checks"][0]
    filled = {
        "test",
        "stem",
        "number",
        "verdict",
        "accepted",
        "given",
        "counts",
        "shares",
        "limits",
    }
    assert {key for key, value in check.items() if value} == filled
    assert list(check["counts"]) == ["calls", "copied"]


def test_a_baseline_stays_as_it_is():
    """Differences within the tolerance and another date leave the baseline unchanged."""
    kept, _ = baseline(a_report(a_check(), a_check("b")), a_report())
    later = a_report(
        a_check(shares={"superlinear": 0.11}, seconds={"longest gap": 3}),
        a_check("b"),
        started="2027-01-01T00:00:00+00:00",
        tests=501,
    )
    assert baseline(later, kept)[0] == kept


def test_a_baseline_takes_what_changed():
    """A baseline takes a changed check, and keeps the other checks to the digit."""
    kept, _ = baseline(a_report(a_check(), a_check("b"), a_check("c")), a_report())
    noise = {"superlinear": 0.11}
    later = a_report(a_check(shares=noise, counts={"copied": 9}), a_check("b", shares=noise))
    updated, comparison = baseline(later, kept)
    assert [check["shares"]["superlinear"] for check in updated["checks"]] == [0.02, 0.11]
    assert updated["checks"][0] == kept["checks"][0]
    assert comparison.gone == (("c", "growth", 1),)


def test_a_baseline_on_another_python():
    """Another Python version replaces the growth counts and the environment of the baseline."""
    kept, _ = baseline(a_report(a_check()), a_report())
    updated, _ = baseline(a_report(a_check(counts={"copied": 7}), python="3.13.0"), kept)
    assert updated["checks"][0]["counts"] == {"copied": 7}
    assert updated["environment"]["python"] == "3.13.0"
    same, _ = baseline(a_report(a_check(), python="3.13.0"), kept)
    assert same["environment"]["python"] == "3.13.0"


def test_shards_compare_as_the_whole_does():
    """The merged report of two shards has the same checks as the report of one whole run."""
    one, other = a_check("a"), a_check("b")
    assert compare(a_report(one, other), merge([a_report(one), a_report(other)])).compared == 2
