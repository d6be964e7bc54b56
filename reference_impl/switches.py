"""Paths that switch seeded regressions on and off while the server runs.

    GET  /api/dev/regressions   {"regressions": [{"name", "check", "story", "on", "shows"}, ...]}
    POST /api/dev/regressions   {"on": [name, ...]}: switch these on, and all others off

The switches apply to the whole process, so to every client. A regression that was in place before,
for example by `--regress`, stays. `on` is true for a regression in place; of two that replace the
same name, only the last one is in place. `shows` says how a user can see the regression on the page
at `/`; it is empty where only a check shows it. A server that stops switches all of them off.
"""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from reprlib import repr as short
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reference_impl.bodies import RequestError, read_json, refuse_foreign_origin
from reference_impl.regressions import REGRESSIONS, regressed
from reference_impl.seeded_regressions import Regression

_BODY = '{"on": [name, ...]}'

SHOWS: Final = {
    "quadratic-accumulator": "Run the long message: the tokens arrive more and more slowly.",
    "no-throttle": "Run: every token causes an update, about 50 a second instead of 10.",
    "trailing-value-lost": "Run: text is missing at the end of the updates.",
    "final-flush-after-end": "Run: an update arrives after the end.",
    "leading-only": "Run: text is missing at the end, unless an update happens to be due there.",
    "trailing-debounce": "Run: one update at the start, one at the end, and none between them.",
    "stale-value": "Run: the updates lag behind the written text.",
    "flush-per-token": "Run: every token has its own flush; without it, several tokens share one.",
    "held-back-tail": "Run: the flushes stop before the last tokens and the end of the stream.",
    "swallowed-error-flush": "Run the message that fails: the flushes stop without an error "
    "message.",
    "gauge-leaks-on-disconnect": "Run and stop midway: pendingRequests stays above 0 "
    "until the server restarts.",
    "gauge-goes-negative": "Ask for two snapshots at once: pendingRequests falls below 0 "
    "until the server restarts.",
    "totals-miss-failures": "Ask for two snapshots at once: responses grows less than requests.",
    "buffer-without-end": "Broadcast beside a client that reads nothing: bufferedBytes exceeds "
    "1 MiB.",
    "broadcast-waits": "Broadcast beside a client that reads nothing: this page waits for it.",
    "never-resumes": "Broadcast beside a client that reads nothing: once it reads, it gets "
    "no messages.",
    "dead-clients-kept": "Reload this page: clients still counts the page before the reload.",
    "cors-missing-on-errors": "With ?server= of another port, request a path that does not exist.",
    "snapshot-on-the-loop": "Run, and take a snapshot meanwhile: all streams wait for it.",
    "snapshot-in-memory": "Take a snapshot: its first byte arrives as late as its last byte.",
    "deep-json-fails": "Send JSON nested 100,000 deep: the status is 500 instead of 400.",
    "cut-off-at-stop": "Run, and press Ctrl-C in the terminal: the streams end without an error "
    "event.",
}
"""How to see a seeded regression on the page, by name; only a check shows the missing ones."""

_switched_on = ExitStack()


def routes(max_body: int) -> list[Route]:
    """Return the route that lists and switches regressions; a body has at most `max_body` bytes."""

    async def switches(request: Request) -> Response:
        if request.method == "POST":
            refuse_foreign_origin(request)
            switch(_names_in_body(await read_json(request, max_body, _BODY)))
        listing = [_as_json(regression) for regression in REGRESSIONS.values()]
        return JSONResponse({"regressions": listing}, headers={"Cache-Control": "no-store"})

    return [Route("/api/dev/regressions", switches, methods=["GET", "POST"])]


def switch(names: list[str]) -> None:
    """Switch the regressions `names` on and all others off. Raises the errors of `regressed`."""
    _switched_on.close()
    _switched_on.enter_context(regressed(*names))


@asynccontextmanager
async def switched_off_at_shutdown(_app: object) -> AsyncIterator[None]:
    """Switch all regressions off when the server stops; this is the app's lifespan."""
    try:
        yield
    finally:
        _switched_on.close()


def _names_in_body(data: Any) -> list[str]:
    match data:
        case {"on": [*names]} if all(isinstance(name, str) for name in names):
            unknown = sorted(set(names) - set(REGRESSIONS))
            if unknown:
                allowed = ", ".join(sorted(REGRESSIONS))
                message = f"no regression {short(unknown[0])}, allowed: {allowed}"
                raise RequestError(422, "unknown_regression", message)
            return list(dict.fromkeys(names))  # one entry for a name that is repeated
    raise RequestError(422, "wrong_shape", f"the body has the wrong shape, allowed: {_BODY}")


def _as_json(regression: Regression) -> dict[str, object]:
    return {
        "name": regression.name,
        "check": regression.check,
        "story": regression.story,
        "on": getattr(*regression.locate()) is regression.replacement,
        "shows": SHOWS.get(regression.name, ""),
    }
