"""What the whole suite shares."""

from functools import partial

import pytest
from hypothesis import settings

from pytest_streamperf.wire import WireError

pytest_plugins = ["pytester"]

# One needs a browser, the other all kinds of plugins: `make test-browser test-neighbours`.
collect_ignore = ["browser", "neighbours"]

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


@pytest.fixture
def assert_refused():
    """Says that a dialect's decoder refuses an event, and where, and keeps the Hi before it.

    `number` is how many events say Hi.
    """

    def check(decoder, hi, wrong, said, *, number):
        with pytest.raises(WireError) as raised:
            decoder.feed(hi + wrong + hi)
        assert str(raised.value).startswith(said)
        assert raised.value.decoded == ["Hi"]
        assert (raised.value.offset, raised.value.number) == (len(hi), number)

    return check
