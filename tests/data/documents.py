"""Example reports, in the format that a test run writes.

Tests and benchmarks render them as an HTML page, Markdown and text. A report has a list of checks.
A check has a stem, which is its kind ("growth", "throttling"), a verdict, figures and series.
"""

from collections.abc import Mapping
from math import log2
from typing import Any

from pytest_streamperf._results.metrics import MOST_DRAWN
from pytest_streamperf._results.text import sparkline
from pytest_streamperf._results.units import duration, percent, size, thousands

# The limits of the checks: a share, and seconds between updates and for a stall.
SUPERLINEAR, INTERVAL, STALL = 0.25, 0.1, 0.05
# A made-up commit id.
COMMIT = "5f1c9e0b7a2d4c6e8f90a1b2c3d4e5f60718293a"


def sample() -> dict[str, Any]:
    """Return a report of 12 checks, with every stem and every verdict."""
    return document(
        [
            growth("tests/test_reply.py::test_reply_is_linear", bent=1.0),
            growth("tests/test_reply.py::test_tool_arguments[8 calls]", bent=0.02),
            growth("tests/test_markdown.py::test_incremental", bent=0.31, verdict="inconclusive"),
            updates("tests/test_view.py::test_tool_calls_are_throttled", every=0.1),
            updates("tests/test_view.py::test_text_is_throttled", every=0.02),
            flushes("tests/test_server.py::test_chunks_are_coalesced"),
            responsiveness(
                "tests/test_server.py::test_the_loop_stays_free[highlight]", stall=0.182
            ),
            responsiveness("tests/test_server.py::test_deltas_come_on_time", stall=0.004),
            network("tests/test_models.py::test_a_manager_is_made"),
            gate("tests/test_models.py::test_only_production_fetches"),
            service("tests/test_server.py::test_clients_may_leave"),
            service("tests/test_server.py::test_a_page_elsewhere_may_read", verdict="within"),
        ]
    )


def many(checks: int = 500) -> dict[str, Any]:
    """Return a report of many checks, of which one in ten exceeds its limit.

    The series of growth, updates and responsiveness are as long as a report can draw.
    """
    makers = (
        lambda test, exceeded: growth(test, bent=0.93 if exceeded else 0.04, rows=MOST_DRAWN),
        lambda test, exceeded: updates(test, every=0.02 if exceeded else 0.1, rows=MOST_DRAWN),
        lambda test, exceeded: responsiveness(
            test, stall=0.2 if exceeded else 0.01, rows=MOST_DRAWN
        ),
        lambda test, exceeded: service(test, verdict="exceeded" if exceeded else "within"),
        lambda test, _exceeded: gate(test),
    )
    return document(
        [
            makers[index % len(makers)](
                f"tests/unit/agents/test_stream_{index // 20}.py::test_reply_{index}[case {index}]",
                index % 10 == 0,
            )
            for index in range(checks)
        ]
    )


def document(checks: list[dict[str, Any]], **changed: Any) -> dict[str, Any]:
    """Return a report of these checks; `changed` replaces top-level entries."""
    return {
        "format": "pytest-streamperf report",
        "version": 1,
        "complete": True,
        "started": "2026-11-22T19:40:00+00:00",
        "took": 94.31,
        "commit": {"id": COMMIT, "dirty": True},
        "environment": {
            "python": "3.11.7",
            "implementation": "CPython",
            "system": "Linux",
            "machine": "x86_64",
            "cores": 2,
            "pytest": "9.0.1",
            "streamperf": "0.1.0",
        },
        "noise": {"waited": 0.052, "page_faults": 120734},
        "tests": 488,
        "lost": [],
        "checks": checks,
        **changed,
    }


def check(stem: str, test: str, **changed: Any) -> dict[str, Any]:
    """Return a check that is within; `changed` replaces its entries."""
    verdict = changed.get("verdict", "within")
    return {
        "test": test,
        "stem": stem,
        "number": 1,
        "verdict": verdict,
        "accepted": verdict == "within",
        "headline": "",
        "details": [],
        "picture": [],
        "given": {},
        "counts": {},
        "shares": {},
        "seconds": {},
        "bytes": {},
        "limits": {},
        "where": [],
        "series": {},
        "facts": {},
        **changed,
    }


