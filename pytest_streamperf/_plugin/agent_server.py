"""Give a test the reference agent server, in this process or in one of its own.

`AgentServer` runs in the process of the test, so a check can measure it; `say` makes it play a
scripted turn. `AgentServerProcess` runs it in a child process, which a check cannot measure.
"""

import json
import sys
from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from pytest_streamperf._results.units import Seconds
from pytest_streamperf._results.verdict import Verdict
from pytest_streamperf.exceptions import GrowthInconclusive

if TYPE_CHECKING:
    from pytest_streamperf.streams.messages import Turn
    from pytest_streamperf.streams.token_stream import TokenStream

Engine = Callable[[Any], AsyncIterable[str]]

# A control delta: the server sends no text for it, and it still takes the time of a delta.
_HIDDEN = "\ufffe"
# Seconds that the server process has to stop. Not measured.
_STOP_TIMEOUT_S = 10


class AgentServer:
    """The reference agent server of one test, in this process.

    `engine` is the model that the server runs until the end of the test: a callable from messages
    to an async iterable of deltas. A `TokenStream` that a check measures can be one.
    """

    def __init__(self, url: str) -> None:
        from reference_impl import demo_engine  # noqa: PLC0415

        self.url = url
        self.engine: Engine = demo_engine
        self._regressions = ExitStack()

    def say(self, turn: "Turn", *, every: Seconds = 0.0) -> None:
        """Make the agent answer with a scripted turn from now on, one delta per interval `every`.

        `every` is in seconds, or a text such as "50ms".

        The agent makes the tool calls of the turn one after the other, with the server's own tools.
        For an unknown tool the model receives an error, and continues with the rest of the turn.
        The agent stops after eight replies, so a turn may have seven calls.

        Raises `ValueError` if the arguments of a call are not a JSON object.
        """
        replies = list(_replies(turn, every))
        self.engine = lambda messages: replies[
            sum(message["role"] == "tool" for message in messages)
        ]

    def regress(self, name: str) -> None:
        """Activate a seeded regression until the end of the test."""
        from reference_impl import regressed  # noqa: PLC0415

        self._regressions.enter_context(regressed(name))

    def close(self) -> None:
        """Deactivate the seeded regressions."""
        self._regressions.close()


def _replies(turn: "Turn", every: Seconds) -> "Iterator[TokenStream]":
    """Yield one stream for each reply of the model: up to each tool call, and after the last.

    A delta that the server does not show becomes a control delta, so that the pace stays the same.
    """
    from pytest_streamperf.streams.messages import Failure, ToolCallDelta, text_of  # noqa: PLC0415
    from pytest_streamperf.streams.token_stream import TokenStream  # noqa: PLC0415
    from pytest_streamperf.wire.reader import placed_deltas  # noqa: PLC0415
    from reference_impl import Invocation  # noqa: PLC0415

    deltas: list[str] = []
    fails = any(isinstance(delta, Failure) for delta in turn)
    for piece in placed_deltas(turn):
        match piece.delta:
            case str(text):
                deltas.append(text)
            case ToolCallDelta(name=name) if piece.last:
                written = "".join(map(text_of, piece.block))
                arguments = _arguments(name, written, cut_off=fails)
                if arguments is not None:
                    deltas.append(Invocation(name, arguments).to_delta())
                    yield TokenStream(deltas, every=every)
                    deltas = []
            case Failure(message=message):
                broken = TokenStream(deltas, every=every)
                broken.error = ConnectionError(message)
                yield broken
                return
            case _:
                deltas.append(_HIDDEN)
    yield TokenStream(deltas, every=every)


def _arguments(name: str, written: str, *, cut_off: bool) -> dict[str, Any] | None:
    """Return the arguments of a call, or None if a failure may have cut it off."""
    try:
        arguments = json.loads(written)
        if isinstance(arguments, dict):
            return arguments
    except ValueError:
        if cut_off:
            return None
    msg = (
        f"the arguments of {name} must be a JSON object, for the agent to call it, not {written!r}"
    )
    raise ValueError(msg)


@contextmanager
def served_in_process() -> Iterator[tuple[str, list[AgentServer]]]:
    """Serve the engine of the last server in a list; yield the URL and that list."""
    from pytest_streamperf.wire.server import serve_app  # noqa: PLC0415
    from reference_impl import create_app, demo_engine  # noqa: PLC0415

    current: list[AgentServer] = []

    def engine(messages: Any) -> AsyncIterable[str]:
        return (current[-1].engine if current else demo_engine)(messages)

    with serve_app(create_app(engine, debug=True)) as url:
        yield url, current


class AgentServerProcess:
    """The reference agent server in a process of its own, which a check cannot measure."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._start()

    def _start(self) -> None:
        from subprocess import PIPE, Popen  # noqa: PLC0415

        command = [sys.executable, "-m", "reference_impl", "--debug"]
        if self._names:
            command += ["--regress", *self._names]
        self._process = Popen(command, stdout=PIPE, text=True)  # noqa: S603 - our own module
        assert self._process.stdout is not None  # noqa: S101 - stdout is a pipe
        try:
            line = self._process.stdout.readline().split()
        except BaseException:
            self._process.kill()
            self._process.communicate()
            raise
        if not line:
            self.close()
            msg = f"{' '.join(command)} did not start; its error is on standard error"
            raise RuntimeError(msg)
        self.url = line[-1]

    @property
    def engine(self) -> Engine:
        """Raise `GrowthInconclusive`: the engine runs in another process, out of reach."""
        raise GrowthInconclusive(
            Verdict(
                stem="growth",
                verdict="inconclusive",
                headline="the agent server runs in another process, out of reach of a metered "
                "stream: use agent_server in-process, its default",
            )
        )

    @engine.setter
    def engine(self, _engine: Engine) -> None:
        self.engine  # noqa: B018 - raises

    def say(self, turn: "Turn", *, every: Seconds = 0.0) -> None:  # noqa: ARG002
        """Raise `GrowthInconclusive`, as `engine` does."""
        self.engine  # noqa: B018 - raises

    def regress(self, name: str) -> None:
        """Restart the server with a seeded regression; `url` changes."""
        from reference_impl import regressed  # noqa: PLC0415

        with regressed(name):  # an unknown name raises here
            pass
        self.close()
        self._names.append(name)
        self._start()

    def close(self) -> None:
        """Stop the process."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=_STOP_TIMEOUT_S)
        except Exception:
            self._process.kill()
            self._process.communicate()
            raise
