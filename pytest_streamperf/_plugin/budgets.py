"""Find the budget of each test, and enforce it: the pytest side of `pytest_streamperf.budgets`.

`budget_of` merges the project's settings and the markers of a test. `Budgeting` has the hooks that
enforce a budget, `run_twice` splits a test whose budgets disturb each other, and `Listing` prints
the budgets instead of running tests. An invalid marker fails its own test, and the others run.

The plugin loads this module only in runs that have a budget, a guard, or timed tests on xdist.
"""

import inspect
import unittest
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from pytest_streamperf._plugin.recorder import POLICY, Record, settings_line, unplaced
from pytest_streamperf.budgets import declaration
from pytest_streamperf.budgets.enforcement import Held, Part
from pytest_streamperf.exceptions import BudgetError

__tracebackhide__ = True  # pytest shows the user's own frames

_BUDGET = pytest.StashKey[declaration.Budget]()
_MARKER_ERROR = pytest.StashKey[BudgetError]()
_GUARD = ("allow_hosts", "block_network")
# The name of the test parameter that shows which of the two runs of a test this is.
RUN = "streamperf_run"
# The text in a listing for a test with `rerun`, by its run; None if the test cannot run twice.
_RUN_DESCRIPTIONS = {
    "watched": "in this run without peak_memory",
    "memory": "in this run peak_memory alone",
    None: "without peak_memory, for want of a second run: rerun is for functions",
}


def budget_of(item: pytest.Item) -> declaration.Budget:
    """Return the budget of a test: from the project's settings and default, a profile, and markers.

    Raises `BudgetError`, with the line, for an invalid marker.
    """
    if _BUDGET not in item.stash:
        item.stash[_BUDGET] = declaration.budget_of(_layers(item))
    return item.stash[_BUDGET]


def guard_settings(item: pytest.Item) -> dict[str, Any]:
    """Return the settings for the fetch guard in the markers of a test; none if one is invalid."""
    settings: dict[str, Any] = {}
    if _MARKER_ERROR in item.stash:
        return settings
    for _, marker in _markers(item):
        settings |= {key: value for key, value in marker.kwargs.items() if key in _GUARD}
    return settings


def _markers(item: pytest.Item) -> list[tuple[Any, pytest.Mark]]:
    """Return the markers of a test with their nodes, farthest first.

    The sort is stable, so the marker of a function stays before those of its parameters.
    """
    markers = item.iter_markers_with_node("streamperf")
    return sorted(markers, key=lambda node_and_marker: len(node_and_marker[0].listchain()))


def _layers(item: pytest.Item) -> Iterator[declaration.Layer]:
    policy = item.config.stash.get(POLICY, None)
    declared = policy.budgets if policy is not None else {}
    markers = _markers(item)
    if policy is not None and policy.defaults is not None:
        yield policy.defaults
    if "" in declared:
        yield declared[""]
    profiles = [
        (node, mark.kwargs["profile"]) for node, mark in markers if "profile" in mark.kwargs
    ]
    if profiles:
        node, name = profiles[-1]
        names = sorted(filter(None, declared))
        if name not in names:
            choices = f"there are {', '.join(names)}" if names else "pyproject.toml declares none"
            msg = f"{_place(node)}: there is no profile {name!r}; {choices}"
            raise BudgetError(msg)
        yield declared[name]
    for node, mark in markers:
        place = _place(node)
        if mark.args:
            msg = f"{place}: the streamperf marker takes keywords only, not {mark.args[0]!r}"
            raise BudgetError(msg)
        own = {key: value for key, value in mark.kwargs.items() if key not in (*_GUARD, "profile")}
        # A marker on a module or a class may apply to only some of its tests.
        yield declaration.layer_of(own, partial(_marker_origin, place), required=node is item)


def _marker_origin(place: str, _key: str) -> str:
    return f"marker, {place}"


def _place(node: Any) -> str:
    file = node.nodeid.partition("::")[0]
    line = node.reportinfo()[1] if hasattr(node, "reportinfo") else None
    return file if line is None else f"{file}:{line + 1}"


def run_twice(metafunc: pytest.Metafunc) -> None:
    """Parametrize a test to run twice, if its budget needs a second run for `peak_memory`."""
    try:
        budget = budget_of(metafunc.definition)
    except BudgetError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    if budget.rerun:
        metafunc.fixturenames.append(RUN)
        metafunc.parametrize(RUN, ["watched", "memory"], indirect=True)


