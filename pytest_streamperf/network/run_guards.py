"""Guard the tests of a run, and report each attempt with the test that caused it, however late.

The plugin makes one `Guards` for each process. It calls `begin` and `end` around each test,
`conclude` for the verdict of a test, and `left` at the end of the session. Workers of pytest-xdist
write to the controller's journal, so the controller also reports attempts that come after a test.
An attempt that comes after the session is printed when the process exits, which then fails.
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
from pytest_streamperf.network.attempts import ALL_HOSTS, SESSION, STARTUP, allowed_hosts
from pytest_streamperf.network.fetch_guard import (
    FetchGuard,
    Network,
    NetworkResult,
    Rule,
    gone,
    verdict_on_attempts,
)
from pytest_streamperf.network.kernel_layer import NotExact, guard_exactly

__tracebackhide__ = True  # pytest shows the user's own frames


# Environment variables for workers: "PID:PATH" of the journal, and the kernel helper's process.
_SHARED, _EXACT = "STREAMPERF_JOURNAL", "STREAMPERF_EXACT"


class Guards:
    """The guards of all tests in one process.

    `guard_all` also guards import, collection, and all code that no test started.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        # A worker reads the project's settings before xdist sends it any data, so the environment
        # carries these values.
        parent, _, journal = os.environ.get(_SHARED, "").partition(":")
        self._is_worker = parent == str(os.getppid())
        self._network = self._stack.enter_context(
            Network.opened(journal if self._is_worker else None)
        )
        self._guards_all = False
        self._kernel_helper: subprocess.Popen[str] | None = None
        self._why_not_exact = ""
        self._process = os.getpid()
        self._tests: dict[str, ExitStack] = {}
        # Exit handlers run in reverse order of registration: this one runs after the project's.
        atexit.register(self._report_at_exit)

    def share(self) -> None:
        """Make processes that start from now on write to the journal of this process."""
        os.environ[_SHARED] = f"{os.getpid()}:{self._network.journal.path}"
        self._stack.callback(os.environ.pop, _SHARED, None)

    def guard_all(self, settings: Mapping[str, Any]) -> None:
        """Guard import, collection, and all code that no test started."""
        self._guards_all = True
        for origin in (STARTUP, SESSION):
            self._network.guard(origin, _rule(settings))

    def guard_exactly(self, settings: Mapping[str, Any]) -> None:
        """Observe this process and its children with the kernel layer, if it is available.

        A worker inherits the filter of the controller, so it installs none.
        """
        self._network.mark_origins()
        if self._is_worker:
            self._network.is_exact = self._is_exact
            return
        rule = _rule(settings)
        try:
            self._kernel_helper = guard_exactly(
                self._network.journal.path,
                block=rule.block,
                networks=[str(network) for network in rule.allowed.networks],
            )
            os.environ[_EXACT] = str(self._kernel_helper.pid)
            self._network.is_exact = self._is_exact
        except (NotExact, OSError) as error:
            self._why_not_exact = str(error)

    def collected(self) -> None:
        """Attribute code that no test started to the session, from the end of the collection on."""
        self._stack.enter_context(origins.phase(SESSION))

    def begin(self, test: str, settings: Mapping[str, Any]) -> None:
        """Attribute to this test all that starts from now on, unless the test has begun already.

        With `guard_all`, a test that may fetch begins too: its fetches then belong to the test and
        do not fail the session.
        """
        may_fetch = settings.get("background_fetch", True)
        if test in self._tests or (may_fetch and not self._guards_all):
            return
        self._network.guard(test, Rule(ALL_HOSTS) if may_fetch else _rule(settings))
        self._tests[test] = stack = ExitStack()
        stack.enter_context(origins.origin(test))

    def end(self, test: str) -> None:
        """Stop attributing new threads, tasks and jobs to this test."""
        if test in self._tests:
            self._tests.pop(test).close()

    def guard_of(self, test: str) -> FetchGuard:
        """Return the guard that the fixture `no_background_fetch` gives to a test."""
        return FetchGuard.of(self._network, test)

    def shared(self) -> AbstractContextManager[None]:
        """Return a context for shared fixtures: the session is the origin of all they start."""
        return origins.origin(SESSION)

    def conclude(self, test: str, *, failed: bool, over: bool) -> None:
        """Report the attempts of a guarded test that no verdict has reported yet.

        Raises `NetworkExceeded` or `NetworkInconclusive`, unless the test `failed` by itself. A
        test without new attempts gets no second verdict when it is `over`, and none at all with
        `guard_all`.
        """
        if test not in self._tests:
            return
        attempts = self._network.unreported().get(test, [])
        self._network.mark_reported(attempts)
        if not attempts and (over or self._guards_all):
            return
        if failed:
            report(self._verdict_on(attempts))
        else:
            conclude(self._verdict_on(attempts), NetworkExceeded, NetworkInconclusive, stacklevel=2)

    def left(self) -> Iterator[tuple[str, NetworkExceeded | NetworkInconclusive]]:
        """Yield the error of each origin whose attempts came after its test, or outside all tests.

        A worker yields none: it reports its networking libraries, and the controller concludes.
        """
        if self._is_worker:
            self._network.note_libraries()
            return
        for origin, attempts in self._network.unreported().items():
            self._network.mark_reported(attempts)
            yield origin, _error(verdict_on_attempts(attempts))
        session = self._verdict_on([])
        if self._helper_has_ended() or (self._guards_all and session.verdict != "within"):
            yield SESSION, _error(session)

    def _verdict_on(self, attempts: Sequence[Attempt]) -> NetworkResult:
        if self._helper_has_ended() and not attempts:
            return gone()
        return verdict_on_attempts(
            attempts,
            exact=self._is_exact(),
            why=self._why_not_exact,
            elsewhere=self._network.libraries_elsewhere,
        )

    def _helper_has_ended(self) -> bool:
        return self._kernel_helper is not None and self._kernel_helper.poll() is not None

    def _is_exact(self) -> bool:
        """Return whether the kernel helper is alive.

        Without it the kernel refuses all connections, and the journal gets no record of them.
        """
        if self._is_worker:
            process = os.environ.get(_EXACT, "")
            return bool(process) and Path("/proc", process).exists()
        return self._kernel_helper is not None and not self._helper_has_ended()

    def _report_at_exit(self) -> None:
        """Print attempts that no verdict reported, and exit with status 1 if there are any."""
        if os.getpid() != self._process:
            return
        unreported = [] if self._is_worker else list(self._network.unreported().items())
        for origin, attempts in unreported:
            print(f"{origin}: {verdict_on_attempts(attempts).message}", file=sys.stderr)  # noqa: T201 - no pytest
        self._stack.close()
        if unreported:  # an exit handler cannot change the status in any other way
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)


def _error(result: NetworkResult) -> NetworkExceeded | NetworkInconclusive:
    return (NetworkExceeded if result.verdict == "exceeded" else NetworkInconclusive)(result)


def _rule(settings: Mapping[str, Any]) -> Rule:
    return Rule(
        allowed_hosts(settings.get("allow_hosts", ())), bool(settings.get("block_network", False))
    )