def growth(test: str, *, bent: float, verdict: str = "", rows: int = 9) -> dict[str, Any]:
    """Return a growth check with the superlinear share `bent` at 20,000 deltas.

    `rows` is the number of points of its cost curves. A `verdict` of "" follows from the share.
    """
    lengths = [round(64 * 2 ** (index * log2(20_000 / 64) / (rows - 1))) for index in range(rows)]
    noise_factors = [1 + 0.03 * ((index * 7) % 5 - 2) for index in range(rows)]
    slope = bent * 4.2
    copies = [
        [length, _four_digits((140 + slope * length) * noise)]
        for length, noise in zip(lengths, noise_factors, strict=True)
    ]
    time = [
        [length, _four_digits((1.5e-7 + slope * length * 2e-11) * noise)]
        for length, noise in zip(lengths, noise_factors, strict=True)
    ]
    verdict = verdict or ("exceeded" if bent > SUPERLINEAR else "within")
    total = 20_000 * copies[-1][1]
    place, source = "agent/reply.py:41 in Reply.feed", "self.text += delta"
    details = (
        []
        if verdict == "within"
        else [
            "",
            "  deltas   per delta   allocated per delta",
            *(
                f"  {length:6,}   {duration(cost):>9}   {size(copied):>19}"
                for (length, cost), (_, copied) in list(zip(time, copies, strict=True))[-3:]
            ),
            "",
            f"  where  {place}: {source} (97% of growth)",
            "  means  every delta copies all the text before it",
            "  costs  18.5 ms at 20,000 deltas, about 1.7 s at 200,000",
            "  try    collect deltas in a list and ''.join once at the end",
            '  allow  copies="warn", if these streams stay short',
        ]
    )
    copied = f"20,000 deltas allocated {size(total)}, {percent(bent)} superlinear"
    return check(
        "growth",
        test,
        verdict=verdict,
        headline={
            "exceeded": f"{copied}, limit 25%",
            "inconclusive": "20,000 deltas, 19% to 43% superlinear, limit 25%: too uneven to tell",
            "within": f"20,000 deltas, {percent(bent)} superlinear, limit 25%",
        }[verdict],
        details=details,
        picture=[f"  allocated per delta  {sparkline([cost for _, cost in copies])}"],
        given={"up_to": 20_000, "metrics": "allocated_bytes, cpu_time, calls"},
        counts={"allocated bytes": round(total), "calls": 60_003},
        shares={
            "superlinear": bent,
            "superlinear low": _four_digits(bent * 0.6),
            "superlinear high": _four_digits(min(1.0, bent * 1.4)),
        },
        seconds={"at the maximum length": _four_digits(20_000 * time[-1][1])},
        limits={"superlinear": SUPERLINEAR},
        where=[
            {"place": place, "source": source, "share": 0.97},
            {"place": "agent/reply.py:58 in Reply.parse", "source": "json.loads(self.text)"}
            | {"share": 0.03},
        ]
        if verdict != "within"
        else [],
        series={"allocated_bytes": copies, "cpu_time": time, "fit": [copies[0], copies[-1]]},
        facts={"metric": "allocated_bytes"},
    )


