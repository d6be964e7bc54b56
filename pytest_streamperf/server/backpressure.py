"""Check that a broadcast does not wait for slow WebSocket clients, and keeps little for them.

`assert_backpressure` takes an ASGI app or a URL. It connects fast, slow, stalled, recovering,
vanished and idle clients (see `websocket_clients`), broadcasts to all of them, and returns a
`Verdict`.

- Counts decide: the check looks at the numbers of the messages that each client received.
- A clock decides only after a client received nothing for `within` seconds, or after `idle`.
- Where the machine kept the clients from sending, the check runs up to three times. After that it
  is inconclusive.
"""

import asyncio
from collections.abc import Callable, Sequence
from inspect import iscoroutinefunction
from itertools import pairwise
from typing import Literal, NamedTuple

from pytest_streamperf._results.conclusion import nothing_measured
from pytest_streamperf._results.metrics import Figures
from pytest_streamperf._results.text import labelled_lines, table_lines
from pytest_streamperf._results.units import (
    Bytes,
    Seconds,
    argument,
    bytes_of,
    duration,
    interval_of,
    optional_argument,
    seconds_of,
    size,
)
from pytest_streamperf._results.verdict import Verdict
from pytest_streamperf.server.clients import Request, ask
from pytest_streamperf.server.gauges import Read, reading_of
from pytest_streamperf.server.serving import App, run, served
from pytest_streamperf.server.verdicts import concluded, exceeded, inconclusive, passed
from pytest_streamperf.server.websocket_clients import (
    FAST,
    IN_SOCKETS,
    MESSAGE,
    VANISHED,
    BackpressureEvidence,
    ClientDriver,
    drive_clients,
)

__tracebackhide__ = True  # pytest shows the user's own frames

Policy = Literal["skip", "close"]

# A client sends `say` three times in each `idle` period: one late message does not close it.
# Not measured: three is a choice.
_SENDS_PER_IDLE = 3
# An inconclusive run is repeated. Not measured: three runs keep the check short.
_MAX_RUNS = 3
# Seconds of the assumed period without `idle`, so a client then sends every 10 s. Not measured.
_DEFAULT_IDLE_S = 30.0


def assert_backpressure(  # noqa: PLR0913 - options of the load and the limits
    server: App | str,
    path: str,
    *,
    publish: str | Callable[[str], object],
    policy: Policy = "skip",
    max_kept: Bytes = 2**20,
    idle: Seconds | None = None,
    say: str = "ping",
    read: Read | None = None,
    gauge: str | None = None,
    within: Seconds = 5.0,
) -> Verdict:
    """Broadcast to fast, slow, stalled, recovering and vanished clients of a WebSocket at `path`.

    `publish` is a path that takes a text by POST and sends it to all clients, or a function that
    does so. The check calls the function from a thread. Each message has 64 KiB. It must reach
    every client that reads, in order and within `within` seconds, whatever the other clients do.

    The server may keep `max_kept` bytes for a client that reads nothing. Beyond that it follows the
    `policy`: "skip" leaves messages out until the client reads again, "close" closes the client.
    `read` is the path of the metrics, or a function that returns them, and `gauge` names the number
    of clients in them. Clients that vanish must leave that number. Leave out both for a server
    without such a number.

    `idle` is the time in seconds after which the server closes a client that sends nothing. The
    check waits for it, so it should be short. A client that sends `say` three times in each `idle`
    period must stay.

    Raises `ServerExceeded` for a server that breaks a rule. Raises `Inconclusive` where this
    machine kept the clients from sending for two thirds of the `idle` period in three runs: the
    server may then close them. Raises `NothingMeasured` for a path that does not exist, `TypeError`
    and `ValueError` for a bad argument, and the `TimeoutError` or `ConnectionError` of a client.

        assert_backpressure(app, "/ws", publish="/announce")
    """
    _check(policy, publish, read, gauge)
    limits = BackpressureLimits(
        policy,
        argument("max_kept", bytes_of, max_kept),
        optional_argument("idle", interval_of, idle),
        argument("within", seconds_of, within),
    )
    with served(server) as url:

        async def broadcast(text: str) -> None:
            if callable(publish):
                await asyncio.to_thread(publish, text)
                return
            plain_text = {"content-type": "text/plain"}
            answer = await ask(url, Request("POST", publish, text.encode(), plain_text))
            if answer.status >= 300:  # noqa: PLR2004 - the server did not accept the text
                raise nothing_measured(
                    "server",
                    f"POST {publish} answers {answer.status}",
                    "give publish= a path or a function that broadcasts",
                )

        async def client_count() -> float:
            if read is None or gauge is None:
                return 0.0
            return (await reading_of(url, read, [gauge]))[gauge]

        drive = ClientDriver(f"ws{url[4:]}{path}", broadcast, limits.within, say, limits.every)
        for _ in range(_MAX_RUNS):
            evidence = run(
                "assert_backpressure",
                lambda: drive_clients(drive, client_count, limits.max_kept, limits.idle),
            )
            verdict = verdict_on_broadcasts(evidence, limits)
            if verdict.verdict != "inconclusive":
                break
    return concluded(verdict)


