"""Regressions that are switched while the server runs: those of the process, so for everybody.

    GET  /api/dev/regressions   {"regressions": [{"name", "check", "story", "on", "shows"}, ...]}
    POST /api/dev/regressions   {"on": [name, ...]}: these, and of those switched before no others

`on` is whether it is in place; of two that replace the same name, that is the one that came last.
What was in place before, by `--regress` say, stays. `shows` is what there is to see on the page at
`/`, or nothing where that takes a check. When a server stops, all that was switched is put back.
"""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from reprlib import repr as short
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reference_impl.bodies import RequestError, read_json, refuse_strangers
from reference_impl.regressions import REGRESSIONS, regressed
from reference_impl.seeded_regressions import Regression

_BODY = '{"on": [name, ...]}'

SHOWS: Final = {
    "quadratic-accumulator": "Run the long message: tokens come slower and slower.",
    "no-throttle": "Run: an update for each token, 50 a second where 10 were promised.",
    "trailing-value-lost": "Run: text is missing at the end of the updates.",
    "final-flush-after-end": "Run: an update comes after the end.",
    "leading-only": "Run: text is missing at the end, unless the last update came by chance.",
    "trailing-debounce": "Run: two updates, and nothing between the first and the end.",
    "stale-value": "Run: updates are behind what was written.",
    "flush-per-token": "Run: as many flushes as tokens, where a few share one.",
    "held-back-tail": "Run: the flushes stop, and the last tokens and the end never come.",
    "swallowed-error-flush": "Run the message that fails: the flushes stop, and nobody says why.",
    "gauge-leaks-on-disconnect": "Run, and stop midway: pendingRequests stays up, "
    "until the server starts again.",
    "gauge-goes-negative": "Ask for two snapshots at once: pendingRequests falls below 0, "
    "until the server starts again.",
    "totals-miss-failures": "Ask for two snapshots at once: fewer responses than requests.",
    "buffer-without-end": "Broadcast beside a client that reads nothing: bufferedBytes pass 1 MiB.",
    "broadcast-waits": "Broadcast beside a client that reads nothing: this page waits with it.",
    "never-resumes": "Broadcast beside a client that reads nothing: it is told nothing later.",
    "dead-clients-kept": "Reload this page: clients still counts the one that left.",
    "cors-missing-on-errors": "With ?server= of another port, ask for what is not there.",
    "snapshot-on-the-loop": "Run, and take a snapshot meanwhile: everything stands still.",
    "snapshot-in-memory": "Take a snapshot: it comes late, and in one piece.",
    "deep-json-fails": "Send JSON nested 100,000 deep: 500, where 400 was meant.",
    "cut-off-at-stop": "Run, and press Ctrl-C in the terminal: streams end without a word.",
}
"""What there is to see on the page, by regression. Of the others a check tells."""

_switched = ExitStack()


def routes(max_body: int) -> list[Route]:
    """The list, and what switches them; a body is of `max_body` bytes at most."""

    async def switches(request: Request) -> Response:
        if request.method == "POST":
            refuse_strangers(request)
            switch(_names(await read_json(request, max_body, _BODY)))
        listed = [_listed(regression) for regression in REGRESSIONS.values()]
        return JSONResponse({"regressions": listed}, headers={"Cache-Control": "no-store"})

    return [Route("/api/dev/regressions", switches, methods=["GET", "POST"])]


def switch(names: list[str]) -> None:
    """Put these in place, and back what was switched before. Raises as `regressed` does."""
    _switched.close()
    _switched.enter_context(regressed(*names))


@asynccontextmanager
async def restored(_app: object) -> AsyncIterator[None]:
    """Put all back when the server stops: a lifespan."""
    try:
        yield
    finally:
        _switched.close()


def _names(data: Any) -> list[str]:
    match data:
        case {"on": [*names]} if all(isinstance(name, str) for name in names):
            unknown = sorted(set(names) - set(REGRESSIONS))
            if unknown:
                allowed = ", ".join(sorted(REGRESSIONS))
                message = f"no regression {short(unknown[0])}, allowed: {allowed}"
                raise RequestError(422, "unknown_regression", message)
            return list(dict.fromkeys(names))  # each of them once, however often it is named
    raise RequestError(422, "wrong_shape", f"the body is not what it should be, allowed: {_BODY}")


def _listed(regression: Regression) -> dict[str, object]:
    return {
        "name": regression.name,
        "check": regression.check,
        "story": regression.story,
        "on": getattr(*regression.place()) is regression.replacement,
        "shows": SHOWS.get(regression.name, ""),
    }
