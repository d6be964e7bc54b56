"""Check a gate: the condition that turns a background fetch off under test.

`assert_fetch_is_gated` runs code in fresh interpreters, one for each row of a matrix of
environments. The code must fetch in production and be silent under test. `assert_same_requests`
compares the requests of two versions of code. `assert_order_independent` runs two sequences of
calls in every order, and compares the outcomes.

The rule: a fresh interpreter reaches nothing. Its attempts are blocked, or answered by a stub
server on this machine.
"""

import asyncio
import copy
import inspect
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pytest_streamperf._results.conclusion import conclude
from pytest_streamperf._results.metrics import Figures
from pytest_streamperf._results.text import fit_line, labelled_lines, table_lines
from pytest_streamperf._results.units import Seconds, argument, seconds_of
from pytest_streamperf._results.verdict import Outcome, Verdict
from pytest_streamperf.exceptions import NetworkExceeded, NetworkInconclusive
from pytest_streamperf.network.attempts import Attempt
from pytest_streamperf.network.stub_server import Answers, Request, Stub

__tracebackhide__ = True  # pytest shows the user's own frames

Does = Literal["FETCHES", "SILENT"]

# Time for a fresh interpreter to start and to run the subject, without `settle`. Not measured.
_START_SECONDS = 60.0
# Prefixes of variables that tell code that it runs under test or in CI. Only rows set them.
_TEST_VARIABLES = (
    "PYTEST_",
    "CI",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "STREAMPERF_",
    "TOX_ENV",
    "COV_CORE_",
)


class Row(NamedTuple):
    """One environment: what the code is expected to do, its variables, and its loaded modules."""

    expects: Does
    env: Mapping[str, str] = {}
    modules: Sequence[str] = ()


ROWS: Mapping[str, Row] = {
    "production": Row("FETCHES"),
    "CI": Row("FETCHES", {"CI": "true"}),
    "collection": Row("SILENT", {"PYTEST_VERSION": "8.0.0"}, ("pytest",)),
    "call": Row(
        "SILENT",
        {"PYTEST_VERSION": "8.0.0", "PYTEST_CURRENT_TEST": "test_it.py::test_it (call)"},
        ("pytest",),
    ),
}
"""Production, production in CI, and under test: while tests are collected, and while one runs."""


@dataclass(frozen=True, slots=True)
class GateRun:
    """The result of a run in one row: its attempts, its requests to the stub, and its error."""

    attempts: Sequence[Attempt] = ()
    requests: Sequence[Request] = ()
    error: str = ""

    @property
    def does(self) -> Does:
        """Return "FETCHES" if the run made an attempt or a request, otherwise "SILENT"."""
        return "FETCHES" if self.attempts or self.requests else "SILENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult(Verdict):
    """The result of `assert_fetch_is_gated`: the run in each row."""

    runs: Mapping[str, GateRun] = field(default_factory=dict)


def assert_fetch_is_gated(
    subject: str | Callable[[], Any],
    *,
    rows: Mapping[str, Row] | None = None,
    mode: Literal["block", "stub"] = "block",
    answers: Answers | None = None,
    settle: Seconds = 2.0,
) -> GateResult:
    """Fail unless `subject` fetches in production and is silent under test.

    `subject` is a snippet, a function of a module, or its name as `"module:function"`; an async
    function is awaited. It runs in a fresh interpreter for each row of `ROWS` and `rows`; a row in
    `rows` replaces the one of the same name. In mode "block" each attempt is refused. In mode
    "stub" each connection goes to a server on this machine, which gives `answers`: a mapping by
    "host/path", or a function of the request. The check waits for the threads and tasks of the
    subject for at most `settle`, in seconds or as a text such as "500ms".

    Raises `NetworkExceeded` if a row is not as expected. Raises `NetworkInconclusive` if the
    subject raises, or fetches in no row, because then the gate is not proven. Raises `ValueError`
    for bad arguments.

    >>> assert_fetch_is_gated("import package_that_phones_home")
    """
    if mode not in {"block", "stub"}:
        msg = f"mode must be 'block' or 'stub', not {mode!r}"
        raise ValueError(msg)
    seconds = argument("settle", seconds_of, settle)
    plan = {**ROWS, **(rows or {})}
    for name, row in plan.items():
        if row.expects not in {"FETCHES", "SILENT"}:
            msg = f"row {name!r} must expect 'FETCHES' or 'SILENT', not {row.expects!r}"
            raise ValueError(msg)
    code = _code(subject)
    runs = {
        name: _run(code, row, mode=mode, answers=answers, settle=seconds)
        for name, row in plan.items()
    }
    proof = _verdict_on_runs(plan, runs)
    conclude(proof, NetworkExceeded, NetworkInconclusive, stacklevel=2)
    return proof


