"""The budget that applies to a test, inside pytest: from its markers and the project's settings.

The marker nearest to the test wins. An invalid marker is an error with its line.
`--streamperf-budgets` lists the budget of each test and runs none.
"""

import pytest

from tests.budget_samples import SETTINGS


def test_a_mode_of_warning_lets_them_pass(budgeted):
    """A test beyond its budget passes with a warning if the settings have `mode = "warn"`."""
    result = budgeted(
        """
        @budget(max_gc_pause="1us")
        def test_pause(): gc.collect()
        """,
        settings='[tool.streamperf]\nmode = "warn"',
        expect={"passed": 1, "warnings": 1},
    )
    result.stdout.fnmatch_lines(["*responsiveness  test_it.py::test_pause: * (a warning)"])


def test_one_test_may_warn(budgeted):
    """A marker with `mode="warn"` lets only its own test pass with a warning."""
    budgeted(
        """
        def quadratic(stream):
            deltas = []
            for delta in stream:
                deltas.append(delta)
                "".join(deltas)

        @budget(mode="warn")
        def test_known(): assert_linear(quadratic, up_to=640)

        def test_new(): assert_linear(quadratic, up_to=640)
        """,
        expect={"passed": 1, "warnings": 1, "failed": 1},
    ).stdout.fnmatch_lines(["*growth  test_it.py::test_known: * (a warning)"])


def test_budgets_by_parameter_and_the_nearest_wins(budgeted):
    """The nearest marker wins: that of a parameter, then of the function, the class, the module."""
    budgeted(
        """
        pytestmark = budget(max_gc_pause="1us")

        def test_module(): gc.collect()

        class TestClass:
            pytestmark = budget(max_gc_pause="10s")
            def test_it(self): gc.collect()

            @budget(max_gc_pause="1us")
            def test_own(self): gc.collect()

            @pytest.mark.parametrize("n", [1, pytest.param(2, marks=budget(max_gc_pause="1us"))])
            @budget(max_gc_pause="10s")
            def test_parameter(self, n): gc.collect()

            @budget(max_gc_pause="1us")
            @pytest.mark.parametrize("n", [1, pytest.param(2, marks=budget(max_gc_pause="10s"))])
            def test_parameter_of_a_function(self, n): gc.collect()

            @budget(max_gc_pause="20s", tighter=True)
            def test_tighter(self): gc.collect()
        """,
        expect={"passed": 4, "failed": 4},
    )


@pytest.mark.parametrize(
    "workers",
    [(), ("-n", "2"), ("-n", "2", "--dist", "loadgroup")],
    ids=["alone", "xdist", "groups"],
)
def test_a_wrong_marker_fails_its_test_with_its_line(budgeted, workers):
    """An invalid marker of a parameter fails its own test with its line, and other tests run."""
    result = budgeted(
        """
        @pytest.mark.parametrize("n", [1, pytest.param(2, marks=budget(max_gap="1 parsec"))])
        def test_unit(n): pass

        @pytest.mark.parametrize(
            "n", [pytest.param(1, marks=budget(max_stall=1, peak_memory=1, rerun=True))]
        )
        def test_rerun(n): pass
        """,
        *workers,
        expect={"passed": 1, "errors": 2},
    )
    result.stdout.fnmatch_lines_random(
        [
            "BudgetError: marker, test_it.py:14: max_gap must be a time, as *, not '1 parsec'",
            "BudgetError: test_it.py:17: rerun is for functions, not a parameter or a TestCase",
        ]
    )


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("profile='nope'", "test_it.py:13: there is no profile 'nope'; there are chat-ui"),
        ("'chat-ui'", "test_it.py:13: the streamperf marker takes keywords only, not 'chat-ui'"),
        ("max_gaps=1", "marker, test_it.py:13: there is no budget 'max_gaps'; there are max_*"),
        ("peak_memory=1", "marker, test_it.py:13: peak_memory cannot be measured together with *"),
    ],
)
def test_a_wrong_marker_is_told_when_tests_are_collected(budgeted, marker, message):
    """An invalid marker of a function is a collection error with its line and allowed values."""
    tests = f"@pytest.mark.streamperf({marker})\ndef test_it(): pass"
    budgeted(tests, settings=SETTINGS, expect={"errors": 1}).stdout.fnmatch_lines([message])


