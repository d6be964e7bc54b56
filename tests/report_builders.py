"""Build reports for tests: a fixed report with some fields changed, or any report by Hypothesis."""

from hypothesis import strategies as st

ENVIRONMENT = {
    "python": "3.11.7",
    "implementation": "CPython",
    "system": "Linux",
    "machine": "x86_64",
    "cores": 2,
    "pytest": "9.0.1",
    "streamperf": "0.1.0",
}


def a_check(test="tests/test_chat.py::test_reply", stem="growth", number=1, **changes):
    """Return a check that is within its limit, with the fields in `changes` replaced."""
    return {
        "test": test,
        "stem": stem,
        "number": number,
        "verdict": "within",
        "accepted": True,
        "headline": "20,000 deltas, 2% superlinear, limit 25%",
        "details": [],
        "picture": ["\N{LOWER ONE EIGHTH BLOCK}\N{FULL BLOCK}"],
        "given": {"up_to": 20_000},
        "counts": {"copied": 51_200, "calls": 40_000},
        "shares": {"superlinear": 0.02},
        "seconds": {"longest gap": 0.2},
        "bytes": {},
        "limits": {"superlinear": 0.25},
        "where": [{"place": "agent.py:41 in feed", "source": "self.text += delta", "share": 0.97}],
        "series": {
            "allocated_bytes": [[64, 120.0], [128, 130.0]],
            "attempts": [["open", "a:1", "refused"]],
        },
        "facts": {"metric": "allocated_bytes"},
    } | changes


def a_report(*checks, python="3.11.7", **changes):
    """Return the report of one complete run, with the fields in `changes` replaced."""
    return {
        "format": "pytest-streamperf report",
        "version": 1,
        "complete": True,
        "started": "2026-11-22T19:40:00+00:00",
        "took": 12.5,
        "commit": {"id": "1234567890" * 4, "dirty": False},
        "environment": ENVIRONMENT | {"python": python},
        "noise": {"waited": 0.05, "page_faults": 1234},
        "tests": 500,
        "lost": [],
        "checks": list(checks),
    } | changes


_numbers = st.integers(-(10**20), 10**20) | st.floats(-1e300, 1e300)
_names = st.sampled_from(["updates", "copied", "longest gap", "\x1b[31m"])
_figures = st.dictionaries(_names, _numbers, max_size=3)
_lines = st.lists(st.text(max_size=20), max_size=2)

# Few test names, so that two reports have checks in common. Headlines have any text, even lone
# surrogates.
checks = st.builds(
    a_check,
    test=st.sampled_from(["a.py::test_a", "a.py::test_b[1]", "b.py::test_c"]),
    stem=st.sampled_from(["growth", "throttling", "responsiveness"]),
    number=st.integers(1, 2),
    verdict=st.sampled_from(["within", "exceeded", "inconclusive"]),
    accepted=st.booleans(),
    headline=st.text(st.characters(exclude_categories=()), max_size=20),
    details=_lines,
    picture=_lines,
    given=st.dictionaries(_names, _numbers | st.text(max_size=5), max_size=2),
    counts=_figures,
    shares=_figures,
    seconds=_figures,
    limits=_figures,
)
reports = st.builds(
    lambda checks, changes: a_report(*checks, **changes),
    st.lists(
        checks, max_size=6, unique_by=lambda check: (check["test"], check["stem"], check["number"])
    ),
    st.fixed_dictionaries(
        {
            "complete": st.booleans(),
            "started": st.integers(10, 59).map(lambda second: f"2026-11-22T19:40:{second}+00:00"),
            "took": st.integers(0, 1000),
            "tests": st.integers(0, 1000),
            "lost": st.lists(st.sampled_from(["a.py::test_a", "c.py::test_d"]), unique=True),
            "commit": st.none() | st.builds(dict, id=st.just("ab" * 20), dirty=st.booleans()),
            "environment": st.integers(1, 3).map(lambda cores: ENVIRONMENT | {"cores": cores}),
            "noise": st.fixed_dictionaries(
                {
                    "waited": st.none() | st.floats(0, 1),
                    "page_faults": st.none() | st.integers(0, 10**6),
                }
            ),
        }
    ),
)
