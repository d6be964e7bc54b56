"""The message of a network check: targets, the guilty lines, the meaning and the next step.

In go the attempts that count and are not allowed. Out come the headline and the detail lines.
"""

from collections import Counter
from collections.abc import Sequence

from pytest_streamperf._results.text import fit_line, labelled_lines, location_lines
from pytest_streamperf.network.attempts import Attempt

_MAX_SHOWN_HOSTS = 3  # in the advice `allow`, which is one line
_PHRASES = {"connect": "to connect to", "datagram": "to send to", "resolve": "to look up"}
# By kind of attempt without a known target: the reason, and the remedy.
_UNKNOWN_TARGETS = {
    "connect": (
        "the guard may not read the memory of the process: see Yama",
        "sysctl kernel.yama.ptrace_scope=0, or run as root",
    ),
    "ring": (
        "an io_uring cannot be observed, so the guard refuses it",
        "use epoll, or background_fetch=True if the ring is for files",
    ),
}


def headline(attempts: Sequence[Attempt]) -> str:
    """Return the number of attempts, the first target and the limit."""
    if not attempts:
        return "no attempt to reach the network, limit 0"
    first = attempts[0]
    count = "1 attempt" if len(attempts) == 1 else f"{len(attempts):,} attempts"
    return fit_line(f"{count} {_PHRASES[first.kind]} {_targets(attempts)}, limit 0")


def _targets(attempts: Sequence[Attempt]) -> str:
    targets = list(dict.fromkeys(attempt.target for attempt in attempts))
    return targets[0] if len(targets) == 1 else f"{targets[0]} and {len(targets) - 1} more"


def details(attempts: Sequence[Attempt]) -> Sequence[str]:
    """Return the lines about the first attempt: its code, its starter, meaning and remedy."""
    if not attempts:
        return ()
    first = attempts[0]
    hosts = Counter(
        attempt.host or attempt.address for attempt in attempts if attempt.host or attempt.address
    )
    allow = ", ".join(f'"{host}"' for host, _ in hosts.most_common(_MAX_SHOWN_HOSTS))
    started = first.started
    return (
        "",
        *(_place_lines("where", first.line.where, first.line.source) if first.line else ()),
        *(
            _place_lines("from", started.where, started.source)
            if started and started != first.line
            else ()
        ),
        *labelled_lines(
            {
                "what": description(first),
                "means": _means(first),
                "try": "gate it for tests, and test that: assert_fetch_is_gated(...)",
                "allow": f"allow_hosts=[{allow}], if the test needs it" if allow else "",
            }
        ),
    )


def headline_unknown(attempts: Sequence[Attempt]) -> str:
    """Return the number of attempts whose target is unknown."""
    one = len(attempts) == 1
    if attempts[0].kind == "ring":
        return "1 io_uring was created" if one else f"{len(attempts):,} io_urings were created"
    return f"{'1 call' if one else f'{len(attempts):,} calls'} to an address that could not be read"


def details_unknown(attempts: Sequence[Attempt]) -> Sequence[str]:
    """Return the lines about an unknown target: the code, the reason and the remedy."""
    why, remedy = _UNKNOWN_TARGETS["ring" if attempts[0].kind == "ring" else "connect"]
    return ("", *labelled_lines({"what": description(attempts[0]), "why": why, "try": remedy}))


def _place_lines(label: str, place: str, source: str) -> list[str]:
    lines = [line.rstrip() for line in location_lines([place], source, "")]
    return [lines[0].replace("  where", f"  {label:5}", 1), *lines[1:]]


def row(attempt: Attempt) -> tuple[str, str, str]:
    """Return a table row: the kind, the target and the result of an attempt."""
    result = "blocked" if attempt.blocked else "allowed" if attempt.allowed else "made"
    return attempt.kind, attempt.target, result


def description(attempt: Attempt) -> str:
    """Return the request of an attempt, its thread or task, and whether it was blocked."""
    kernel = attempt.seen_by == "kernel"
    parts = [
        attempt.request,
        f"in thread {attempt.thread_name}" if attempt.started and attempt.thread_name else "",
        f"in task {attempt.task}" if attempt.task else "",
        f"by {attempt.thread_name or 'native code'}, process {attempt.process}" if kernel else "",
        "seen by the kernel only" if kernel else "",
        "blocked" if attempt.blocked else "",
    ]
    return ", ".join(filter(None, parts))


def _means(attempt: Attempt) -> str:
    if attempt.kind == "resolve":
        return "a fetch begins with a question to an outside name server"
    return "a fetch races with the test, and both depend on a foreign server"