def assert_same_requests(
    before: str | Callable[[], Any],
    after: str | Callable[[], Any],
    *,
    answers: Answers | None = None,
    settle: Seconds = 2.0,
) -> Sequence[Request]:
    """Fail unless two versions of code make the same requests in production; return the requests.

    Requests are the same if method, host, path and body are equal, in any order. A stub server
    gives `answers`, as in `assert_fetch_is_gated`. The check waits for threads and tasks for at
    most `settle`, in seconds or as a text such as "500ms".

    Raises `NetworkExceeded` if the requests differ. Raises `NetworkInconclusive` if a version
    raises, or if no request is made.

    >>> assert_same_requests("import package_1_0", "import package_1_1")
    """
    seconds = argument("settle", seconds_of, settle)
    production = ROWS["production"]
    old, new = (
        _run(_code(version), production, mode="stub", answers=answers, settle=seconds)
        for version in (before, after)
    )
    lost, added = _difference(old.requests, new.requests), _difference(new.requests, old.requests)
    raised = "; ".join(
        f"{name} raised {run.error}" for name, run in (("before", old), ("after", new)) if run.error
    )
    outcome: Outcome = "within"
    headline = f"{len(old.requests)} requests before and after, all the same"
    entries: dict[str, str] = {}
    if lost or added:
        outcome = "exceeded"
        headline = f"requests: {len(lost)} are missing, {len(added)} are new, limit 0"
        entries = {"lost": "; ".join(map(str, lost)), "new": "; ".join(map(str, added))}
    elif raised or not old.requests:
        outcome = "inconclusive"
        headline = "no request was made, before or after: there is nothing to compare"
        entries = {"why": raised}
    details = labelled_lines(entries)
    verdict = Verdict(
        stem="network",
        verdict=outcome,
        headline=fit_line(headline),
        details=("", *details) if details else (),
    )
    conclude(verdict, NetworkExceeded, NetworkInconclusive, stacklevel=2)
    return new.requests


def _difference(requests: Sequence[Request], subtracted: Sequence[Request]) -> list[Request]:
    return [*(Counter(requests) - Counter(subtracted)).elements()]


def _code(subject: str | Callable[[], Any]) -> dict[str, str]:
    """Return values by which another interpreter finds the subject: a snippet, or a function."""
    if isinstance(subject, str):
        is_name = re.fullmatch(r"[^\W\d][\w.]*:[^\W\d][\w.]*", subject)
        return {"function": subject} if is_name else {"snippet": subject}
    module, name = getattr(subject, "__module__", ""), getattr(subject, "__qualname__", "")
    if not name or "<" in name or module in {"", "__main__"}:
        msg = (
            f"{subject!r} cannot be found by another interpreter: "
            "assert_fetch_is_gated takes a function of a "
            "module, its name as 'module:function', or a snippet"
        )
        raise ValueError(msg)
    return {"function": f"{module}:{name}", "file": inspect.getsourcefile(subject) or ""}