def _check(policy: str, publish: object, read: Read | None, gauge: str | None) -> None:
    """Raise `ValueError` or `TypeError` for arguments that do not fit together."""
    if policy not in ("skip", "close"):
        msg = f"policy must be 'skip' or 'close', not {policy!r}"
        raise ValueError(msg)
    if (read is None) is not (gauge is None):
        msg = "read= and gauge= go together: the path of the metrics, and the gauge of clients"
        raise ValueError(msg)
    if iscoroutinefunction(publish):
        msg = (
            "publish is called from a thread, and must not be a coroutine function: "
            "lambda text: asyncio.run_coroutine_threadsafe(publish(text), loop).result()"
        )
        raise TypeError(msg)


class BackpressureLimits(NamedTuple):
    """The limits of one check; times are in seconds, sizes in bytes. See `assert_backpressure`."""

    policy: Policy
    max_kept: int
    idle: float | None
    within: float

    @property
    def every(self) -> float:
        """Seconds between two messages that a client sends to stay connected."""
        return (self.idle or _DEFAULT_IDLE_S) / _SENDS_PER_IDLE


def verdict_on_broadcasts(evidence: BackpressureEvidence, limits: BackpressureLimits) -> Verdict:
    """Return the verdict on the messages that the clients received."""
    failure, kept = _failure(evidence, limits), evidence.kept
    figures = Figures(
        given={"broadcast": evidence.flood}, bytes={"kept": kept}, limits={"kept": limits.max_kept}
    )
    if doubt := _doubt(evidence, limits, failure):
        entries = {
            "means": "this process hardly ran then, and clients may have seemed gone to the server",
            "try": "run it on a less busy machine, or with a longer idle= here and in the server",
        }
        return inconclusive(doubt, figures, labelled_lines(entries))
    if failure is None:
        held = f"{size(kept)} kept for a stalled client or in sockets"
        headline = f"{evidence.flood} messages of {size(MESSAGE)} arrived, {held}"
        return passed(headline, figures)
    headline, means, advice = failure
    rows = [
        [client.name, str(count), str(max(client.numbers, default=0) + 1 - count if count else 0)]
        for client in evidence.clients
        for count in [len(client.numbers)]
    ]
    lines = labelled_lines({"means": means, "try": advice})
    return exceeded(headline, figures, lines, table_lines(["client", "messages", "left out"], rows))


def _doubt(
    evidence: BackpressureEvidence, limits: BackpressureLimits, failure: object
) -> str | None:
    """Return the headline of an inconclusive run, or None where the run proves something.

    A run proves nothing where this process stood still for two thirds of the `idle` period. The
    server may then rightly close a client that could not send, and a quiet client that received no
    broadcast may have been closed for that reason.
    """
    too_long = (_SENDS_PER_IDLE - 1) * limits.every
    closed = evidence.closed or (evidence.hung_up and limits.policy == "skip")
    if closed and evidence.silent >= too_long:
        return f"clients that could not send for {duration(evidence.silent)} were closed"
    if failure is None and limits.idle and evidence.broadcast_gap >= too_long:
        gap = duration(evidence.broadcast_gap)
        return f"a quiet client was closed, but nothing was broadcast for {gap}"
    return None


