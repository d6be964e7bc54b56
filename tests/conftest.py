"""What the whole suite shares."""

from functools import partial

import pytest
from hypothesis import settings

pytest_plugins = ["pytester"]

# The same examples in every run, and no limit of time on them: a suite that is red is red for all.
settings.register_profile("suite", derandomize=True, database=None, deadline=None, max_examples=60)
settings.load_profile("suite")


@pytest.fixture
def run_alone(pytester, monkeypatch):
    """Runs pytest in a process of its own, with this plugin and those that are named.

    All that are installed take two seconds to load.
    """
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return partial(pytester.runpytest_subprocess, "-p", "no:cacheprovider", "-p", "streamperf")
