"""What a network check says: where to, who did it, who started that, and what to do about it."""

from collections import Counter
from collections.abc import Sequence

from pytest_streamperf._results.text import fit_line, labelled_lines, location_lines
from pytest_streamperf.network.attempts import Attempt

_MOST_SHOWN = 3
_SAYS = {"connect": "to connect to", "datagram": "to send to", "resolve": "to look up"}
# Why it is not known where to, and what to do about it.
_UNKNOWN = {
    "connect": (
        "its memory may not be read: Yama forbids that, or the process",
        "sysctl kernel.yama.ptrace_scope=0, or run as root",
    ),
    "ring": (
        "what goes by a ring is seen by nobody, so there is none, as in older kernels",
        "have it use epoll; or background_fetch=True, if it is for files alone",
    ),
}


def headline(attempts: Sequence[Attempt]) -> str:
    """Say how many there were, the first of them, and the limit."""
    if not attempts:
        return "no attempt to reach the network, limit 0"
    first = attempts[0]
    count = "1 attempt" if len(attempts) == 1 else f"{len(attempts):,} attempts"
    return fit_line(f"{count} {_SAYS[first.kind]} {_targets(attempts)}, limit 0")


def _targets(attempts: Sequence[Attempt]) -> str:
    targets = list(dict.fromkeys(each.target for each in attempts))
    return targets[0] if len(targets) == 1 else f"{targets[0]} and {len(targets) - 1} more"


def details(attempts: Sequence[Attempt]) -> Sequence[str]:
    """Say who did it, who started that, what it means and what to do."""
    if not attempts:
        return ()
    first = attempts[0]
    hosts = Counter(each.host or each.address for each in attempts if each.host or each.address)
    allow = ", ".join(f'"{host}"' for host, _ in hosts.most_common(_MOST_SHOWN))
    started = first.started
    return (
        "",
        *(_line("where", first.line.where, first.line.source) if first.line else ()),
        *(
            _line("from", started.where, started.source)
            if started and started != first.line
            else ()
        ),
        *labelled_lines(
            {
                "what": what(first),
                "means": _means(first),
                "try": "gate it for tests, and test that: assert_fetch_is_gated(...)",
                "allow": f"allow_hosts=[{allow}], if that is meant" if allow else "",
            }
        ),
    )


def headline_unknown(attempts: Sequence[Attempt]) -> str:
    """Say how many there were of those that nobody knows where to."""
    one = len(attempts) == 1
    if attempts[0].kind == "ring":
        return "an io_uring was asked for" if one else f"{len(attempts):,} io_urings were asked for"
    return f"{'1 call' if one else f'{len(attempts):,} calls'} to an address that could not be read"


def details_unknown(attempts: Sequence[Attempt]) -> Sequence[str]:
    """Say who did it, why it is not known where to, and what to do."""
    why, remedy = _UNKNOWN["ring" if attempts[0].kind == "ring" else "connect"]
    return ("", *labelled_lines({"what": what(attempts[0]), "why": why, "try": remedy}))


def _line(label: str, place: str, source: str) -> list[str]:
    shown = [line.rstrip() for line in location_lines([place], source, "")]
    return [shown[0].replace("  where", f"  {label:5}", 1), *shown[1:]]


def row(attempt: Attempt) -> tuple[str, str, str]:
    """How it was tried, where to, and what came of it."""
    came = "blocked" if attempt.blocked else "allowed" if attempt.allowed else "made"
    return attempt.kind, attempt.target, came


def what(attempt: Attempt) -> str:
    """Say how it was tried: the request, the thread or task, and whether it came through."""
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
        return "a fetch begins, with a question to a name server elsewhere"
    return "a fetch races with the test, and both depend on somebody's server"
