"""What becomes of streams in flight when a server is told to stop."""

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
"""What the last event of a whole stream holds: OpenAI, Anthropic, AG-UI, Ollama."""

_WHOLE, _FAILED, _SILENT, _CUT = "whole", "ended with an error", "ended early", "cut off"

# The last event of a stream; and one that tells of an error, which is not null.
_EVENT = re.compile(r"\n\s*\n|\n(?=\{)")
_FAILS = re.compile(
    r'^event: *error|"error": *[^n\s]|"type": *"\w*error"', re.IGNORECASE | re.MULTILINE
)
_ERROR = re.compile(r"[\w.]+(Error|Exception|Exit|Interrupt)\b")
_URL = re.compile(r"https?://(?:[\w.\-]+|\[[0-9a-fA-F:]+\]):\d+")
_PATIENCE, _MOST_SAID = 30.0, 120
_LOOK, _LAST_WAIT = 0.02, 5.0
_MOST_LINES, _LONGEST_LINE = 1_000, 2**24
# 0, and what shells and Python call the end by SIGTERM.
_FINE = {0, -signal.SIGTERM, 128 + signal.SIGTERM}


class Stop(NamedTuple):
    """What clients got, how long it took in seconds, how the process ended, and what it printed.

    `answers` are None for clients that were cut off. `took` is None where it had to be killed.
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
    """Start a server, have clients read a stream, and stop it by SIGTERM, as whatever deploys does.

    `command` is to print the URL that it serves, as uvicorn does and others; give it port 0, or
    one that is free; it is the process that is to stop, and no shell around it. `request` is for a
    stream that takes a while. Each must come to its end (its last event holds one of `ends`), or
    end with an event that tells of an error. The process has `within` seconds to exit, as it
    should, and prints no traceback.

    Raises `ServerExceeded`, and `NothingMeasured` where no URL is printed in 30 seconds, or the
    streams are over before it is stopped. Where there is no SIGTERM, on Windows, the process is
    killed, and nothing is well.

        assert_stops([sys.executable, "-m", "uvicorn", "app:app", "--port", "0"], chat)
    """
    seconds = argument("within", seconds_of, within)
    found = run("assert_stops", lambda: _stopped(command, request, clients, seconds), None)
    outcome = judged(found, ends, seconds)
    return concluded(outcome)


async def _stopped(command: Sequence[str], request: Request, clients: int, within: float) -> Stop:
    time = asyncio.get_running_loop().time
    async with _started(command) as (process, url, printed):
        begun = [asyncio.Event() for _ in range(clients)]
        streams = [
            asyncio.create_task(ask(url, request, arrived=lambda *_, mine=each: mine.set()))
            for each in begun
        ]
        async with tasks() as running:
            running.extend(streams)
            await until(
                lambda: all(each.is_set() for each in begun) or any(each.done() for each in streams)
            )
            # What was sent at once is over in a moment.
            await asyncio.wait(streams, timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED)
            for each in streams:
                if each.done():
                    status = each.result().status
                    raise nothing_measured(
                        "server",
                        f"{request} was over before the server was stopped ({status})",
                        "ask for a stream that takes a while",
                    )
            process.terminate()
            told, took = time(), None
            with suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await process.wait()
                    took = time() - told
            await asyncio.wait(streams, timeout=_LOOK)
            answers = [_answer(each) for each in streams]
        return Stop(answers, took, process.returncode, printed)


@asynccontextmanager
async def _started(
    command: Sequence[str],
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str, list[str]]]:
    """Start a server: the process, the URL that it prints, and whatever else it does."""
    printed: list[str] = []
    urls: asyncio.Queue[str] = asyncio.Queue()

    async def read(output: asyncio.StreamReader) -> None:
        async for line in output:
            printed.append(line.decode("utf-8", "replace").rstrip())
            del printed[:-_MOST_LINES]
            for url in _URL.findall(printed[-1]):
                urls.put_nowait(url)
        urls.put_nowait("")  # there will be no other

    # A session of its own, so that those whom it starts end with it.
    process = await asyncio.create_subprocess_exec(
        *command, stdout=PIPE, stderr=STDOUT, limit=_LONGEST_LINE, start_new_session=True
    )
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    reading = asyncio.create_task(read(process.stdout))
    try:
        url = ""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                url = await urls.get()
                while url and not await _listens(url):  # that of something else, a proxy's say
                    url = await urls.get()
        if not url:
            said = " ".join(printed[-3:]) or "nothing"
            raise nothing_measured(
                "server",
                fit_line(f"no URL was printed by {' '.join(command)}"),
                fit_line(f"have it print where it listens; it said: {said}"),
            )
        yield process, url, printed
    finally:
        with suppress(ProcessLookupError):
            getattr(os, "killpg", os.kill)(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        # Whoever left its session may hold the pipe.
        await asyncio.wait([asyncio.ensure_future(process.wait()), reading], timeout=_LAST_WAIT)
        reading.cancel()


async def _listens(url: str) -> bool:
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
    """What a client got; None if it was cut off, or still waits."""
    try:
        return stream.result()
    except (ConnectionError, asyncio.InvalidStateError):
        return None


def judged(found: Stop, ends: Sequence[str], within: float) -> Verdict:
    """Hold streams to an end of their own, and the process to one in time."""
    answers, took, status, printed = found
    how = Counter(_how(each, ends) for each in answers)
    figures = Figures(
        given={"streams": len(answers)},
        counts={"cut off": how[_CUT], "ended without a word": how[_SILENT]},
        seconds=known({"took": took}),
        limits={"took": within},
    )
    fault = None
    traces = [line for line in printed if "Traceback (most recent call last)" in line]
    if took is None:
        fault = (
            f"the server was still there {duration(within)} after it was told to stop",
            "whatever deploys it kills it then, and with it all that was in flight",
            "give what is in flight a time to end, shorter than that",
        )
    elif how[_CUT]:
        fault = (
            f"{how[_CUT]} of {len(answers)} streams were cut off as the server stopped",
            "people see a network error with every deployment, and half an answer",
            "give streams time to end; what is cancelled then sends an error event, and its end",
        )
    elif how[_SILENT]:
        fault = (
            f"{how[_SILENT]} of {len(answers)} streams ended early without a word",
            "half an answer is taken for a whole one",
            "send an error event before the end; ends=[...] says what shows that one is over",
        )
    elif traces:
        raised = next((line for line in reversed(printed) if _ERROR.match(line)), "")
        fault = (
            f"the server printed a traceback as it stopped, {len(traces)} in all",
            f"every deployment looks like a failure: {raised}"[:_MOST_SAID],
            "catch what a stop raises where it ends: asyncio.CancelledError, in a response",
        )
    elif status not in _FINE:
        fault = (
            f"the server exited with {status}",
            "whatever deploys it takes that for a failure",
            "exit with 0 when told to stop",
        )
    if fault is None:
        told = ", ".join(f"{count} {what}" for what, count in how.items())
        what = f"{told}, {duration(took or 0.0)} after SIGTERM"
        return passed(what, figures)
    headline, means, advice = fault
    rows = [[str(count), what] for what, count in how.items()]
    lines = labelled_lines({"means": means, "try": advice})
    return exceeded(headline, figures, lines, table_lines(["streams", ""], rows))


def _how(answer: Answer | None, ends: Sequence[str]) -> str:
    if answer is None or not answer.complete:
        return _CUT
    last = _EVENT.split(answer.body.decode("utf-8", "replace").strip())[-1]
    if any(end in last for end in ends):
        return _WHOLE
    return _FAILED if _FAILS.search(last) else _SILENT
