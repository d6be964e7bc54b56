"""Guards in a run of tests: each test's attempts are its own, whenever they come.

What one process sees, it writes to the journal, and so do those that run its tests for it; whoever
is there last tells what nobody was told of.
"""

import atexit
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from pytest_streamperf._results.conclusion import conclude
from pytest_streamperf._results.reporter import report
from pytest_streamperf.exceptions import NetworkExceeded, NetworkInconclusive
from pytest_streamperf.network import Attempt, origins
from pytest_streamperf.network.attempts import EVERYBODY, SESSION, STARTUP, allowed_hosts
from pytest_streamperf.network.fetch_guard import (
    FetchGuard,
    Network,
    NetworkResult,
    Rule,
    gone,
    judged,
)
from pytest_streamperf.network.kernel_layer import NotExact, guard_exactly

__tracebackhide__ = True  # pytest shows the user's own frames


_SHARED, _EXACT = "STREAMPERF_JOURNAL", "STREAMPERF_EXACT"


class Guards:
    """Guards tests, and with `guard_all` what no test starts, too, until the process ends."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        # A worker is told by the environment: it reads its settings before it hears of anything.
        parent, _, journal = os.environ.get(_SHARED, "").partition(":")
        self._helper = parent == str(os.getppid())
        self._network = self._stack.enter_context(Network.opened(journal if self._helper else None))
        self._everything = False
        self._exact: subprocess.Popen[str] | None = None
        self._why_not_exact = ""
        self._process = os.getpid()
        self._tests: dict[str, ExitStack] = {}
        # Who registers first runs last.
        atexit.register(self._last_words)

    def share(self) -> None:
        """Have processes that this one starts from here on write to its journal, too."""
        os.environ[_SHARED] = f"{os.getpid()}:{self._network.journal.path}"
        self._stack.callback(os.environ.pop, _SHARED, None)

    def guard_all(self, settings: Mapping[str, Any]) -> None:
        """Guard import, collection, and whatever no test started."""
        self._everything = True
        for origin in (STARTUP, SESSION):
            self._network.guard(origin, _rule(settings))

    def guard_exactly(self, settings: Mapping[str, Any]) -> None:
        """Have the kernel tell, too, for this process and all that it starts; if that can be had.

        A process that works for another is under its filter already.
        """
        self._network.mark_origins()
        if self._helper:
            self._network.is_exact = self._is_exact
            return
        rule = _rule(settings)
        try:
            self._exact = guard_exactly(
                self._network.journal.path,
                block=rule.block,
                networks=[str(network) for network in rule.allowed.networks],
            )
            os.environ[_EXACT] = str(self._exact.pid)
            self._network.is_exact = self._is_exact
        except (NotExact, OSError) as error:
            self._why_not_exact = str(error)

    def collected(self) -> None:
        """From here on what no test started is the session's."""
        self._stack.enter_context(origins.phase(SESSION))

    def begin(self, test: str, settings: Mapping[str, Any]) -> None:
        """Take what is started from here on for this test's, if it is not already.

        What a test may do, where all are guarded, is its own, too, and nobody else's fault.
        """
        may = settings.get("background_fetch", True)
        if test in self._tests or (may and not self._everything):
            return
        self._network.guard(test, Rule(EVERYBODY) if may else _rule(settings))
        self._tests[test] = stack = ExitStack()
        stack.enter_context(origins.origin(test))

    def end(self, test: str) -> None:
        """Take what is started from here on for somebody else's."""
        if test in self._tests:
            self._tests.pop(test).close()

    def guard_of(self, test: str) -> FetchGuard:
        """What the fixture gives."""
        return FetchGuard.of(self._network, test)

    def shared(self) -> AbstractContextManager[None]:
        """Take what is started meanwhile for no one test's: a fixture's that others share."""
        return origins.origin(SESSION)

    def conclude(self, test: str, *, failed: bool, over: bool) -> None:
        """Conclude on what a test tried and nobody was told of, if it is guarded.

        Nothing is raised where it `failed` by itself; when it is `over`, only for what is new.
        """
        if test not in self._tests:
            return
        attempts = self._network.unreported().get(test, [])
        self._network.mark_reported(attempts)
        if not attempts and (over or self._everything):
            return
        if failed:
            report(self._judged(attempts))
        else:
            conclude(self._judged(attempts), NetworkExceeded, NetworkInconclusive, stacklevel=2)

    def left(self) -> Iterator[tuple[str, NetworkExceeded | NetworkInconclusive]]:
        """What came too late for its test, or was nobody's, by origin; a helper only notes it."""
        if self._helper:
            self._network.note_libraries()
            return
        for origin, attempts in self._network.unreported().items():
            self._network.mark_reported(attempts)
            yield origin, _error(judged(attempts))
        rest = self._judged([])
        if self._is_gone() or (self._everything and rest.verdict != "within"):
            yield SESSION, _error(rest)

    def _judged(self, attempts: Sequence[Attempt]) -> NetworkResult:
        if self._is_gone() and not attempts:
            return gone()
        return judged(
            attempts,
            exact=self._is_exact(),
            why=self._why_not_exact,
            elsewhere=self._network.libraries_elsewhere,
        )

    def _is_gone(self) -> bool:
        return self._exact is not None and self._exact.poll() is not None

    def _is_exact(self) -> bool:
        """Whether the helper answers: without it the kernel refuses, and nobody is told."""
        if self._helper:
            helper = os.environ.get(_EXACT, "")
            return bool(helper) and Path("/proc", helper).exists()
        return self._exact is not None and not self._is_gone()

    def _last_words(self) -> None:
        """At the very end of the process: what came since is told, and its status says so."""
        if os.getpid() != self._process:
            return
        found = [] if self._helper else list(self._network.unreported().items())
        for origin, attempts in found:
            print(f"{origin}: {judged(attempts).message}", file=sys.stderr)  # noqa: T201 - the end
        self._stack.close()
        if found:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)


def _error(found: NetworkResult) -> NetworkExceeded | NetworkInconclusive:
    return (NetworkExceeded if found.verdict == "exceeded" else NetworkInconclusive)(found)


def _rule(settings: Mapping[str, Any]) -> Rule:
    return Rule(
        allowed_hosts(settings.get("allow_hosts", ())), bool(settings.get("block_network", False))
    )
