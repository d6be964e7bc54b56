"""Keep timed tests on one worker under xdist's `--dist loadgroup`: two would compete for cores.

A test is timed if it uses a fixture or a budget that measures time. All timed tests join one xdist
group, unless a test has a group of its own.
"""

import pytest

from pytest_streamperf._plugin.budgets import budget_of, check

GROUP = "streamperf"
_TIMED_FIXTURES = {"assert_linear", "stall_watch"}
_TIMED_BUDGETS = {"max_superlinear", "max_gap", "max_stall", "max_gc_pause", "cpu_share"}


class Grouping:
    """The hook that puts timed tests into one xdist group, unless they have a group."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        check(items)
        for item in items:
            if item.get_closest_marker("xdist_group") is None and _is_timed(item):
                item.add_marker(pytest.mark.xdist_group(GROUP))


def _is_timed(item: pytest.Item) -> bool:
    fixtures = getattr(item, "fixturenames", ())
    limits = budget_of(item).limits
    own = _TIMED_BUDGETS & {key for key, limit in limits.items() if limit.required}
    return bool(own or not _TIMED_FIXTURES.isdisjoint(fixtures))


def without_group(test: str) -> str:
    """Return the id of a test without the group that xdist appends to it.

    >>> without_group("test_it.py::test_one[a@b]@streamperf")
    'test_it.py::test_one[a@b]'
    """
    at = test.rfind("@")
    return test[:at] if at > max(test.rfind("]"), test.rfind("::")) else test
