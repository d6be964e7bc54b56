"""Whether a gate is right: silent under test, alive in production; and whether order matters.

A gate is code that asks "am I in a test?" before it fetches. It is held to that in fresh
interpreters, one for each row of a matrix of environments.
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

# Seconds that a fresh interpreter may take to start, beside what it is given to settle.
_START = 60.0
# What says to code that it is under test, or in CI: it is there in those rows only that have it.
_TELLING = ("PYTEST_", "CI", "GITHUB_ACTIONS", "GITLAB_CI", "STREAMPERF_", "TOX_ENV", "COV_CORE_")


class Row(NamedTuple):
    """One environment: its variables, the modules that are loaded already, and what is expected."""

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
"""Production, also where CI runs it; and under test: while tests are collected, while one runs."""


@dataclass(frozen=True, slots=True)
class Run:
    """What code did in one row: whom it tried to reach, what it asked of the stub, its error."""

    attempts: Sequence[Attempt] = ()
    requests: Sequence[Request] = ()
    error: str = ""

    @property
    def does(self) -> Does:
        """In a word."""
        return "FETCHES" if self.attempts or self.requests else "SILENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult(Verdict):
    """What `assert_fetch_is_gated` found: what was done in each row."""

    runs: Mapping[str, Run] = field(default_factory=dict)


def assert_fetch_is_gated(
    subject: str | Callable[[], Any],
    *,
    rows: Mapping[str, Row] | None = None,
    mode: Literal["block", "stub"] = "block",
    answers: Answers | None = None,
    settle: Seconds = 2.0,
) -> GateResult:
    """Fail unless `subject` fetches in production and is silent under test.

    `subject` is a snippet, a function of a module, or its name as `"module:function"`; async ones
    are awaited. It runs in a fresh interpreter for each of `rows` (and of `ROWS`, unless a row of
    that name is given), where everything it tries to reach is refused, or with `mode="stub"` is a
    server on this machine, which gives `answers`: by "host/path", or a function of the request.
    Threads and tasks that it leaves are waited for, `settle` at most: seconds, or a text such as
    "500ms".

    Raises `NetworkExceeded` where a row is not as expected, `NetworkInconclusive` where the subject
    raises, or fetches in no row: then the proof is void. `ValueError` for bad arguments.

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
    proof = _judged(plan, runs)
    conclude(proof, NetworkExceeded, NetworkInconclusive, stacklevel=2)
    return proof


def assert_same_requests(
    before: str | Callable[[], Any],
    after: str | Callable[[], Any],
    *,
    answers: Answers | None = None,
    settle: Seconds = 2.0,
) -> Sequence[Request]:
    """Fail unless two versions of code ask for the same in production; return what they ask.

    The same method, host, path and body, as often, in any order, of a stub that gives `answers`.
    Threads and tasks that are left are waited for, `settle` at most: seconds, or as "500ms".

    Raises `NetworkExceeded` if they do not, `NetworkInconclusive` if one raises or nothing is
    asked.

    >>> assert_same_requests("import package_1_0", "import package_1_1")
    """
    seconds = argument("settle", seconds_of, settle)
    production = ROWS["production"]
    old, new = (
        _run(_code(each), production, mode="stub", answers=answers, settle=seconds)
        for each in (before, after)
    )
    lost, found = _difference(old.requests, new.requests), _difference(new.requests, old.requests)
    raised = "; ".join(
        f"{name} raised {run.error}" for name, run in (("before", old), ("after", new)) if run.error
    )
    outcome: Outcome = "within"
    headline = f"{len(old.requests)} requests before and after, all the same"
    entries: dict[str, str] = {}
    if lost or found:
        outcome = "exceeded"
        headline = f"{len(lost)} requests are made no more, {len(found)} are new, limit 0"
        entries = {"lost": "; ".join(map(str, lost)), "new": "; ".join(map(str, found))}
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


def _difference(some: Sequence[Request], others: Sequence[Request]) -> list[Request]:
    return [*(Counter(some) - Counter(others)).elements()]


