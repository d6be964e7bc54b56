"""Record every attempt of a block or a test to reach a network, and fail if one is not allowed.

The audit hook and the kernel layer write attempts to a journal. `Network` reads the journal and
assigns each attempt to its origin: the test, or the guard, that caused it. `FetchGuard` is the
public guard of one block. `verdict_on_attempts` turns the attempts of one origin into a verdict.

The rules: only kinds that reach a network count. An allowed attempt never fails a guard. Without
attempts, the verdict is inconclusive if native code is loaded that Python cannot observe.

>>> from pytest_streamperf import FetchGuard
>>> with FetchGuard() as guard:
...     text = "".join(["no", "network"])
>>> guard.attempts
[]
"""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

from pytest_streamperf._results.conclusion import conclude
from pytest_streamperf._results.metrics import Figures, Place, thinned
from pytest_streamperf._results.text import labelled_lines
from pytest_streamperf._results.verdict import Outcome, Verdict
from pytest_streamperf.exceptions import BlockedFetch, NetworkExceeded, NetworkInconclusive
from pytest_streamperf.network import message, origins
from pytest_streamperf.network.attempts import (
    COUNT,
    SESSION,
    STARTUP,
    Allowed,
    Attempt,
    allowed_hosts,
    is_allowed,
    nested_origin,
    of_origin,
    outer_origins,
)
from pytest_streamperf.network.attribution import KernelAttempt, Mark, Threads
from pytest_streamperf.network.audit_hook import Watch
from pytest_streamperf.network.journal import Journal
from pytest_streamperf.network.native_libraries import networking_libraries

__all__ = [
    "SESSION",
    "STARTUP",
    "Attempt",
    "BlockedFetch",
    "FetchGuard",
    "Network",
    "NetworkResult",
]

__tracebackhide__ = True  # pytest shows the user's own frames

# A message has at most 16 lines, and a longer list of names adds nothing to act on. Not measured.
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkResult(Verdict):
    """A verdict on network access, with the `attempts` that count and are not allowed, in order."""

    attempts: Sequence[Attempt]


class Rule(NamedTuple):
    """The hosts that one origin may reach.

    The guard records an attempt to reach any other host; with `block` it refuses the attempt too.
    """

    allowed: Allowed = Allowed()
    block: bool = False


