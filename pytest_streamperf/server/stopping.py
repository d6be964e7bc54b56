"""Check that a server lets streams in flight end when it receives SIGTERM.

`assert_stops` takes the command of a server and a request, and returns a `Verdict`. It starts the
server, waits for the URL that the server prints, reads streams, and sends SIGTERM. The result is a
`StopResult`: the answers, the time to the exit, the exit status and the output.

- A stream must end with its usual last event, or with an error event.
- The process must exit in time with a good status, and print no traceback.
- All processes that the server started end with the check.
"""

import asyncio
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from subprocess import PIPE, STDOUT
from typing import NamedTuple
from urllib.parse import urlsplit

from pytest_streamperf._results.conclusion import nothing_measured
from pytest_streamperf._results.metrics import Figures, known
from pytest_streamperf._results.text import fit_line, labelled_lines, table_lines
from pytest_streamperf._results.units import Seconds, argument, duration, seconds_of
from pytest_streamperf._results.verdict import Verdict
from pytest_streamperf.server.clients import Answer, Request, ask, tasks, until
from pytest_streamperf.server.serving import run
from pytest_streamperf.server.verdicts import concluded, exceeded, passed

__tracebackhide__ = True  # pytest shows the user's own frames

ENDS = (
    *("[DONE]", "response.completed", "message_stop", "RUN_FINISHED"),
    *('"done":true', '"done": true'),
)
"""Texts in the last event of a whole stream: OpenAI, Anthropic, AG-UI and Ollama."""

# The ways in which a stream can end.
_WHOLE, _FAILED, _SILENT, _CUT = "whole", "ended with an error", "ended early", "cut off"

# The boundary between two events: a blank line in SSE, or a line break before an object in NDJSON.
_EVENT_BOUNDARY = re.compile(r"\n\s*\n|\n(?=\{)")
# An event that reports an error; an `error` that is null reports none.
_ERROR_EVENT = re.compile(
    r'^event: *error|"error": *[^n\s]|"type": *"\w*error"', re.IGNORECASE | re.MULTILINE
)
# The last line of a traceback, which begins with the type of the error.
_ERROR_LINE = re.compile(r"[\w.]+(Error|Exception|Exit|Interrupt)\b")
_URL = re.compile(r"https?://(?:[\w.\-]+|\[[0-9a-fA-F:]+\]):\d+")
# Seconds that the server has to print its URL. Not measured: it may import a large model library.
_START_TIMEOUT_S = 30.0
# Characters of the sentence that quotes an error. Not measured: two lines of a message.
_MAX_MEANING = 120
# Seconds for a stream to end by itself, before SIGTERM and after the exit. Not measured.
_STREAM_END_S = 0.02
# Seconds to wait for a process that was killed, and for its output. Not measured.
_KILL_TIMEOUT_S = 5.0
# Lines of output that the check keeps. Not measured: enough for a few tracebacks.
_MAX_LINES = 1_000
# Bytes in one line of output. Not measured: asyncio's default of 64 KiB may be less than a JSON log
# line needs.
_MAX_LINE_BYTES = 2**24
# Good exit statuses: 0, and the two spellings of an end by SIGTERM, Python's and the shell's.
_GOOD_STATUSES = {0, -signal.SIGTERM, 128 + signal.SIGTERM}


class StopResult(NamedTuple):
    """The result of one stop: the clients' answers and the end of the process.

    `answers` has one item for each client, None for a client whose connection was cut off. `took`
    is the time in seconds from SIGTERM to the exit, None where the process had to be killed.
    `status` is the exit status, and `printed` holds the last lines of output.
    """

    answers: Sequence[Answer | None]
    took: float | None
    status: int | None
    printed: Sequence[str]


def assert_stops(
    command: Sequence[str],
    request: Request,
    *,
    clients: int = 3,
    within: Seconds = 10.0,
    ends: Sequence[str] = ENDS,
) -> Verdict:
    """Stop a server with SIGTERM while clients read a stream, and check how streams and server end.

    `command` starts the server, which must print the URL that it serves, as uvicorn does. Give the
    server port 0 or a free port. `command` must be the server process itself, not a shell around
    it. `request` asks for a stream that takes a while. Each stream must end with an event that
    holds one of `ends`, or with an error event. The process must exit within `within` seconds, with
    status 0 or by SIGTERM, and print no traceback.

    Windows has no SIGTERM: the process is killed there, and the check fails.

    Raises `ServerExceeded` for a server that breaks a rule. Raises `NothingMeasured` where the
    server prints no URL in 30 seconds, or a stream is over before the stop. Raises `TypeError` and
    `ValueError` for a bad argument.

        assert_stops([sys.executable, "-m", "uvicorn", "app:app", "--port", "0"], chat)
    """
    seconds = argument("within", seconds_of, within)
    result = run("assert_stops", lambda: _stop(command, request, clients, seconds), None)
    outcome = verdict_on_stop(result, ends, seconds)
    return concluded(outcome)


async def _stop(
    command: Sequence[str], request: Request, clients: int, within: float
) -> StopResult:
    """Start the server, send SIGTERM while the clients read, and return the result.

    Raises `NothingMeasured` where a stream is over before the stop.
    """
    time = asyncio.get_running_loop().time
    async with _started(command) as (process, url, printed):
        begun_events = [asyncio.Event() for _ in range(clients)]
        streams = [
            asyncio.create_task(ask(url, request, arrived=lambda *_, begun=event: begun.set()))
            for event in begun_events
        ]
        async with tasks() as running:
            running.extend(streams)
            await until(
                lambda: (
                    all(event.is_set() for event in begun_events)
                    or any(stream.done() for stream in streams)
                )
            )
            # A short wait finds answers that the server sent all at once.
            await asyncio.wait(streams, timeout=_STREAM_END_S, return_when=asyncio.FIRST_COMPLETED)
            for stream in streams:
                if stream.done():
                    status = stream.result().status
                    raise nothing_measured(
                        "server",
                        f"{request} was over before the server was stopped ({status})",
                        "give a request whose stream takes longer",
                    )
            process.terminate()
            terminated, took = time(), None
            with suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await process.wait()
                    took = time() - terminated
            await asyncio.wait(streams, timeout=_STREAM_END_S)
            answers = [_answer(stream) for stream in streams]
        return StopResult(answers, took, process.returncode, printed)