def _run(
    code: Mapping[str, str],
    row: Row,
    *,
    mode: str,
    answers: Answers | None,
    settle: float,
) -> GateRun:
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(_TEST_VARIABLES)
    }
    with ExitStack() as stack:
        stub = stack.enter_context(Stub(answers)) if mode == "stub" else None
        if stub is not None:
            env |= stub.env
        order = {
            **code,
            "path": sys.path,
            "modules": row.modules,
            "settle": settle,
            "stub": stub.port if stub is not None else None,
        }
        child = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-c", _BOOT, str(Path(__file__).parents[2])],
            env=env | dict(row.env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            output, errors = child.communicate(json.dumps(order), timeout=_START_SECONDS + settle)
        except BaseException:
            child.kill()
            child.communicate()
            raise
        requests = tuple(stub.requests) if stub is not None else ()
    try:
        result = json.loads(output.splitlines()[-1])
    except (ValueError, IndexError):
        last_error = (errors.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
        return GateRun(requests=requests, error=last_error)
    return GateRun(tuple(map(Attempt.of, result["attempts"])), requests, result["error"])


# The interpreter starts as in production, without a plugin: it imports this package by its folder.
_BOOT = """
import sys
sys.path.insert(0, sys.argv.pop())
import pytest_streamperf.network.gate_child
"""


def _verdict_on_runs(plan: Mapping[str, Row], runs: Mapping[str, GateRun]) -> GateResult:
    wrong = [name for name, row in plan.items() if runs[name].does != row.expects]
    errors = {name: run.error for name, run in runs.items() if run.error}
    never_fetches = all(run.does == "SILENT" for run in runs.values())
    verdict: Outcome = "within"
    entries: dict[str, str] = {}
    headline = f"as expected in {len(plan)} environments"
    if errors and (never_fetches or wrong):
        verdict, (name, error) = "inconclusive", next(iter(errors.items()))
        headline = f"the subject raised in {len(errors)} of {len(plan)} environments"
        entries = {"why": f"{name}: {error}", "try": "make it run there, or pass answers="}
    elif never_fetches:
        verdict, headline = (
            "inconclusive",
            f"no fetch in any of {len(plan)} environments, so nothing is proven",
        )
        entries = {
            "means": "the gate is always closed, or the code never fetches",
            "try": "make the code fetch in the row production",
        }
    elif wrong:
        verdict = "exceeded"
        leaks = [name for name in wrong if runs[name].does == "FETCHES"]
        fault = "it fetches under test" if leaks else "it is silent in production"
        headline = f"the gate is wrong in {len(wrong)} of {len(plan)} environments: {fault}"
        entries = _remedy(leaks, runs)
    cells = [(key, row.expects, runs[key].does, _targets(runs[key])) for key, row in plan.items()]
    rows = [
        fit_line(line.rstrip())
        for line in table_lines(("environment", "expected", "does", "target"), cells)
    ]
    return GateResult(
        stem="network",
        verdict=verdict,
        headline=fit_line(headline),
        details=("", *rows, "", *labelled_lines(entries)) if verdict != "within" else (),
        figures=Figures(given={"environments": len(plan)}, counts={"wrong": len(wrong)}),
        picture=tuple(rows),
        runs=runs,
    )


def _remedy(leaks: Sequence[str], runs: Mapping[str, GateRun]) -> dict[str, str]:
    if not leaks:
        return {
            "means": "production never makes the fetch that it needs",
            "try": "test for a variable that is set under test only: PYTEST_VERSION",
        }
    attempts = runs[leaks[0]].attempts
    line = next((attempt.line for attempt in attempts if attempt.line is not None), None)
    return {
        "where": f"{line.where}: {line.source}" if line is not None else "",
        "means": "the fetch races with every test that starts it",
        "try": "test for PYTEST_VERSION: PYTEST_CURRENT_TEST is not set during collection",
    }


def _targets(run: GateRun) -> str:
    targets = [*map(str, run.requests), *(attempt.target for attempt in run.attempts)]
    unique = list(dict.fromkeys(targets))
    return ", ".join(unique[:2]) + (f" and {len(unique) - 2} more" if len(unique) > 2 else "")  # noqa: PLR2004


# -- the order of a background result and of calls in the foreground


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderResult(Verdict):
    """The result of `assert_order_independent`: the outcome of each order."""

    outcomes: Mapping[str, Any] = field(default_factory=dict)


Step = Callable[[Any], Any]
# A limit that keeps a check short: two sequences of six steps have 924 orders. Not measured.
_MAX_ORDERS = 1_000


def assert_order_independent(
    first: Step | Sequence[Step],
    second: Step | Sequence[Step],
    *,
    make: Callable[[], Any],
    outcome: Callable[[Any], Any] = lambda subject: subject,
) -> OrderResult:
    """Fail unless two sequences of calls give the same outcome in every order.

    Each step of `first` and `second` takes the subject; an async step is awaited. For example,
    `first` applies the result of a background task, and `second` holds the calls of the foreground.
    `make` creates a new subject for every order. `outcome` returns the value to compare.

    Raises `NetworkExceeded` if the outcomes differ, and `ValueError` for more than 1,000 orders.

    >>> assert_order_independent(
    ...     lambda manager: manager.apply(fetched),
    ...     [lambda manager: manager.add("a"), lambda manager: manager.add("b")],
    ...     make=ModelManager,
    ...     outcome=lambda manager: manager.models(),
    ... )
    """
    steps = [[part] if callable(part) else list(part) for part in (first, second)]
    count = comb(len(steps[0]) + len(steps[1]), len(steps[0]))
    if count > _MAX_ORDERS:
        msg = f"{count:,} orders are more than {_MAX_ORDERS:,}: take fewer steps"
        raise ValueError(msg)
    outcomes = {
        " ".join(name for name, _ in order): _outcome(order, make, outcome)
        for order in _orders(*steps)
    }
    different: list[Any] = []
    for result in outcomes.values():
        if result not in different:
            different.append(result)
    proof = OrderResult(
        stem="network",
        verdict="exceeded" if len(different) > 1 else "within",
        headline=f"{len(different)} outcomes of {len(outcomes)} orders, limit 1",
        details=_order_details(outcomes, different) if len(different) > 1 else (),
        outcomes=outcomes,
    )
    conclude(proof, NetworkExceeded, NetworkInconclusive, stacklevel=2)
    return proof


def _orders(first: Sequence[Step], second: Sequence[Step]) -> Iterator[list[tuple[str, Step]]]:
    """Yield each order of the steps, with their names: "F1" is the first step of `first`."""
    total = len(first) + len(second)
    for places in combinations(range(total), len(first)):
        rows = {True: iter(enumerate(first, 1)), False: iter(enumerate(second, 1))}
        order = []
        for place in range(total):
            number, step = next(rows[place in places])
            order.append((f"{'F' if place in places else 'S'}{number}", step))
        yield order


def _outcome(
    order: Sequence[tuple[str, Step]], make: Callable[[], Any], outcome: Callable[[Any], Any]
) -> Any:
    async def run() -> Any:
        subject = make()
        for _, step in order:
            returned = step(subject)
            if inspect.isawaitable(returned):
                await returned
        result = outcome(subject)
        return await result if inspect.isawaitable(result) else result

    return copy.deepcopy(asyncio.run(run()))


def _order_details(outcomes: Mapping[str, Any], different: Sequence[Any]) -> Sequence[str]:
    lines = [
        fit_line(
            f"  {next(order for order, other in outcomes.items() if other == result)}: {result!r}"
        )
        for result in different[:3]
    ]
    return (
        "",
        *lines,
        "",
        *labelled_lines(
            {
                "means": "the last call wins: F is the first sequence, S the second",
                "try": "merge results by their content, not by their time of arrival",
            }
        ),
    )