class Network:
    """Every network attempt that this process and its forked children make while it is open.

    At most one network is open in a process. `Network.opened()` returns that one, or opens one.
    """

    _open: "list[Network]" = []  # noqa: RUF012 - all instances share it on purpose

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._opener = 0 if journal.is_shared else os.getpid()
        self._own_entries: deque[dict[str, Any]] = deque()
        self.is_exact: Callable[[], bool] = lambda: False
        self._rules: dict[str, Rule] = {}
        self._watch = Watch(journal, self._decide)
        self._watching = ExitStack()
        self._recorded: list[Attempt] = []
        self._unreported: list[Attempt] = []
        self.libraries_elsewhere: set[str] = set()
        self._threads = Threads()
        self._guarded: set[str] = set()
        self._announced: set[str] = set()
        self._reported: set[tuple[int, int, float]] = set()

    @classmethod
    @contextmanager
    def opened(cls, path: str | None = None) -> "Iterator[Network]":
        """Yield the open network; if none is open, open one with a journal at `path`."""
        if cls._open:
            yield cls._open[-1]
            return
        with Journal(path) as journal:
            network = cls(journal)
            cls._open.append(network)
            try:
                yield network
            finally:
                cls._open.remove(network)
                network._watching.close()

    def guard(self, origin: str, rule: Rule) -> None:
        """Apply a rule to this origin. The first call starts the recording of attempts."""
        if not self._rules:
            self._watching.enter_context(self._watch.watching())
        self._rules[origin] = rule
        if origin in {STARTUP, SESSION}:  # an attempt of unknown origin gets one of these
            self._announce_guarded(origin)

    def attempts(self, origin: str) -> list[Attempt]:
        """Return the attempts of an origin, so far, that count and are not allowed."""
        self._read()
        return [attempt for attempt in of_origin(self._recorded, origin) if _is_violation(attempt)]

    def unreported(self) -> dict[str, list[Attempt]]:
        """Return the attempts that no verdict has reported yet, by guarded origin.

        They come from all processes that write to the journal. An attempt belongs to the outermost
        guarded origin that contains it.
        """
        self._read()
        by_origin: dict[str, list[Attempt]] = {}
        for attempt in self._unreported:
            guarded = [outer for outer in outer_origins(attempt.origin) if outer in self._guarded]
            if guarded:
                by_origin.setdefault(guarded[-1], []).append(attempt)
        return by_origin

    def mark_reported(self, attempts: Iterable[Attempt]) -> None:
        """Mark attempts as reported, for all processes that read the journal."""
        keys = [_attempt_key(attempt) for attempt in attempts]
        if keys:
            self.journal.write({"told": keys})

    def note_libraries(self) -> None:
        """Report the networking libraries of this process to the process that started it."""
        self.journal.write({"libraries": networking_libraries()})

    def mark_origins(self) -> None:
        """Record from which time each thread works for which origin.

        An attempt that only the kernel observes carries a thread number and no origin. These marks
        give it one.
        """

        def record_mark(since: float, process: int, thread: int, origin: str) -> None:
            self._announce_guarded(origin)
            self._send({"mark": Mark(since, process, thread, origin)})

        origins.origin_listeners.append(record_mark)
        self._watching.callback(origins.origin_listeners.remove, record_mark)

    def _read(self) -> None:
        new: list[Attempt] = []
        kernel: list[KernelAttempt] = []
        for entry in self._new_entries():
            if "attempt" in entry:
                new.append(Attempt.of(entry["attempt"]))
                self._threads.tried(new[-1])
            if "kernel" in entry:
                ancestors = [(process, start) for process, start in entry["ancestors"]]
                kernel.append(KernelAttempt(Attempt.of(entry["kernel"]), ancestors))
            if "mark" in entry:
                self._threads.marked(Mark(*entry["mark"]))
            self.libraries_elsewhere.update(entry.get("libraries", ()))
            self._reported.update(map(tuple, entry.get("told", ())))
            self._guarded.update(entry.get("guarded", ()))
        new += [
            replace(seen_by_kernel.attempt, origin=self._threads.origin_of(seen_by_kernel))
            for seen_by_kernel in kernel
            if not self._threads.has_python_attempt(seen_by_kernel)
        ]
        self._recorded += new
        violations = [attempt for attempt in new if _is_violation(attempt)]
        self._unreported = [
            attempt
            for attempt in self._unreported + violations
            if _attempt_key(attempt) not in self._reported
        ]

    def _announce_guarded(self, *candidates: str) -> None:
        """Announce guarded origins once, before other processes read an attempt of theirs."""
        news = [
            origin
            for origin in candidates
            if origin in self._rules and origin not in self._announced
        ]
        if news:
            self._announced.update(news)
            self._send({"guarded": news})

    def _send(self, entry: dict[str, Any]) -> None:
        """Send an entry to the process that concludes.

        The process that opened an unshared journal concludes itself: it keeps the entry in memory.
        """
        if os.getpid() == self._opener:
            self._own_entries.append(entry)
        else:
            self.journal.write(entry)

    def _new_entries(self) -> Iterator[dict[str, Any]]:
        while self._own_entries:
            yield self._own_entries.popleft()
        yield from self.journal.read()

    def _decide(self, watch: Watch, attempt: Attempt) -> tuple[bool, bool]:
        """Return whether an attempt is allowed, and whether to refuse it."""
        self._announce_guarded(*outer_origins(attempt.origin))
        with_rule = (outer for outer in outer_origins(attempt.origin) if outer in self._rules)
        origin = next(with_rule, "")
        rule = self._rules.get(origin) or self._rules.get(SESSION) or Rule()
        allowed = is_allowed(attempt, rule.allowed, watch.listening())
        return allowed, rule.block and not allowed


def _is_violation(attempt: Attempt) -> bool:
    return attempt.kind in COUNT and not attempt.allowed


def _attempt_key(attempt: Attempt) -> tuple[int, int, float]:
    return attempt.process, attempt.thread, attempt.time


# Numbers the guards of a process: a guard may stand within another one of the same test.
_guard_numbers = itertools.count(1)