def updates(test: str, *, every: float, rows: int = 40) -> dict[str, Any]:
    """Return a throttling check of a view that updates every `every` seconds (limit: 0.1 s)."""
    exceeded = every < INTERVAL
    deltas = [[_four_digits(index * 0.05), 11 * (index + 1)] for index in range(rows)]
    kept = round(max(1.0, every / 0.05))
    return check(
        "throttling",
        test,
        verdict="exceeded" if exceeded else "within",
        headline="text: an update came 20.0 ms after the one before it, limit 1 per 100 ms"
        if exceeded
        else f"{rows // kept} updates for {rows} deltas, limit 1 per 100 ms",
        details=[
            "",
            "  text    |...|...|...|...|...|...|....|...|...|...|...",
            "          U...U...U...U...U...U...U....U...U...U...U...",
            "              ^ 0.020 s",
            "",
            "  broke  2 of 15: rate bound per key",
            "  means  the sink gets more updates than allowed, perhaps one per delta",
            "  try    compare the time of the last update before you send another",
        ]
        if exceeded
        else [],
        picture=["  text    " + "|" * rows, "          " + "U".ljust(kept, ".") * (rows // kept)],
        given={"every": INTERVAL, "tokens": rows},
        counts={"updates": len(deltas[::kept]), "bytes sent": sum(row[1] for row in deltas)},
        seconds={"shortest interval": every},
        limits={"updates per second": 10},
        series={"deltas": deltas, "updates": deltas[::kept]},
    )


def flushes(test: str) -> dict[str, Any]:
    """Return a throttling check of a server that flushes its 48 writes by time."""
    writes = [[_four_digits(index * 0.031), 480 * (index + 1)] for index in range(48)]
    carried = [[row[0], 480 * 4] for row in writes[3::4]]
    return check(
        "throttling",
        test,
        headline="12 flushes for 48 writes, limit 1 per 100 ms",
        given={"within": 0.1},
        counts={"flushes": len(carried), "bytes": writes[-1][1]},
        limits={"flushes": 16},
        series={"writes": writes, "flushes": carried},
    )


def responsiveness(test: str, *, stall: float, rows: int = 48) -> dict[str, Any]:
    """Return a responsiveness check whose longest stall lasted `stall` seconds."""
    exceeded = stall > STALL
    gaps = [
        [_four_digits(index * 0.12), _four_digits(0.02 + 0.003 * (index % 7))]
        for index in range(rows)
    ]
    return check(
        "responsiveness",
        test,
        verdict="exceeded" if exceeded else "within",
        # `mode = "warn"` accepts exceeded checks.
        accepted=True,
        headline=f"the event loop stood still for {duration(stall)}, limit 50.0 ms"
        if exceeded
        else f"the event loop was never held for more than {duration(stall)}, limit 50.0 ms",
        details=[
            "",
            "  where  server/highlight.py:10 in highlight:",
            "         pygments.highlight(text, lexer, formatter)",
            "  means  no other task runs meanwhile, so no delta is shown",
            "  try    await asyncio.to_thread(...), or do it in pieces",
        ]
        if exceeded
        else [],
        counts={"messages": rows},
        shares={"of the time held": _four_digits(stall / 6)},
        seconds={"longest stall": stall, "longest gap": 0.038, "longest pause": 0.0021},
        limits={"longest stall": STALL, "longest gap": 0.2},
        where=[
            {
                "place": "server/highlight.py:10 in highlight",
                "source": "pygments.highlight(text, lexer, formatter)",
                "share": 1.0,
            }
        ]
        if exceeded
        else [],
        series={
            "gaps": gaps,
            "stalls": [[2.31, stall], [4.07, _four_digits(stall / 3)]],
            "pauses": [[1.2, 0.0021], [3.9, 0.0012]],
        },
    )


def network(test: str) -> dict[str, Any]:
    """Return a network check that found an attempt of a constructor to fetch."""
    return check(
        "network",
        test,
        verdict="exceeded",
        headline="1 attempt to look up models.example, limit 0",
        details=[
            "",
            "  where  agent/models.py:13 in fetch:",
            "         urllib.request.urlopen(LISTING, timeout=5)",
            "  from   agent/models.py:25 in Manager.__init__: self.thread.start()",
            "  what   GET https://models.example/list, in thread Thread-1 (fetch),",
            "         blocked",
            "  means  a fetch begins with a question to an outside name server",
            "  try    gate it for tests, and test that: assert_fetch_is_gated(...)",
        ],
        counts={"attempts": 1},
        limits={"attempts": 0},
        where=[
            {
                "place": "agent/models.py:13 in fetch",
                "source": "urllib.request.urlopen(LISTING, timeout=5)",
                "share": 1.0,
            }
        ],
        series={
            "attempts": [
                ["look up", "models.example", "refused"],
                ["connect", "127.0.0.1:8123", "allowed"],
            ]
        },
    )


def gate(test: str) -> dict[str, Any]:
    """Return a network check of a gate that holds in each of 4 environments."""
    return check(
        "network",
        test,
        headline="silent under test, alive in production, in 4 environments",
        given={"target": "agent.models:Manager"},
        counts={"attempts under test": 0},
        series={
            "attempts": [
                ["production", "models.example", "fetches"],
                ["CI", "models.example", "fetches"],
                ["collection", "", "silent"],
                ["call", "", "silent"],
            ]
        },
    )


def service(test: str, *, verdict: str = "inconclusive") -> dict[str, Any]:
    """Return a server check with 50 clients and this verdict."""
    texts: Mapping[str, tuple[str, list[str]]] = {
        "within": (f"all gauges settle, after {thousands(1000)} clients", []),
        "exceeded": (
            "streams_open is 3 after 50 clients have left, limit 0",
            ["", "  means  what a client held is never given back", "  try    a finally: clause"],
        ),
        "inconclusive": (
            "no gauge of the server moved while 50 clients were served",
            ["", "  means  what is watched is not what is used", "  try    name gauges=[...]"],
        ),
    }
    headline, details = texts[verdict]
    return check(
        "server",
        test,
        verdict=verdict,
        headline=headline,
        details=details,
        given={"clients": 50, "url": "in process"},
        counts={"streams_open afterwards": 3 if verdict == "exceeded" else 0},
        seconds={"until it settled": 0.412},
        limits={"streams_open afterwards": 0},
    )


def _four_digits(value: float) -> float:
    """Return the value rounded to four significant digits."""
    return float(f"{value:.4g}")
