"""Who phones out? Every attempt to reach the network, with who made it and who started that.

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
    of_origin,
    outer_origins,
    within,
)
from pytest_streamperf.network.attribution import Mark, Seen, Threads
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

_MOST_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkResult(Verdict):
    """What was seen: `attempts` that count and are not allowed, in order."""

    attempts: Sequence[Attempt]


class Rule(NamedTuple):
    """What one origin may do: whom it may reach, and whether the rest is refused or only seen."""

    allowed: Allowed = Allowed()
    block: bool = False


class Network:
    """All that this process, and those forked from it, try to reach while it is open.

    One is open at a time: `Network.opened()` gives it, or opens one.
    """

    _open: "list[Network]" = []  # noqa: RUF012 - of the class, on purpose

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._opener = 0 if journal.is_shared else os.getpid()
        self._notes: deque[dict[str, Any]] = deque()
        self.is_exact: Callable[[], bool] = lambda: False
        self._rules: dict[str, Rule] = {}
        self._watch = Watch(journal, self._judge)
        self._watching = ExitStack()
        self._seen: list[Attempt] = []
        self._untold: list[Attempt] = []
        self.libraries_elsewhere: set[str] = set()
        self._threads = Threads()
        self._guarded: set[str] = set()
        self._said: set[str] = set()
        self._told: set[tuple[int, int, float]] = set()

    @classmethod
    @contextmanager
    def opened(cls, path: str | None = None) -> "Iterator[Network]":
        """Give the one that is open, or open one, with a journal at `path`."""
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
        """Hold what this origin starts to a rule; nothing is seen before the first is."""
        if not self._rules:
            self._watching.enter_context(self._watch.watching())
        self._rules[origin] = rule
        if origin in {STARTUP, SESSION}:  # whoever has no other origin has these
            self._say_if_guarded(origin)

    def attempts(self, origin: str) -> list[Attempt]:
        """Those of an origin that count and are not allowed, so far."""
        self._read()
        return [each for each in of_origin(self._seen, origin) if _counts(each)]

    def untold(self) -> dict[str, list[Attempt]]:
        """Those of guarded origins, in all processes, that nobody has been told of, by origin."""
        self._read()
        found: dict[str, list[Attempt]] = {}
        for each in self._untold:
            guarded = [outer for outer in outer_origins(each.origin) if outer in self._guarded]
            if guarded:
                found.setdefault(guarded[-1], []).append(each)
        return found

    def tell(self, attempts: Iterable[Attempt]) -> None:
        """Note that somebody has been told of these."""
        told = [_key(each) for each in attempts]
        if told:
            self.journal.write({"told": told})

    def note_libraries(self) -> None:
        """Let whoever this process works for know what is loaded here."""
        self.journal.write({"libraries": networking_libraries()})

    def mark_origins(self) -> None:
        """Write down whose each thread is from when on: what only the kernel sees has no other."""

        def tell(since: float, process: int, thread: int, origin: str) -> None:
            self._say_if_guarded(origin)
            self._note({"mark": Mark(since, process, thread, origin)})

        origins.told.append(tell)
        self._watching.callback(origins.told.remove, tell)

    def _read(self) -> None:
        new: list[Attempt] = []
        kernel: list[Seen] = []
        for entry in self._news():
            if "attempt" in entry:
                new.append(Attempt.of(entry["attempt"]))
                self._threads.tried(new[-1])
            if "kernel" in entry:
                ancestors = [(process, start) for process, start in entry["ancestors"]]
                kernel.append(Seen(Attempt.of(entry["kernel"]), ancestors))
            if "mark" in entry:
                self._threads.marked(Mark(*entry["mark"]))
            self.libraries_elsewhere.update(entry.get("libraries", ()))
            self._told.update(map(tuple, entry.get("told", ())))
            self._guarded.update(entry.get("guarded", ()))
        new += [
            replace(each.attempt, origin=self._threads.origin_of(each))
            for each in kernel
            if not self._threads.knew(each)
        ]
        self._seen += new
        counting = [each for each in new if _counts(each)]
        self._untold = [each for each in self._untold + counting if _key(each) not in self._told]

    def _say_if_guarded(self, *origins_: str) -> None:
        """Let other processes know, before they read of what such an origin does."""
        news = [each for each in origins_ if each in self._rules and each not in self._said]
        if news:
            self._said.update(news)
            self._note({"guarded": news})

    def _note(self, entry: dict[str, Any]) -> None:
        """Let whoever concludes know: this process itself needs no journal for that, if it does."""
        if os.getpid() == self._opener:
            self._notes.append(entry)
        else:
            self.journal.write(entry)

    def _news(self) -> Iterator[dict[str, Any]]:
        while self._notes:
            yield self._notes.popleft()
        yield from self.journal.read()

    def _judge(self, watch: Watch, attempt: Attempt) -> tuple[bool, bool]:
        self._say_if_guarded(*outer_origins(attempt.origin))
        origin = next((each for each in outer_origins(attempt.origin) if each in self._rules), "")
        rule = self._rules.get(origin) or self._rules.get(SESSION) or Rule()
        allowed = is_allowed(attempt, rule.allowed, watch.listening())
        return allowed, rule.block and not allowed


def _counts(attempt: Attempt) -> bool:
    return attempt.kind in COUNT and not attempt.allowed


def _key(attempt: Attempt) -> tuple[int, int, float]:
    return attempt.process, attempt.thread, attempt.time


_numbers = itertools.count(1)


class FetchGuard:
    """Sees whatever is started inside and reaches for the network: no background fetch goes unseen.

    `allow_hosts` are names (and all hosts below them), addresses and networks that may be reached,
    beside this machine itself; with `block=True` the rest is refused, as by a closed port.

    Leaving the block raises `NetworkExceeded` for an attempt that is not allowed, and
    `NetworkInconclusive` where native code is loaded that could go unseen. What is started inside
    and fetches later is seen under pytest, by the fixture `no_background_fetch`.

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
        """The guard of an origin that is guarded already: a test's, under pytest."""
        guard = cls()
        guard._network, guard._origin = network, origin
        return guard

    @property
    def attempts(self) -> list[Attempt]:
        """Those that count and are not allowed, so far."""
        if self._network is not None:
            self._attempts = self._network.attempts(self._origin)
        return self._attempts

    def __enter__(self) -> Self:
        if self._origin:
            msg = "a FetchGuard guards once: make another"
            raise RuntimeError(msg)
        with ExitStack() as stack:
            self._network = stack.enter_context(Network.opened())
            self._origin = within(origins.origin_here(), f"guard {next(_numbers)}")
            self._network.guard(self._origin, self._rule)
            stack.enter_context(origins.origin(self._origin))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        found, exact = self.attempts, False
        if self._network is not None:
            self._network.tell(found)
            exact = self._network.is_exact()
        self._network = None
        self._stack.close()
        if kind is None:  # a failure of its own wins
            conclude(judged(found, exact=exact), NetworkExceeded, NetworkInconclusive, stacklevel=2)