class FetchGuard:
    """Context manager that fails if code started in its block tries to reach a network.

    `allow_hosts` lists names (with all hosts below them), addresses and networks that the code may
    reach, beside this machine itself. With `block=True` the guard refuses all other attempts, as a
    closed port does.

    Leaving the block raises `NetworkExceeded` for an attempt that is not allowed. It raises
    `NetworkInconclusive` if native code is loaded that can connect without Python's knowledge.
    A fetch that starts in the block and connects after it needs pytest: the fixture
    `no_background_fetch` reports it.

    >>> with FetchGuard(allow_hosts=["example.org"]):
    ...     manager = ModelManager()
    """

    def __init__(self, *, allow_hosts: Iterable[str] = (), block: bool = False) -> None:
        self._rule = Rule(allowed_hosts(allow_hosts), block)
        self._stack = ExitStack()
        self._network: Network | None = None
        self._attempts: list[Attempt] = []
        self._origin = ""

    @classmethod
    def of(cls, network: Network, origin: str) -> Self:
        """Return the guard of an origin that `network` guards already: a test, under pytest."""
        guard = cls()
        guard._network, guard._origin = network, origin
        return guard

    @property
    def attempts(self) -> list[Attempt]:
        """Return the attempts, so far, that count and are not allowed."""
        if self._network is not None:
            self._attempts = self._network.attempts(self._origin)
        return self._attempts

    def __enter__(self) -> Self:
        if self._origin:
            msg = "a FetchGuard guards once: make another"
            raise RuntimeError(msg)
        with ExitStack() as stack:
            self._network = stack.enter_context(Network.opened())
            self._origin = nested_origin(origins.origin_here(), f"guard {next(_guard_numbers)}")
            self._network.guard(self._origin, self._rule)
            stack.enter_context(origins.origin(self._origin))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        attempts, exact = self.attempts, False
        if self._network is not None:
            self._network.mark_reported(attempts)
            exact = self._network.is_exact()
        self._network = None
        self._stack.close()
        if kind is None:  # an exception of the block takes precedence
            result = verdict_on_attempts(attempts, exact=exact)
            conclude(result, NetworkExceeded, NetworkInconclusive, stacklevel=2)


def verdict_on_attempts(
    attempts: Sequence[Attempt],
    *,
    exact: bool = False,
    why: str = "",
    elsewhere: Iterable[str] = (),
) -> NetworkResult:
    """Return the verdict on attempts that count and are not allowed.

    An attempt with a known target gives "exceeded". Unknown targets alone give "inconclusive",
    because they may have been on this machine. Without attempts the verdict is "within", unless
    native code is loaded that could have connected unobserved.

    `exact` says that the kernel layer was active, which observes native code too. `why` gives the
    reason if the settings asked for that layer and it is missing. `elsewhere` lists networking
    libraries that are loaded in worker processes.
    """
    if any(attempt.host or attempt.address for attempt in attempts):
        attempts = sorted(attempts, key=lambda attempt: not (attempt.host or attempt.address))
        headline, details = message.headline(attempts), message.details(attempts)
        return _network_result("exceeded", headline, details, attempts)
    if attempts:
        headline, details = message.headline_unknown(attempts), message.details_unknown(attempts)
        return _network_result("inconclusive", headline, details, attempts)
    unobserved = [] if exact else sorted({*networking_libraries(), *elsewhere})
    if unobserved:
        entries = {
            "why": f"{_first_names(unobserved)}: native code that Python cannot observe",
            "but": f"there is no exact layer: {why}" if why else "",
            "try": "" if why else "exact_network = true in [tool.streamperf], on Linux",
        }
        headline = "native code that may reach the network is loaded"
        return _network_result("inconclusive", headline, ("", *labelled_lines(entries)), ())
    return _network_result("within", message.headline(()), (), ())


def _first_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def gone() -> NetworkResult:
    """Return the inconclusive verdict for a run whose kernel helper process has ended."""
    entries = {
        "why": "its helper process has ended, and the kernel has refused every attempt since",
        "try": "find what ended it: a test that kills its process group, or too little memory",
    }
    headline = "the exact layer has ended, so later attempts are unknown"
    return _network_result("inconclusive", headline, ("", *labelled_lines(entries)), ())


def _network_result(
    verdict: Outcome, headline: str, details: Sequence[str], attempts: Sequence[Attempt]
) -> NetworkResult:
    return NetworkResult(
        stem="network",
        verdict=verdict,
        headline=headline,
        details=details,
        figures=Figures(counts={"attempts": len(attempts)}),
        where=[
            Place(attempt.line.where, attempt.line.source)
            for attempt in attempts[:_MOST_NAMED]
            if attempt.line
        ],
        series={"attempts": [message.row(attempt) for attempt in thinned(attempts)]},
        attempts=attempts,
    )
