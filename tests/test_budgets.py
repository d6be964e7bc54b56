"""What a project declares: read whole, or refused with the name of what is wrong."""

import pytest

from pytest_streamperf.budgets import read_policy
from pytest_streamperf.verdict import BudgetError, Policy


def read(tmp_path, text):
    """Read a `pyproject.toml` with this text."""
    file = tmp_path / "pyproject.toml"
    file.write_text(text, encoding="utf-8")
    return read_policy(file)


def test_every_setting_is_read(tmp_path):
    """All there are."""
    text = """
    [tool.streamperf]
    up_to = 5_000
    limit = 0.4
    copies = "warn"
    unproven = "warn"
    mode = "warn"
    """
    assert read(tmp_path, text) == Policy(
        growth={"copies": "warn", "limit": 0.4, "up_to": 5_000}, unproven="warn", mode="warn"
    )


@pytest.mark.parametrize("text", ["", "[tool.other]", "[tool.streamperf]", "tool = {}"])
def test_no_setting_is_every_default(tmp_path, text):
    """A project may say nothing."""
    assert read(tmp_path, text) == Policy()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("upto = 5", r"no setting 'upto'; it has allow_hosts, background_fetch, "),
        ("background_fetch = 0", r"background_fetch must be true or false, not 0"),
        ('block_network = "yes"', r"block_network must be true or false, not 'yes'"),
        ('allow_hosts = ["a:1"]', r"allow_hosts takes names, addresses and networks"),
        ("up_to = 5", r"up_to must be at least 64"),
        ('up_to = "5"', r"up_to must be a whole number"),
        ("limit = 2", r"limit must be greater than 0 and at most 1"),
        ("limit = nan", r"limit must be greater than 0 and at most 1"),
        ('copies = "no"', r"copies must be 'fail' or 'warn', not 'no'"),
        ("unproven = true", r"unproven must be 'fail' or 'warn', not True"),
        ('mode = "off"', r"mode must be 'fail' or 'warn', not 'off'"),
        ("mode = []", r"mode must be 'fail' or 'warn', not \[\]"),
        ("mode = ", "Invalid value"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, says):
    """The file, the key, what it is, and what is allowed."""
    with pytest.raises(BudgetError, match=rf"^pyproject\.toml(:2)?: .*{says}"):
        read(tmp_path, f"[tool.streamperf]\n{text}")


def test_settings_are_a_table(tmp_path):
    """Anything else is refused."""
    with pytest.raises(BudgetError, match="streamperf must be a table, not 5"):
        read(tmp_path, "[tool]\nstreamperf = 5")


def test_tools_are_a_table(tmp_path):
    """Anything else is refused."""
    with pytest.raises(BudgetError, match="tool must be a table, not 5"):
        read(tmp_path, "tool = 5")