@asynccontextmanager
async def _started(
    command: Sequence[str],
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str, list[str]]]:
    """Start a server, and yield its process, its URL and the list of its output lines.

    The end of the block kills the server and the processes that it started. Raises
    `NothingMeasured` where the server prints no URL on which it accepts connections.
    """
    printed: list[str] = []
    urls: asyncio.Queue[str] = asyncio.Queue()

    async def read(output: asyncio.StreamReader) -> None:
        async for line in output:
            printed.append(line.decode("utf-8", "replace").rstrip())
            del printed[:-_MAX_LINES]
            for url in _URL.findall(printed[-1]):
                urls.put_nowait(url)
        urls.put_nowait("")  # the output is over: no other URL follows

    # A session of its own lets the check kill the processes that the server started, too.
    process = await asyncio.create_subprocess_exec(
        *command, stdout=PIPE, stderr=STDOUT, limit=_MAX_LINE_BYTES, start_new_session=True
    )
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    reading = asyncio.create_task(read(process.stdout))
    try:
        url = ""
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_TIMEOUT_S):
                url = await urls.get()
                while url and not await _listens(url):  # another server's URL, say a proxy's
                    url = await urls.get()
        if not url:
            last_output = " ".join(printed[-3:]) or "nothing"
            raise nothing_measured(
                "server",
                fit_line(f"no URL was printed by {' '.join(command)}"),
                fit_line(f"have it print the URL that it serves; it printed: {last_output}"),
            )
        yield process, url, printed
    finally:
        with suppress(ProcessLookupError):
            getattr(os, "killpg", os.kill)(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        # A process that left the session may still hold the pipe, so the wait has a limit.
        await asyncio.wait(
            [asyncio.ensure_future(process.wait()), reading], timeout=_KILL_TIMEOUT_S
        )
        reading.cancel()


async def _listens(url: str) -> bool:
    """Return whether a server accepts connections at `url`."""
    address = urlsplit(url)
    try:
        _, writer = await asyncio.open_connection(address.hostname, address.port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


def _answer(stream: asyncio.Task[Answer]) -> Answer | None:
    """Return the answer that a client received, or None if it was cut off or still waits."""
    try:
        return stream.result()
    except (ConnectionError, asyncio.InvalidStateError):
        return None


def verdict_on_stop(result: StopResult, ends: Sequence[str], within: float) -> Verdict:
    """Return the verdict on the ends of the streams and on the exit of the process."""
    answers, took, status, printed = result
    endings = Counter(_ending(answer, ends) for answer in answers)
    figures = Figures(
        given={"streams": len(answers)},
        counts={"cut off": endings[_CUT], "ended without a word": endings[_SILENT]},
        seconds=known({"took": took}),
        limits={"took": within},
    )
    fault = None
    tracebacks = [line for line in printed if "Traceback (most recent call last)" in line]
    if took is None:
        fault = (
            f"the server was still running {duration(within)} after SIGTERM",
            "a deployment then kills the server, and every request that still runs",
            "give running requests less time than that to end",
        )
    elif endings[_CUT]:
        fault = (
            f"{endings[_CUT]} of {len(answers)} streams were cut off as the server stopped",
            "with every deployment, users see a network error and half an answer",
            "give streams time to end; have a cancelled stream send an error event first",
        )
    elif endings[_SILENT]:
        fault = (
            f"{endings[_SILENT]} of {len(answers)} streams ended early without an error event",
            "the client takes half an answer for a whole one",
            "send an error event before the end; or list a text of your last event in ends=[...]",
        )
    elif tracebacks:
        error_line = next((line for line in reversed(printed) if _ERROR_LINE.match(line)), "")
        fault = (
            f"tracebacks that the server printed: {len(tracebacks)}, limit 0",
            f"every deployment looks like a failure: {error_line}"[:_MAX_MEANING],
            "catch the error that a stop raises; in a response it is asyncio.CancelledError",
        )
    elif status not in _GOOD_STATUSES:
        fault = (
            f"the server exited with status {status}, not 0",
            "a deployment takes that for a failure",
            "exit with status 0 after SIGTERM",
        )
    if fault is None:
        counts = ", ".join(f"{count} {ending}" for ending, count in endings.items())
        headline = f"streams: {counts}; exit {duration(took or 0.0)} after SIGTERM"
        return passed(headline, figures)
    headline, means, advice = fault
    rows = [[str(count), ending] for ending, count in endings.items()]
    lines = labelled_lines({"means": means, "try": advice})
    return exceeded(headline, figures, lines, table_lines(["streams", ""], rows))


def _ending(answer: Answer | None, ends: Sequence[str]) -> str:
    """Return how a stream ended: `_WHOLE`, `_FAILED`, `_SILENT` or `_CUT`."""
    if answer is None or not answer.complete:
        return _CUT
    last_event = _EVENT_BOUNDARY.split(answer.body.decode("utf-8", "replace").strip())[-1]
    if any(end in last_event for end in ends):
        return _WHOLE
    return _FAILED if _ERROR_EVENT.search(last_event) else _SILENT
