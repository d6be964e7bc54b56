"""Cross-origin headers on every answer, on errors and on what a cache holds, too."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from re import sub
from typing import Any, NamedTuple

from pytest_streamperf._results.conclusion import nothing_measured
from pytest_streamperf._results.metrics import Figures
from pytest_streamperf._results.text import fit_line, labelled_lines, table_lines
from pytest_streamperf._results.verdict import Verdict
from pytest_streamperf.server.clients import Answer, Request, ask
from pytest_streamperf.server.serving import App, run, served
from pytest_streamperf.server.verdicts import concluded, exceeded, passed
from pytest_streamperf.wire.server import unlogged

__tracebackhide__ = True  # pytest shows the user's own frames

ORIGIN = "https://page.example"

_NOWHERE, _RAISES = "/streamperf-nowhere", "/streamperf-raises"
_LARGE = 10 * 2**20
_MOST_ROWS = 4


class Seen(NamedTuple):
    """An answer: to what, and what it lacks, if anything."""

    request: str
    status: int
    lacks: str


def assert_cors(
    server: App | str,
    *,
    requests: Sequence[Request] = (),
    statuses: Sequence[int] = (),
    origin: str = ORIGIN,
) -> Verdict:
    """Ask a server everything that it may refuse, and hold that a page of `origin` can read it.

    Of an app with routes, as Starlette and FastAPI have them, in middleware or not, each is asked:
    beforehand, as browsers do, then with GET, with a body that it cannot want and one of 10 MB, by
    a method that it does not have, and with the tag that it gave for a cache; and a route is added
    for a while that raises. `requests` are asked as well, of a URL these alone; an unknown path is,
    always. `statuses` are those that must have been seen.

    Raises `ServerExceeded`, and `NothingMeasured` where a status of `statuses` was not seen, or
    there was nothing to ask for.

        assert_cors(app, statuses=(200, 404, 500))
    """
    routes = _routes(server)
    if not routes and not requests:
        raise nothing_measured(
            "server", "no routes are known of this server", "give requests=[...] to ask it"
        )
    walk = tuple(_walk(routes))
    with _raising(routes), served(server) as url:

        async def main() -> list[Seen]:
            raising = [Request("GET", _RAISES)] if isinstance(routes, list) else []
            asked = [*walk, *requests, Request("GET", _NOWHERE), *raising]
            seen = []
            for request in asked:
                answer = await _ask(url, request, origin)
                seen.append(_seen(request, answer, origin))
                if request.method == "GET" and "etag" in answer.headers:
                    headers = {"if-none-match": answer.headers["etag"]}
                    cached = Request(request.method, request.path, headers=headers)
                    seen.append(_seen(cached, await _ask(url, cached, origin), origin))
            return seen

        seen = run("assert_cors", main)
    unseen = [status for status in statuses if status not in {each.status for each in seen}]
    if unseen:
        raise nothing_measured(
            "server",
            f"no answer had status {', '.join(map(str, unseen))}",
            "give requests= that are answered so",
        )
    found = judged(seen, origin)
    return concluded(found)


def _routes(app: Any) -> Sequence[Any]:
    """The routes of an app, or of what is wrapped in middleware."""
    while app is not None and not hasattr(app, "routes"):
        app = getattr(app, "app", None)
    return getattr(app, "routes", ())


@contextmanager
def _raising(routes: Sequence[Any]) -> Iterator[None]:
    """Have an app with routes raise where it is asked to."""
    if not isinstance(routes, list):
        yield
        return
    from starlette.routing import Route  # noqa: PLC0415 - it has routes, so it is there

    error = RuntimeError("raised by assert_cors, to see what is answered")

    def raises(_request: object) -> None:
        raise error

    route = Route(_RAISES, raises)
    routes.insert(0, route)
    try:
        with unlogged(lambda raised: raised is error):  # nobody is to wonder
            yield
    finally:
        routes.remove(route)


def _walk(routes: Sequence[Any], before: str = "") -> Iterator[Request]:
    """Requests for each route that has methods: as good as any, and bad in each way."""
    for route in routes:
        methods = getattr(route, "methods", None)
        path = sub(r"{[^}]*}", "0", before + getattr(route, "path", ""))
        yield from _walk(getattr(route, "routes", None) or (), path)
        if not methods:
            continue
        for method in sorted(methods - {"HEAD", "OPTIONS"}):
            asks = {"access-control-request-method": method}
            if method != "GET":  # a body of JSON is asked for beforehand, too
                asks["access-control-request-headers"] = "content-type"
            yield Request("OPTIONS", path, headers=asks)
            if method == "GET":
                yield Request("GET", path)
            else:
                yield Request(method, path, b"{")
                yield Request(method, path, {"streamperf": None})
                yield Request(method, path, b" " * _LARGE, {"expect": "100-continue"})
        if "PUT" not in methods:
            yield Request("PUT", path)


async def _ask(url: str, request: Request, origin: str) -> Answer:
    headers = {"origin": origin, **request.headers}
    # Of a stream, which may have no end, the first piece is enough.
    return await ask(url, Request(request.method, request.path, request.body, headers), "midway")


def _seen(request: Request, answer: Answer, origin: str) -> Seen:
    allowed = answer.headers.get("access-control-allow-origin")
    lacks = ""
    if allowed not in {"*", origin}:
        lacks = "access-control-allow-origin" if allowed is None else f"allows {allowed}"
    elif request.method == "OPTIONS":
        method = request.headers.get("access-control-request-method", "GET")
        methods = answer.headers.get("access-control-allow-methods", "")
        if method not in {"GET", "HEAD", "POST"} and method not in methods and methods != "*":
            lacks = f"access-control-allow-methods: {method}"
        elif "access-control-request-headers" in request.headers and not any(
            each in {"*", "content-type"}
            for each in sub(
                r"\s", "", answer.headers.get("access-control-allow-headers", "").lower()
            ).split(",")
        ):
            lacks = "access-control-allow-headers: content-type"
        elif answer.status >= 300:  # noqa: PLR2004 - browsers want 2xx
            lacks = "a status of 2xx"
    return Seen(str(request), answer.status, lacks)


def judged(seen: Sequence[Seen], origin: str) -> Verdict:
    """Hold answers to be readable from `origin`."""
    lacking = [each for each in seen if each.lacks]
    figures = Figures(given={"answers": len(seen)}, counts={"lacking": len(lacking)})
    if not lacking:
        statuses = ", ".join(map(str, sorted({each.status for each in seen})))
        what = f"{len(seen)} answers can be read from anywhere: {statuses}"
        return passed(what, figures)
    by_status = {each.status: each for each in reversed(lacking)}
    rows = [
        [str(status), by_status[status].request, by_status[status].lacks]
        for status in sorted(by_status)[:_MOST_ROWS]
    ]
    statuses = ", ".join(map(str, sorted(by_status)))
    entries = {
        "means": f"a page of {origin} sees a network error, whatever it is",
        "try": "add the headers around the whole app: a framework answers errors, and what a cache "
        "holds, past the code that answers the rest",
    }
    return exceeded(
        f"{len(lacking)} of {len(seen)} answers keep other origins out: {statuses}",
        figures,
        labelled_lines(entries),
        [*map(fit_line, table_lines(["status", "for", "lacks"], rows))],
    )
