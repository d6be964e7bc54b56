"""Budgets of tests; loaded where a project or a marker declares one."""

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
_WRONG = pytest.StashKey[BudgetError]()
_GUARD = ("allow_hosts", "block_network")
# As a parameter of the test: by this name it shows which of its two runs one is.
RUN = "streamperf_run"
# By which of its runs a test is, of one whose budgets want two: None where it has one only.
_SAID_OF_RUNS = {
    "watched": "in this run without peak_memory",
    "memory": "in this run peak_memory alone",
    None: "without peak_memory, for want of a second run: rerun is for functions",
}


def budget_of(item: pytest.Item) -> declaration.Budget:
    """What applies to a test: the project's settings and default, a profile, and its markers.

    Raises `BudgetError` for a marker that is wrong, with its line.
    """
    if _BUDGET not in item.stash:
        item.stash[_BUDGET] = declaration.budget_of(_layers(item))
    return item.stash[_BUDGET]


def guard_settings(item: pytest.Item) -> dict[str, Any]:
    """What the markers of a test say of its guard, beside its budget."""
    settings: dict[str, Any] = {}
    if _WRONG in item.stash:
        return settings
    for _, marker in _markers(item):
        settings |= {key: value for key, value in marker.kwargs.items() if key in _GUARD}
    return settings


def _markers(item: pytest.Item) -> list[tuple[Any, pytest.Mark]]:
    """Markers, and on what: the farthest first, those of a function before its parameters'."""
    found = item.iter_markers_with_node("streamperf")
    return sorted(found, key=lambda each: len(each[0].listchain()))


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
        known = sorted(filter(None, declared))
        if name not in known:
            there = f"there are {', '.join(known)}" if known else "pyproject.toml declares none"
            msg = f"{_place(node)}: there is no profile {name!r}; {there}"
            raise BudgetError(msg)
        yield declared[name]
    for node, mark in markers:
        place = _place(node)
        if mark.args:
            msg = f"{place}: the streamperf marker takes keywords only, not {mark.args[0]!r}"
            raise BudgetError(msg)
        own = {key: value for key, value in mark.kwargs.items() if key not in (*_GUARD, "profile")}
        # A marker on a module or a class may be about some of its tests.
        yield declaration.layer_of(own, partial(_of_marker, place), must=node is item)


def _of_marker(place: str, _key: str) -> str:
    return f"marker, {place}"


def _place(node: Any) -> str:
    file = node.nodeid.partition("::")[0]
    line = node.reportinfo()[1] if hasattr(node, "reportinfo") else None
    return file if line is None else f"{file}:{line + 1}"


def run_twice(metafunc: pytest.Metafunc) -> None:
    """Make two tests of one whose budgets disturb each other, where that is declared."""
    try:
        budget = budget_of(metafunc.definition)
    except BudgetError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    if budget.rerun:
        metafunc.fixturenames.append(RUN)
        metafunc.parametrize(RUN, ["watched", "memory"], indirect=True)


def check(items: Iterable[pytest.Item]) -> None:
    """Note which tests have a marker that is wrong: they fail, and the others run."""
    for item in items:
        try:
            budget, wrong = budget_of(item), ""
            declaration.check_network(**guard_settings(item))
        except BudgetError as error:
            budget, wrong = declaration.Budget(), str(error)
        except (TypeError, ValueError) as error:
            budget, wrong = declaration.Budget(), f"marker, {_place(item)}: {error}"
        if budget.rerun and not _run_of(item) and budget.limits["peak_memory"].must:
            wrong = f"{_place(item)}: rerun is for functions, not a parameter or a TestCase"
        if wrong:
            item.stash[_WRONG], item.stash[_BUDGET] = BudgetError(wrong), declaration.Budget()


class Budgeting:
    """The hooks of a run in which a test may have a budget."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._unplaced: BaseException | None = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        self._unplaced = item.stash.get(_WRONG, None)
        # From here on: streams and counters may be made by fixtures.
        self._record.held = None
        try:
            self._record.held = _held(item)
        except BudgetError as error:
            self._unplaced = error
        result = yield  # what others set up they expect to find at the end
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
        if getattr(item, "_excinfo", None):  # unittest's
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
    """What a test is held to, in this run of it; `BudgetError` for a function that is none."""
    budget = budget_of(item)
    if not budget.limits and not budget.mode:
        return None
    once: Part = "watched" if budget.rerun else "all"
    try:
        return Held(budget, _run_of(item) or once)
    except ValueError as error:
        place = budget.limits["cpu_share"].origin
        raise BudgetError(f"{place}: {error}") from None


def _run_of(item: pytest.Item) -> Any:
    return item.callspec.params.get(RUN) if hasattr(item, "callspec") else None


@contextmanager
def _watching(item: Any, held: Held) -> Iterator[None]:
    """Enter it where it sees the event loop: in the test, if that is async."""
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
    if isinstance(item.instance, unittest.TestCase):  # which calls its own, by name
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
    """Prints what applies to which test, instead of running them."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        terminal = session.config.get_terminal_writer()
        wrong = [str(item.stash[_WRONG]) for item in session.items if _WRONG in item.stash]
        for item in session.items:
            try:
                _held(item)
            except BudgetError as error:
                wrong.append(str(error))
        if wrong:
            raise pytest.UsageError("\n".join(dict.fromkeys(wrong)))
        if said := settings_line(session.config):
            terminal.line(said)
        for item in session.items:
            terminal.line()
            terminal.line(item.nodeid)
            budget = budget_of(item)
            runs = [_SAID_OF_RUNS[_run_of(item)]] if budget.rerun else []
            for line in [*budget.lines(), *runs] or ["no budget"]:
                terminal.line(f"  {line}")
        return True
