"""Settings and budgets of a project: reading, merging, and the errors for wrong values.

A budget is a limit for whole tests. A layer holds the budgets of one place, such as a profile in
`pyproject.toml` or a marker. `budget_of` merges the layers of a test, farthest first.
"""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf import (
    FlushCounter,
    NothingMeasured,
    ResponsivenessExceeded,
    StallWatch,
    UpdateCounter,
)
from pytest_streamperf._results.policy import Policy
from pytest_streamperf.budgets.declaration import budget_of, layer_of, line_of, read_policy
from pytest_streamperf.exceptions import BudgetError


def read_project(tmp_path, text):
    """Return the policy that `read_policy` reads from a `pyproject.toml` with this text."""
    file = tmp_path / "pyproject.toml"
    file.write_text(text, encoding="utf-8")
    return read_policy(file)


def test_every_setting_is_read(tmp_path):
    """`read_policy` reads every setting of `[tool.streamperf]`."""
    text = """
    [tool.streamperf]
    up_to = 5_000
    max_superlinear = 0.4
    copies = "warn"
    inconclusive = "warn"
    mode = "warn"
    """
    assert read_project(tmp_path, text) == Policy(
        growth={"copies": "warn", "max_superlinear": 0.4, "up_to": 5_000},
        inconclusive="warn",
        mode="warn",
    )


@pytest.mark.parametrize(
    ("setting", "budget"),
    [
        ("max_superlinear = 0.2", "max_superlinear = '25%'"),
        ("up_to = 100", "up_to = 200"),
        ("background_fetch = false", "background_fetch = true"),
    ],
)
def test_a_limit_that_is_said_twice_is_the_same(tmp_path, setting, budget):
    """A setting and a budget that contradict each other are an error that names both lines."""
    text = f"[tool.streamperf]\n{setting}\n[tool.streamperf.budgets]\n{{}}"
    assert read_project(tmp_path, text.format("max_gap = '1s'"))
    with pytest.raises(
        BudgetError, match=r"toml:4: .* contradicts pyproject\.toml:2, .*say it once"
    ):
        read_project(tmp_path, text.format(budget))


@pytest.mark.parametrize("text", ["", "[tool.other]", "[tool.streamperf]", "tool = {}"])
def test_no_setting_is_every_default(tmp_path, text):
    """A project without settings gets the default policy."""
    assert read_project(tmp_path, text) == Policy()