def judged(
    attempts: Sequence[Attempt],
    *,
    exact: bool = False,
    why: str = "",
    elsewhere: Iterable[str] = (),
) -> NetworkResult:
    """The verdict on attempts; where there are none, on whether all would have been seen.

    They are by the `exact` layer; where that was asked for and is not there, `why` says why. Where
    to is not always known: what could not be read may have been meant for this machine. `elsewhere`
    are networking libraries that are loaded in processes that work for this one.
    """
    if any(each.host or each.address for each in attempts):
        attempts = sorted(attempts, key=lambda each: not (each.host or each.address))
        return _fetches("exceeded", message.headline(attempts), message.details(attempts), attempts)
    if attempts:
        headline, details = message.headline_unknown(attempts), message.details_unknown(attempts)
        return _fetches("inconclusive", headline, details, attempts)
    unseen = [] if exact else sorted({*networking_libraries(), *elsewhere})
    if unseen:
        entries = {
            "why": f"{_some(unseen)}: native code that Python does not see connect",
            "but": f"there is no exact layer: {why}" if why else "",
            "try": "" if why else "exact_network = true in [tool.streamperf], on Linux",
        }
        headline = "native code that may reach the network is loaded"
        return _fetches("inconclusive", headline, ("", *labelled_lines(entries)), ())
    return _fetches("within", message.headline(()), (), ())


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def gone() -> NetworkResult:
    """The verdict where the exact layer was lost on the way."""
    entries = {
        "why": "its helper process has ended: the kernel refuses all since, and tells nobody",
        "try": "look for who ended it: a test that kills its group, or too little memory",
    }
    headline = "the exact layer is gone, and with it who tried what"
    return _fetches("inconclusive", headline, ("", *labelled_lines(entries)), ())


def _fetches(
    verdict: Outcome, headline: str, details: Sequence[str], attempts: Sequence[Attempt]
) -> NetworkResult:
    return NetworkResult(
        stem="network",
        verdict=verdict,
        headline=headline,
        details=details,
        figures=Figures(counts={"attempts": len(attempts)}),
        where=[
            Place(each.line.where, each.line.source) for each in attempts[:_MOST_NAMED] if each.line
        ],
        series={"attempts": [message.row(each) for each in thinned(attempts)]},
        attempts=attempts,
    )