def test_what_applies_is_listed(budgeted):
    """`--streamperf-budgets` lists the limits of each test with their origins, and runs no test."""
    result = budgeted(
        """
        @budget(max_stall="50ms", profile="chat-ui")
        async def test_it(): assert False
        """,
        "--streamperf-budgets",
        settings=SETTINGS,
        expect={},
    )
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "test_it.py::test_it",
            "  max_superlinear  30% superlinear  pyproject.toml:3",
            "  updates_every    100 ms           pyproject.toml:7 (chat-ui)",
            "  max_gap          200 ms           pyproject.toml:2",
            "  max_stall        50.0 ms          marker, test_it.py:14",
        ]
    )


def test_a_list_of_what_is_wrong_is_an_error(budgeted):
    """`--streamperf-budgets` ends with a usage error if a marker is invalid."""
    result = budgeted(
        """
        @pytest.mark.parametrize("n", [pytest.param(2, marks=budget(max_gap="1 parsec"))])
        def test_unit(n): pass
        """,
        "--streamperf-budgets",
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: marker, test_it.py:14: max_gap must be a time, *"])


def test_settings_are_listed_as_the_budgets_that_they_are(budgeted):
    """`--streamperf-budgets` lists the project's settings as limits, with their lines.

    A setting that is no limit stands once, above all tests.
    """
    result = budgeted(
        "@budget(up_to=100)\ndef test_it(): pass",
        "--streamperf-budgets",
        settings="[tool.streamperf]\nmax_superlinear = 0.2\nup_to = 80\ncopies = 'warn'",
    )
    result.stdout.fnmatch_lines(
        [
            "streamperf: copies=warn, *",
            "test_it.py::test_it",
            "  max_superlinear  20% superlinear  pyproject.toml:2",
            "  up_to            100 deltas       marker, test_it.py:13",
        ]
    )


def test_a_list_tells_of_a_function_that_is_none(budgeted):
    """`--streamperf-budgets` ends with a usage error if a `cpu_share` function does not exist."""
    result = budgeted(
        "def test_it(): pass",
        "--streamperf-budgets",
        settings="[tool.streamperf.budgets]\ncpu_share = { 'json:nope' = '1%' }",
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: pyproject.toml:2: cpu_share takes *nope*"])


def test_what_applies_is_listed_under_xdist_too(budgeted):
    """`--streamperf-budgets` works with `-n`, although xdist collects tests only in its workers."""
    result = budgeted("def test_it(): pass", "-n", "2", "--streamperf-budgets", settings=SETTINGS)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["test_it.py::test_it", "  max_superlinear *"])


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("background_fetch=False, block_network='yes'", "block_network must be true or false, *"),
        ("background_fetch=False, allow_hosts=['a:1']", "allow_hosts takes names, *"),
        ("cpu_share={'nowhere:it': '1%'}", "cpu_share takes *No module named 'nowhere'"),
        (
            "cpu_share={'test_it:wait': '1%'}",
            "cpu_share takes *'test_it:wait' does it *",
        ),
    ],
)
def test_what_cannot_be_had_is_told_with_the_line_of_its_marker(budgeted, marker, message):
    """An invalid value in a marker is exactly one error, with the marker's line.

    Other plugins complete their setup first, so their teardown does not fail too.
    """
    tests = f"async def wait(): pass\n@budget({marker})\ndef test_it(): pass"
    result = budgeted(tests, expect={"errors": 1})
    result.stdout.fnmatch_lines([f"BudgetError: marker, test_it.py:14: {message}"])