def _failure(
    evidence: BackpressureEvidence, limits: BackpressureLimits
) -> tuple[str, str, str] | None:
    """Return the headline, the meaning and the advice of the first broken rule, or None."""
    policy, max_kept, idle, within = limits
    fast, kept = evidence.clients[:FAST], evidence.kept
    patience, allowed, waited = map(duration, (within, idle or 0.0, 2 * (idle or 0.0) + 1))
    fewest = min(len(client.numbers) for client in fast)
    unordered = [
        client.name
        for client in evidence.clients
        if any(number >= later for number, later in pairwise(client.numbers))
    ]
    sent = list(range(evidence.flood))
    lost = [client.name for client in fast if client.numbers[: evidence.flood] != sent]
    closed_names = ", ".join(client.name for client in evidence.closed)
    reason = next((client.reason for client in evidence.closed), "")
    rules: Sequence[tuple[object, tuple[str, str, str]]] = (
        (
            evidence.closed and idle,
            (
                f"clients that sent a message every {duration(limits.every)} were closed",
                f"{closed_names}: closed with {reason}",
                "restart the idle timer whenever a client sends a message",
            ),
        ),
        (
            evidence.closed,
            (
                "clients that read every message were closed",
                f"{closed_names}: closed with {reason}",
                "see the server's log; if clients must send messages, set say= and idle=",
            ),
        ),
        (
            evidence.stuck and not any(client.numbers for client in evidence.clients),
            (
                f"no client received a message for {patience}",
                "the broadcast of publish= reaches no client",
                "call the event loop from a thread with asyncio.run_coroutine_threadsafe only",
            ),
        ),
        (
            evidence.stuck,
            (
                (
                    f"clients that read got {fewest} of {evidence.flood} messages, "
                    f"then none for {patience}"
                ),
                "one client that does not read holds up all the others",
                "give each client a queue of its own, and await no socket in the broadcast",
            ),
        ),
        (
            unordered,
            (
                f"messages came out of order to: {', '.join(unordered)}",
                "messages kept for a client are not sent in the order of the broadcasts",
                "use one queue and one sending task for each client",
            ),
        ),
        (
            lost,
            (
                f"messages were lost on the way to: {', '.join(lost)}",
                "a client that keeps up is treated as if it had fallen behind",
                "leave out messages only for a client that has reached its limit",
            ),
        ),
        (
            kept > max_kept + IN_SOCKETS,
            (
                f"{size(kept)} were kept for a client that read nothing, limit {size(max_kept)}",
                "memory grows with the slowest client, until the server is killed",
                "count the bytes kept for each client, and leave out messages over the limit",
            ),
        ),
        (
            policy == "close" and not evidence.hung_up,
            (
                "a client that read nothing was not closed, against policy='close'",
                "a client that falls behind stays connected, and the server keeps messages for it",
                "close it with status 1013 (try again later) when it reaches its limit",
            ),
        ),
        (
            policy == "skip" and evidence.hung_up,
            (
                "a client that read nothing was closed, against policy='skip'",
                "on a slow line, a page reconnects again and again",
                "leave out messages for it; or give policy='close'",
            ),
        ),
        (
            policy == "skip" and not evidence.resumed,
            (
                f"a client that reads again received nothing for {patience}",
                "a client that fell behind once gets no more messages, and its page stands still",
                "for each message, compare the bytes kept for the client now with the limit",
            ),
        ),
        (
            evidence.still_counted,
            (
                f"{evidence.still_counted:g} of {VANISHED} clients that vanished are still counted",
                "their memory is never released, and each broadcast is still sent to them",
                "remove a client in a finally: of the function that serves it",
            ),
        ),
        (
            evidence.quiet_stays,
            (
                f"a client that sent nothing for {waited} was not closed, limit {allowed}",
                "unused connections stay open for as long as the server broadcasts",
                "restart the idle timer for messages from the client, never for messages to it",
            ),
        ),
    )
    return next((failure for broken, failure in rules if broken), None)
