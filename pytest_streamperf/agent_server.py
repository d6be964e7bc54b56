"""The reference agent server as a test sees it: in this process, or in one of its own."""

import sys
from collections.abc import AsyncIterable, Callable
from contextlib import ExitStack
from typing import Any

from pytest_streamperf import verdict

Engine = Callable[[Any], AsyncIterable[str]]

# A process that serves is given this many seconds to stop when it is asked to.
_PATIENCE = 10


class AgentServer:
    """The reference agent server, as one test sees it.

    `engine`, a callable from messages to an async iterable of deltas, is the model it runs until
    the end of the test; a `TokenStream` that is measured can be one.
    """

    def __init__(self, url: str, engine: Engine) -> None:
        self.url = url
        self.engine = engine
        self._regressions = ExitStack()

    def regress(self, name: str) -> None:
        """Put a seeded regression in place, until the end of the test."""
        from reference_impl import regressed  # noqa: PLC0415

        self._regressions.enter_context(regressed(name))

    def close(self) -> None:
        """Take out the regressions."""
        self._regressions.close()


class AgentServerProcess:
    """The reference agent server in a process of its own, where nothing in it can be measured."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._start()

    def _start(self) -> None:
        from subprocess import PIPE, Popen  # noqa: PLC0415

        command = [sys.executable, "-m", "reference_impl"]
        if self._names:
            command += ["--regress", *self._names]
        self._process = Popen(command, stdout=PIPE, text=True)  # noqa: S603 - our own module
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            line = self._process.stdout.readline().split()
        except BaseException:
            self._process.kill()
            self._process.communicate()
            raise
        if not line:
            self.close()
            msg = f"{' '.join(command)} did not start; what it said is on standard error"
            raise RuntimeError(msg)
        self.url = line[-1]

    @property
    def engine(self) -> Engine:
        """Cannot be reached from here: raises `GrowthUnproven`, which says what to do instead."""
        raise verdict.GrowthUnproven(
            verdict.Verdict(
                stem="growth",
                verdict="unproven",
                headline="the agent server runs in another process, out of reach of a metered "
                "stream: use agent_server in-process, its default",
            )
        )

    @engine.setter
    def engine(self, _engine: Engine) -> None:
        self.engine  # noqa: B018 - raises

    def regress(self, name: str) -> None:
        """Start again with a seeded regression in place; `url` changes."""
        from reference_impl import regressed  # noqa: PLC0415

        with regressed(name):  # refuses a name that there is not
            pass
        self.close()
        self._names.append(name)
        self._start()

    def close(self) -> None:
        """Stop the process."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=_PATIENCE)
        except Exception:
            self._process.kill()
            self._process.communicate()
            raise
