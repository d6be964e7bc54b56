"""Broadcasting to clients of which some are slow: nobody waits for them, and little is kept."""

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
    Drive,
    Evidence,
    driven,
)

__tracebackhide__ = True  # pytest shows the user's own frames

Policy = Literal["skip", "close"]

# How often a client says something while a server waits for a word, and how many runs there are
# where one could not.
_WORDS, _RUNS = 3, 3


def assert_backpressure(  # noqa: PLR0913 - how it is reached, and what it promises
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

    `publish` is the path to which a text is sent for everyone, or what is called with it, from a
    thread. Each message is of 64 KiB and must reach every client that reads, in order and within
    `within` seconds, whatever others do. A client that reads nothing has `max_kept` bytes kept for
    it; beyond that, by the `policy`, messages are left out until it reads again, or it is hung up
    on. `gauge` is the number of clients in the metrics that `read` gives, a path or what is
    called; those that vanish are to be gone from it, unless `read` is None.

    With `idle`, the seconds after which the server closes whoever says nothing, that is waited
    for, and a client that sends `say` three times as often must stay. It is to be short.

    Raises `ServerExceeded`, `Inconclusive` where this machine let nobody say anything for so long
    that the server may hang up, three times; `NothingMeasured` where a path is not there,
    `TypeError` and `ValueError` for arguments that cannot be, and what clients meet.

        assert_backpressure(app, "/ws", publish="/announce")
    """
    _check(policy, publish, read, gauge)
    promise = Promise(
        policy,
        argument("max_kept", bytes_of, max_kept),
        optional_argument("idle", interval_of, idle),
        argument("within", seconds_of, within),
    )
    with served(server) as url:

        async def tell(text: str) -> None:
            if callable(publish):
                await asyncio.to_thread(publish, text)
                return
            plain = {"content-type": "text/plain"}
            answer = await ask(url, Request("POST", publish, text.encode(), plain))
            if answer.status >= 300:  # noqa: PLR2004 - it was not taken
                raise nothing_measured(
                    "server",
                    f"POST {publish} answers {answer.status}",
                    "give publish= what broadcasts",
                )

        async def counted() -> float:
            if read is None or gauge is None:
                return 0.0
            return (await reading_of(url, read, [gauge]))[gauge]

        drive = Drive(f"ws{url[4:]}{path}", tell, promise.within, say, promise.every)
        for _ in range(_RUNS):
            found = run(
                "assert_backpressure",
                lambda: driven(drive, counted, promise.max_kept, promise.idle),
            )
            outcome = judged(found, promise)
            if outcome.verdict != "inconclusive":
                break
    return concluded(outcome)


def _check(policy: str, publish: object, read: Read | None, gauge: str | None) -> None:
    if policy not in ("skip", "close"):
        msg = f"policy must be 'skip' or 'close', not {policy!r}"
        raise ValueError(msg)
    if (read is None) is not (gauge is None):
        msg = "read= and gauge= go together: where the metrics are, and which number counts clients"
        raise ValueError(msg)
    if iscoroutinefunction(publish):
        msg = (
            "publish is called from a thread, and must be no coroutine function: "
            "lambda text: asyncio.run_coroutine_threadsafe(publish(text), loop).result()"
        )
        raise TypeError(msg)


class Promise(NamedTuple):
    """What a server promises; see `assert_backpressure`."""

    policy: Policy
    max_kept: int
    idle: float | None
    within: float

    @property
    def every(self) -> float:
        """Seconds from word to word of a client that has something to say."""
        return (self.idle or 30.0) / _WORDS


def judged(found: Evidence, promise: Promise) -> Verdict:
    """Hold what clients got to what was promised."""
    fault, kept = _fault(found, promise), found.kept
    figures = Figures(
        given={"broadcast": found.flood}, bytes={"kept": kept}, limits={"kept": promise.max_kept}
    )
    if may_be := _may_be(found, promise, fault):
        entries = {
            "means": "this process hardly ran meanwhile, and a server may take clients for gone",
            "try": "run it where less else runs, or where the server waits longer: idle=",
        }
        return inconclusive(may_be, figures, labelled_lines(entries))
    if fault is None:
        held = f"{size(kept)} held for who stalled, in sockets too"
        what = f"{found.flood} messages of {size(MESSAGE)} in step, {held}"
        return passed(what, figures)
    headline, means, advice = fault
    rows = [
        [each.who, str(got), str(max(each.numbers, default=0) + 1 - got if got else 0)]
        for each in found.clients
        for got in [len(each.numbers)]
    ]
    lines = labelled_lines({"means": means, "try": advice})
    return exceeded(headline, figures, lines, table_lines(["client", "messages", "left out"], rows))


def _may_be(found: Evidence, promise: Promise, fault: object) -> str | None:
    """What proves nothing, as clients could say nothing, or be told nothing, for so long."""
    too_long = (_WORDS - 1) * promise.every
    closed = found.closed or (found.hung_up and promise.policy == "skip")
    if closed and found.silent >= too_long:
        return f"clients that could say nothing for {duration(found.silent)} were closed"
    if fault is None and promise.idle and found.untold >= too_long:
        return f"a quiet client was closed, but nothing was told for {duration(found.untold)}"
    return None


def _fault(found: Evidence, promise: Promise) -> tuple[str, str, str] | None:
    policy, max_kept, idle, within = promise
    fast, kept = found.clients[:FAST], found.kept
    patience, allowed, waited = map(duration, (within, idle or 0.0, 2 * (idle or 0.0) + 1))
    got = min(len(each.numbers) for each in fast)
    unordered = [
        each.who for each in found.clients if any(a >= b for a, b in pairwise(each.numbers))
    ]
    lost = [each.who for each in fast if each.numbers[: found.flood] != list(range(found.flood))]
    people = ", ".join(each.who for each in found.closed)
    why = next((each.why for each in found.closed), "")
    rules: Sequence[tuple[object, tuple[str, str, str]]] = (
        (
            found.closed and idle,
            (
                f"clients that said something every {duration(promise.every)} were closed",
                f"{people}: thrown out, with {why}",
                "start the clock again whenever a client says something",
            ),
        ),
        (
            found.closed,
            (
                "clients that read what they were told were closed",
                f"{people}: thrown out, with {why}",
                "see its log; if it wants a word now and then: say=, and idle= for how often",
            ),
        ),
        (
            found.stuck and not any(each.numbers for each in found.clients),
            (
                f"nothing of what was broadcast came to anyone, for {patience}",
                "what publish= does reaches no client",
                "from a thread, a loop is reached by asyncio.run_coroutine_threadsafe alone",
            ),
        ),
        (
            found.stuck,
            (
                f"clients that read got {got} of {found.flood} messages, then none for {patience}",
                "one client that does not read holds up all the others",
                "keep what a client has not taken in a queue of its own, and await no socket",
            ),
        ),
        (
            unordered,
            (
                f"messages came out of order to: {', '.join(unordered)}",
                "what is kept for a client is not sent first come, first served",
                "one queue and one task for each client",
            ),
        ),
        (
            lost,
            (
                f"messages were lost on the way to: {', '.join(lost)}",
                "a client that keeps up is treated as one that does not",
                "leave messages out only where the limit is reached",
            ),
        ),
        (
            kept > max_kept + IN_SOCKETS,
            (
                f"{size(kept)} were kept for a client that read nothing, limit {size(max_kept)}",
                "memory grows with the slowest client, until the server is killed",
                "count what is kept for each client, and leave out what is over the limit",
            ),
        ),
        (
            policy == "close" and not found.hung_up,
            (
                "a client that read nothing was not hung up on",
                "a client that is to be closed when it falls behind stays, and is kept for",
                "close it with 1013 when its limit is reached",
            ),
        ),
        (
            policy == "skip" and found.hung_up,
            (
                "a client that read nothing was hung up on, against policy='skip'",
                "who has a slow line sees the page reconnect, again and again",
                "leave messages out for it; or say policy='close'",
            ),
        ),
        (
            policy == "skip" and not found.resumed,
            (
                f"a client that reads again was told nothing for {patience}",
                "who fell behind once is out of it for good, and sees a page that stands still",
                "look at what is kept for a client each time, not at what once was",
            ),
        ),
        (
            found.still_counted,
            (
                f"{found.still_counted:g} of {VANISHED} clients that vanished are still counted",
                "what is kept for the dead is never given back, and each broadcast goes to them",
                "take a client out in the finally: of what serves it",
            ),
        ),
        (
            found.quiet_stays,
            (
                f"a client that said nothing for {waited} was not closed, limit {allowed}",
                "connections that nobody uses stay open as long as there is something to tell them",
                "start the clock again for what a client says, never for what it is told",
            ),
        ),
    )
    return next((fault for holds, fault in rules if holds), None)