def check(items: Iterable[pytest.Item]) -> None:
    """Find the tests with an invalid marker: these fail at setup, and the others run."""
    for item in items:
        try:
            budget, error_text = budget_of(item), ""
            declaration.check_network(**guard_settings(item))
        except BudgetError as error:
            budget, error_text = declaration.Budget(), str(error)
        except (TypeError, ValueError) as error:
            budget, error_text = declaration.Budget(), f"marker, {_place(item)}: {error}"
        if budget.rerun and not _run_of(item) and budget.limits["peak_memory"].required:
            error_text = f"{_place(item)}: rerun is for functions, not a parameter or a TestCase"
        if error_text:
            item.stash[_MARKER_ERROR] = BudgetError(error_text)
            item.stash[_BUDGET] = declaration.Budget()


class Budgeting:
    """The hooks of a run in which a test may have a budget."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._unplaced: BaseException | None = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        self._unplaced = item.stash.get(_MARKER_ERROR, None)
        # Before the fixtures, because they may create streams and counters.
        self._record.held = None
        try:
            self._record.held = _held(item)
        except BudgetError as error:
            self._unplaced = error
        result = yield  # other plugins expect a complete setup at teardown
        if self._unplaced:
            raise self._unplaced
        return result

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        held = self._record.held
        if held is None:
            return (yield)
        try:
            with _watching(item, held):
                result = yield
        except (Exception, pytest.fail.Exception):
            held.report()
            raise
        if getattr(item, "_excinfo", None):  # a failure of a unittest.TestCase
            held.report()
        else:
            try:
                held.conclude()
            except AssertionError as failure:
                self._unplaced = failure
                raise
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if call.excinfo is not None and call.excinfo.value is self._unplaced:
            unplaced(report, call.excinfo.value)
        if call.when == "teardown" and self._record.held is not None:
            self._record.held.close()
            self._record.held = None
        return report


def _held(item: pytest.Item) -> Held | None:
    """Return the enforcement for this run of a test, or None without a budget.

    Raises `BudgetError` if `cpu_share` names a function that does not exist.
    """
    budget = budget_of(item)
    if not budget.limits and not budget.mode:
        return None
    part: Part = "watched" if budget.rerun else "all"
    try:
        return Held(budget, _run_of(item) or part)
    except ValueError as error:
        place = budget.limits["cpu_share"].origin
        raise BudgetError(f"{place}: {error}") from None


def _run_of(item: pytest.Item) -> Any:
    return item.callspec.params.get(RUN) if hasattr(item, "callspec") else None


@contextmanager
def _watching(item: Any, held: Held) -> Iterator[None]:
    """Observe a test: an async test from inside, where its event loop runs."""
    test = getattr(item, "obj", None)
    given = getattr(test, "hypothesis", None)
    example = getattr(given, "inner_test", None)
    if given and inspect.iscoroutinefunction(example):
        given.inner_test = held.around_each(example)
        try:
            with held:
                yield
        finally:
            given.inner_test = example
        return
    if not inspect.iscoroutinefunction(test):
        with held:
            yield
        return
    if isinstance(item.instance, unittest.TestCase):  # unittest looks its method up by name
        vars(item.instance)[item.name] = held.around(test)
        try:
            yield
        finally:
            del vars(item.instance)[item.name]
        return
    item.obj = held.around(test)
    try:
        yield
    finally:
        item.obj = test


class Listing:
    """Prints the budget of each test instead of running the tests."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        terminal = session.config.get_terminal_writer()
        marked = (item for item in session.items if _MARKER_ERROR in item.stash)
        errors = [str(item.stash[_MARKER_ERROR]) for item in marked]
        for item in session.items:
            try:
                _held(item)
            except BudgetError as error:
                errors.append(str(error))
        if errors:
            raise pytest.UsageError("\n".join(dict.fromkeys(errors)))
        if settings := settings_line(session.config):
            terminal.line(settings)
        for item in session.items:
            terminal.line()
            terminal.line(item.nodeid)
            budget = budget_of(item)
            runs = [_RUN_DESCRIPTIONS[_run_of(item)]] if budget.rerun else []
            for line in [*budget.lines(), *runs] or ["no budget"]:
                terminal.line(f"  {line}")
        return True