@pytest.mark.parametrize(
    ("text", "message_part"),
    [
        ("upto = 5", r"no setting 'upto'; it has allow_hosts, background_fetch, "),
        ("background_fetch = 0", r"background_fetch must be true or false, not 0"),
        ('block_network = "yes"', r"block_network must be true or false, not 'yes'"),
        ('allow_hosts = ["a:1"]', r"allow_hosts takes names, addresses and networks"),
        ("up_to = 5", r"up_to must be at least 64"),
        ('up_to = "5"', r"up_to must be a whole number"),
        ("max_superlinear = 2", r"max_superlinear must be greater than 0 and at most 1"),
        ("max_superlinear = nan", r"max_superlinear must be greater than 0 and at most 1"),
        ('copies = "no"', r"copies must be 'fail' or 'warn', not 'no'"),
        ("inconclusive = true", r"inconclusive must be 'fail' or 'warn', not True"),
        ('mode = "off"', r"mode must be 'fail' or 'warn', not 'off'"),
        ("mode = []", r"mode must be 'fail' or 'warn', not \[\]"),
        ("mode = ", "Invalid value"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message_part):
    """The error for a wrong setting names the file, the key, the value, and the allowed values."""
    with pytest.raises(BudgetError, match=rf"^pyproject\.toml(:2)?: .*{message_part}"):
        read_project(tmp_path, f"[tool.streamperf]\n{text}")


def test_settings_are_a_table(tmp_path):
    """A `streamperf` entry that is not a table is an error."""
    with pytest.raises(BudgetError, match="streamperf must be a table, not 5"):
        read_project(tmp_path, "[tool]\nstreamperf = 5")


def test_tools_are_a_table(tmp_path):
    """A `tool` entry that is not a table is an error."""
    with pytest.raises(BudgetError, match="tool must be a table, not 5"):
        read_project(tmp_path, "tool = 5")


# -- budgets


def origin_of(_key):
    """Return "here" as the origin of every key."""
    return "here"


def layer_with(**declared):
    """Return the layer of a place that declares these budgets, with the origin "here"."""
    return layer_of(declared, origin_of)


BUDGETS = """
[tool.streamperf.budgets]
max_superlinear = "30%"
up_to = 5_000
updates_every = "100ms"
flushes_per_second = "10/s"
max_gap = "200ms"
max_gc_pause = 0.02
background_fetch = false
cpu_share = {"json:loads" = "20%"}

[tool.streamperf.budgets.chat-ui]
max_gap = "100ms"
max_stall = "50ms"

[tool.streamperf.budgets.batch]
peak_memory = "64MiB"
rerun = true
tighter = true
"""


def test_every_budget_is_read(tmp_path):
    """Budgets are read in seconds, bytes and shares, the default budget under the name ""."""
    layers = read_project(tmp_path, BUDGETS).budgets
    assert list(layers) == ["", "chat-ui", "batch"]
    assert layers[""].values == {
        "max_superlinear": 0.3,
        "up_to": 5_000,
        "updates_every": 0.1,
        "flushes_per_second": 10.0,
        "max_gap": 0.2,
        "max_gc_pause": 0.02,
        "background_fetch": False,
        "cpu_share": {"json:loads": 0.2},
    }
    assert layers["chat-ui"].values == {"max_gap": 0.1, "max_stall": 0.05}
    assert (layers["batch"].rerun, layers["batch"].tighter) == (True, True)


def test_each_budget_knows_its_line(tmp_path):
    """A budget records its file, its line, and the profile that it belongs to."""
    layers = read_project(tmp_path, BUDGETS).budgets
    assert layers[""].origins["max_gap"] == "pyproject.toml:7"
    assert layers["chat-ui"].origins["max_gap"] == "pyproject.toml:13 (chat-ui)"


@pytest.mark.parametrize(
    ("text", "message_part"),
    [
        ("max_gaps = 1", r":2: there is no budget 'max_gaps'; there are max_superlinear, up_to, "),
        ('updates_every = "0ms"', r":2: updates_every must be more than 0 seconds, not '0ms'"),
        (f"peak_memory = {10**400}", r":2: peak_memory must be a number of bytes"),
        ('max_gap = "1 parsec"', r":2: max_gap must be a time, as .*, not '1 parsec'"),
        ("max_superlinear = 3", r":2: max_superlinear must be a share, as '25%' or 0.25, not 3"),
        ("up_to = 3", r":2: up_to must be at least 64, not 3"),
        ('up_to = "many"', r":2: up_to must be a whole number of deltas, not 'many'"),
        ('peak_memory = "much"', r":2: peak_memory must be a number of bytes, or as '64MiB'"),
        ("background_fetch = 0", r":2: background_fetch must be true or false, not 0"),
        ('cpu_share = "20%"', r":2: cpu_share must be a table, as "),
        ('cpu_share = {json = "20%"}', r":2: cpu_share must be a table, as "),
        ('cpu_share = {"json:loads" = "2"}', r":2: cpu_share must be a share"),
        ('mode = "off"', r":2: mode must be 'fail' or 'warn', not 'off'"),
        ("tighter = true", r":2: tighter is for profiles and markers only"),
        ("[tool.streamperf.budgets.ui]\nmax_gap = []", r":3 \(ui\): max_gap must be a time"),
        (
            'max_stall = 1\npeak_memory = "1MB"',
            (
                r":3: peak_memory cannot be measured together with max_stall \(pyproject.toml:2\), "
                r".* rerun = true measures it in a run of its own"
            ),
        ),
        (
            "max_gap = 1\n[tool.streamperf.budgets.ui]\npeak_memory = 1",
            r":4 \(ui\): peak_memory cannot be measured together with max_gap",
        ),
    ],
)
def test_a_wrong_budget_is_named_with_its_line(tmp_path, text, message_part):
    """The error for a wrong budget names its file, line and profile, and the allowed values."""
    with pytest.raises(BudgetError, match=rf"^pyproject\.toml{message_part}"):
        read_project(tmp_path, f"[tool.streamperf.budgets]\n{text}")


@pytest.mark.parametrize(
    "text",
    ["budgets = {max_gap = []}", "budgets.max_gap = []", "budgets = {ui = {max_gap = []}}"],
)
def test_a_budget_in_one_line_is_named_with_it(tmp_path, text):
    """The error for a budget in an inline table or with a dotted key names its line."""
    with pytest.raises(BudgetError, match=r"^pyproject\.toml:3( \(ui\))?: max_gap must be"):
        read_project(tmp_path, f"[tool.streamperf]\nmode = 'warn'\n{text}")


def test_budgets_are_a_table(tmp_path):
    """A `budgets` entry that is not a table is an error that names its line."""
    with pytest.raises(BudgetError, match=r"pyproject.toml:2: .*budgets must be a table, not 5"):
        read_project(tmp_path, "[tool.streamperf]\nbudgets = 5")


def test_the_nearest_wins():
    """The nearest layer that declares a key wins."""
    budget = budget_of([layer_with(max_gap=1, max_stall=1), layer_with(max_gap=2)])
    assert {key: limit.value for key, limit in budget.limits.items()} == {
        "max_gap": 2,
        "max_stall": 1,
    }


@pytest.mark.parametrize(
    ("key", "loose", "tight"),
    [
        ("max_superlinear", "30%", "20%"),
        ("up_to", 1_000, 2_000),
        ("updates_every", "50ms", "100ms"),
        ("flushes_per_second", "20/s", "10/s"),
        ("max_gap", "2s", "1s"),
        ("max_stall", 2, 1),
        ("max_gc_pause", 2, 1),
        ("peak_memory", "1MiB", "1MB"),
        ("background_fetch", True, False),
        ("cpu_share", {"a:b": "20%"}, {"a:b": "10%"}),
    ],
)
def test_the_tightest_wins_where_that_is_said(key, loose, tight):
    """If either layer says `tighter`, the tighter of two limits wins, whichever layer is nearer."""
    tightest = budget_of([layer_with(**{key: tight})]).value(key)
    for far_value, near_value in ((loose, tight), (tight, loose)):
        for flags in ([True, False], [False, True]):
            layers = [
                layer_with(**{key: value}, tighter=tighter)
                for value, tighter in zip((far_value, near_value), flags, strict=True)
            ]
            assert budget_of(layers).value(key) == tightest


def test_tighter_shares_are_of_all_functions():
    """If a layer says `tighter`, each function keeps the tighter of its limits on CPU share."""
    far_shares, near_shares = {"a:b": "20%", "c:d": "10%"}, {"a:b": "10%", "e:f": "5%"}
    budget = budget_of(
        [layer_with(cpu_share=far_shares), layer_with(cpu_share=near_shares, tighter=True)]
    )
    assert budget.value("cpu_share") == {"a:b": 0.1, "c:d": 0.1, "e:f": 0.05}


def test_what_is_not_tighter_stays_where_it_was():
    """A limit keeps its origin if a nearer layer that says `tighter` declares a looser value."""
    near_layer = layer_of({"max_gap": 3, "tighter": True}, lambda _: "there")
    assert budget_of([layer_with(max_gap=2), near_layer]).limits["max_gap"].origin == "here"


def test_what_a_marker_asks_for_has_to_be_measured_even_if_another_is_tighter():
    """A budget of a marker must be measured, even if the tighter limit comes from the default.

    Otherwise a default would excuse a test that has nothing to measure.
    """
    marker = layer_of({"max_gap": 2, "tighter": True}, lambda _: "marker", required=True)
    assert budget_of([layer_with(max_gap=1), marker]).limits["max_gap"] == (1, "here", True)


def test_memory_is_measured_in_a_run_of_its_own():
    """A test runs twice only if `rerun` is set and tracing memory would disturb another limit."""
    assert budget_of([layer_with(max_stall=1, peak_memory=1, rerun=True)]).rerun
    assert not budget_of([layer_with(peak_memory=1, rerun=True)]).rerun
    assert not budget_of([layer_with(max_stall=1, rerun=True)]).rerun


def test_the_nearest_says_whether_a_test_runs_twice():
    """A near layer can turn `rerun` off; memory and stalls together are an error then."""
    project = layer_with(max_stall=1, peak_memory=1, rerun=True)
    with pytest.raises(BudgetError, match="peak_memory cannot be measured together with"):
        budget_of([project, layer_with(rerun=False)])


def test_what_applies_is_said_in_columns():
    """`Budget.lines` returns the key, the limit and the origin of each limit, in columns."""
    lines = budget_of(
        [layer_with(max_gap="200ms", max_superlinear="25%", background_fetch=False)]
    ).lines()
    assert lines == [
        "max_superlinear   25% superlinear  here",
        "max_gap           200 ms           here",
        "background_fetch  none             here",
    ]


@pytest.mark.parametrize("name", ['"chat.ui"', "'chat.ui'", '"chat.ui" '])
def test_a_line_is_found_in_a_table_whose_name_is_quoted(name):
    """`line_of` finds a key in a table whose quoted name has a dot."""
    text = f"[tool.streamperf . budgets.{name}]\nmax_gap = 1"
    assert line_of(text, ["tool", "streamperf", "budgets", "chat.ui"], "max_gap") == 2


@given(
    st.dictionaries(st.sampled_from(["max_gap", "max_stall", "updates_every"]), st.integers(1, 9)),
    st.lists(st.sampled_from(["", "# max_gap = 1", "[other]", "max_gap = 7", "[[many]]"])),
)
def test_lines_are_found_whatever_is_around(declared, noise):
    """`line_of` finds a key below other tables, comments and keys of the same name."""
    text = "\n".join(
        [*noise, "[tool.streamperf.budgets]", *(f"{k} = {v}" for k, v in declared.items())]
    )
    lines = text.splitlines()
    for key, value in declared.items():
        number = line_of(text, ["tool", "streamperf", "budgets"], key)
        assert lines[number - 1] == f"{key} = {value}"


def call_check(key, value):
    """Call the check that takes the budget `key` as an argument, with this value."""
    if key == "updates_every":
        UpdateCounter().assert_throttled(every=value)
    elif key == "flushes_per_second":
        FlushCounter().assert_coalesced(per_second=value)
    else:
        with StallWatch() as watch:
            pass
        watch.assert_smooth(**{key: value})


@pytest.mark.parametrize(
    "key",
    [
        "updates_every",
        "flushes_per_second",
        "max_gap",
        "max_stall",
        "max_gc_pause",
        "peak_memory",
        "cpu_share",
    ],
)
@pytest.mark.parametrize(
    "value",
    [
        *(0, 0.5, 1, 20, -1, float("inf"), True),
        *("soon", "0ms", "50ms", "1min", "10/s", "0.5/s", "64MiB", "0B", "25%", "0%", "101%"),
    ],
)
def test_a_budget_and_a_call_accept_the_same(key, value):
    """A budget and the argument of its check accept the same values, and refuse the same."""
    value = {"json:loads": value} if key == "cpu_share" else value
    try:
        layer_with(**{key: value})
    except BudgetError:
        with pytest.raises((ValueError, TypeError), match="must be"):
            call_check(key, value)
    else:
        with suppress(NothingMeasured, ResponsivenessExceeded):  # the value was accepted
            call_check(key, value)
