"""The reference agent server as a test sees it: in this process, or in one of its own."""

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

# A control delta that says nothing.
_HIDDEN = "\ufffe"
# A process that serves is given this many seconds to stop when it is asked to.
_PATIENCE = 10


class AgentServer:
    """The reference agent server, as one test sees it.

    `engine`, a callable from messages to an async iterable of deltas, is the model it runs until
    the end of the test; a `TokenStream` that is measured can be one.
    """

    def __init__(self, url: str) -> None:
        from reference_impl import demo_engine  # noqa: PLC0415

        self.url = url
        self.engine: Engine = demo_engine
        self._regressions = ExitStack()

    def say(self, turn: "Turn", *, every: Seconds = 0.0) -> None:
        """Have the agent say a scripted turn from now on, at this pace of its deltas.

        `every` is in seconds, or a text such as "50ms".

        Its tool calls are made one after the other, as this agent does, with tools that the server
        has; where it has none of that name, the model is told so, and says what comes next. After
        eight replies the agent gives up, so there may be seven calls.

        Raises `ValueError` where arguments are no JSON object.
        """
        replies = list(_replies(turn, every))
        self.engine = lambda messages: replies[
            sum(message["role"] == "tool" for message in messages)
        ]

    def regress(self, name: str) -> None:
        """Put a seeded regression in place, until the end of the test."""
        from reference_impl import regressed  # noqa: PLC0415

        self._regressions.enter_context(regressed(name))

    def close(self) -> None:
        """Take out the regressions."""
        self._regressions.close()


def _replies(turn: "Turn", every: Seconds) -> "Iterator[TokenStream]":
    """What the model says up to each tool call, and after the last.

    What is not shown is a control delta, so that all keep their time.
    """
    from pytest_streamperf.streams.messages import Failure, ToolCallDelta, text_of  # noqa: PLC0415
    from pytest_streamperf.streams.token_stream import TokenStream  # noqa: PLC0415
    from pytest_streamperf.wire.reader import pieces_of  # noqa: PLC0415
    from reference_impl import Invocation  # noqa: PLC0415

    said: list[str] = []
    fails = any(isinstance(delta, Failure) for delta in turn)
    for piece in pieces_of(turn):
        match piece.delta:
            case str(text):
                said.append(text)
            case ToolCallDelta(name=name) if piece.last:
                written = "".join(map(text_of, piece.block))
                arguments = _arguments(name, written, cut_off=fails)
                if arguments is not None:
                    said.append(Invocation(name, arguments).to_delta())
                    yield TokenStream(said, every=every)
                    said = []
            case Failure(message=message):
                broken = TokenStream(said, every=every)
                broken.error = ConnectionError(message)
                yield broken
                return
            case _:
                said.append(_HIDDEN)
    yield TokenStream(said, every=every)


def _arguments(name: str, written: str, *, cut_off: bool) -> dict[str, Any] | None:
    """The arguments of a call; none where a failure may have cut it off."""
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
    """Serve the engine of the last server in a list, and yield the URL and the list."""
    from pytest_streamperf.wire.server import serve_app  # noqa: PLC0415
    from reference_impl import create_app, demo_engine  # noqa: PLC0415

    current: list[AgentServer] = []

    def engine(messages: Any) -> AsyncIterable[str]:
        return (current[-1].engine if current else demo_engine)(messages)

    with serve_app(create_app(engine, debug=True)) as url:
        yield url, current


class AgentServerProcess:
    """The reference agent server in a process of its own, where nothing in it can be measured."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._start()

    def _start(self) -> None:
        from subprocess import PIPE, Popen  # noqa: PLC0415

        command = [sys.executable, "-m", "reference_impl", "--debug"]
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
        """Cannot be reached from here: raises `GrowthInconclusive`, which says what else to do."""
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
        """Cannot be reached from here, either: raises what `engine` does."""
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