def _code(subject: str | Callable[[], Any]) -> dict[str, str]:
    """How another interpreter finds the subject."""
    if isinstance(subject, str):
        named = re.fullmatch(r"[^\W\d][\w.]*:[^\W\d][\w.]*", subject)
        return {"function": subject} if named else {"snippet": subject}
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
) -> Run:
    env = {name: value for name, value in os.environ.items() if not name.startswith(_TELLING)}
    with ExitStack() as stack:
        stub = stack.enter_context(Stub(answers)) if mode == "stub" else None
        if stub is not None:
            env |= stub.env
        asked = {
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
            said, complained = child.communicate(json.dumps(asked), timeout=_START + settle)
        except BaseException:
            child.kill()
            child.communicate()
            raise
        requests = tuple(stub.requests) if stub is not None else ()
    try:
        found = json.loads(said.splitlines()[-1])
    except (ValueError, IndexError):
        last = (complained.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
        return Run(requests=requests, error=last)
    return Run(tuple(map(Attempt.of, found["attempts"])), requests, found["error"])


# The interpreter is to be as fresh as in production: what it needs is loaded from where we are.
_BOOT = """
import sys
sys.path.insert(0, sys.argv.pop())
import pytest_streamperf.network.gate_child
"""


def _judged(plan: Mapping[str, Row], runs: Mapping[str, Run]) -> GateResult:
    wrong = [name for name, row in plan.items() if runs[name].does != row.expects]
    errors = {name: run.error for name, run in runs.items() if run.error}
    void = all(run.does == "SILENT" for run in runs.values())
    verdict: Outcome = "within"
    entries: dict[str, str] = {}
    headline = f"as expected in {len(plan)} environments"
    if errors and (void or wrong):
        verdict, (name, error) = "inconclusive", next(iter(errors.items()))
        headline = f"the subject raised in {len(errors)} of {len(plan)} environments"
        entries = {"why": f"{name}: {error}", "try": "make it run there; in a stub, with answers="}
    elif void:
        verdict, headline = (
            "inconclusive",
            f"no fetch in any of {len(plan)} environments: a void proof",
        )
        entries = {"means": "it is gated always, or fetches nothing", "try": "see production fetch"}
    elif wrong:
        verdict = "exceeded"
        leaks = [name for name in wrong if runs[name].does == "FETCHES"]
        says = "it fetches under test" if leaks else "it is silent in production"
        headline = f"the gate is wrong in {len(wrong)} of {len(plan)} environments: {says}"
        entries = _remedy(leaks, runs)
    shown = [(key, row.expects, runs[key].does, _targets(runs[key])) for key, row in plan.items()]
    rows = [
        fit_line(row.rstrip()) for row in table_lines(("in", "expected", "does", "where to"), shown)
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


def _remedy(leaks: Sequence[str], runs: Mapping[str, Run]) -> dict[str, str]:
    if not leaks:
        return {
            "means": "production never fetches what it is made to fetch",
            "try": "ask for what is there under test only: PYTEST_VERSION",
        }
    line = next((each.line for each in runs[leaks[0]].attempts if each.line is not None), None)
    return {
        "where": f"{line.where}: {line.source}" if line is not None else "",
        "means": "it races with every test that makes one",
        "try": "ask for PYTEST_VERSION: PYTEST_CURRENT_TEST is not set while tests are collected",
    }


def _targets(run: Run) -> str:
    unique = list(dict.fromkeys([*map(str, run.requests), *(each.target for each in run.attempts)]))
    return ", ".join(unique[:2]) + (f" and {len(unique) - 2} more" if len(unique) > 2 else "")  # noqa: PLR2004


# -- the seed's race


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderResult(Verdict):
    """What `assert_order_independent` found: the outcome of each order."""

    outcomes: Mapping[str, Any] = field(default_factory=dict)


Step = Callable[[Any], Any]
_MOST_ORDERS = 1_000


def assert_order_independent(
    first: Step | Sequence[Step],
    second: Step | Sequence[Step],
    *,
    make: Callable[[], Any],
    outcome: Callable[[Any], Any] = lambda subject: subject,
) -> OrderResult:
    """Fail unless two sequences of calls come to the same, however they interleave.

    `first` is what a background task does with its result, say, and `second` what the foreground
    calls meanwhile: each takes the subject that `make` makes anew for every order, and async ones
    are awaited. `outcome` is what is compared.

    Raises `NetworkExceeded` if outcomes differ, `ValueError` for more than a thousand orders.

    >>> assert_order_independent(
    ...     lambda manager: manager.apply(fetched),
    ...     [lambda manager: manager.add("a"), lambda manager: manager.add("b")],
    ...     make=ModelManager,
    ...     outcome=lambda manager: manager.models(),
    ... )
    """
    steps = [[each] if callable(each) else list(each) for each in (first, second)]
    count = comb(len(steps[0]) + len(steps[1]), len(steps[0]))
    if count > _MOST_ORDERS:
        msg = f"{count:,} orders are more than {_MOST_ORDERS:,}: take fewer steps"
        raise ValueError(msg)
    outcomes = {
        " ".join(name for name, _ in order): _outcome(order, make, outcome)
        for order in _orders(*steps)
    }
    different: list[Any] = []
    for each in outcomes.values():
        if each not in different:
            different.append(each)
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
    """All ways to interleave, each step with its name: "F1" is the first of the first."""
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
            done = step(subject)
            if inspect.isawaitable(done):
                await done
        found = outcome(subject)
        return await found if inspect.isawaitable(found) else found

    return copy.deepcopy(asyncio.run(run()))


def _order_details(outcomes: Mapping[str, Any], different: Sequence[Any]) -> Sequence[str]:
    lines = [
        fit_line(f"  {next(name for name, found in outcomes.items() if found == each)}: {each!r}")
        for each in different[:3]
    ]
    return (
        "",
        *lines,
        "",
        *labelled_lines(
            {
                "means": "whichever is done last wins: F is the first sequence, S the second",
                "try": "merge by what things are, not by when they come",
            }
        ),
    )
