"""Check that pages of another origin can read every answer of a server, errors and 304 included.

`assert_cors` takes an ASGI app or a URL. It sends valid, bad and preflight requests to each route,
and returns a `Verdict`.

- Every answer must allow the origin in its `access-control-allow-origin` header.
- A preflight answer must have a 2xx status, and allow the method and the `content-type` header.
- For the time of the check, the app has a route that raises, so that a 500 answer is checked, too.
"""

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

# The paths are unlike any route of a user's app.
_UNKNOWN_PATH, _RAISING_PATH = "/streamperf-nowhere", "/streamperf-raises"
# Bytes of a body that a server with a size limit refuses. Not measured: 10 MiB is a choice.
_LARGE_BODY_BYTES = 10 * 2**20
# Rows of the table in a message. Not measured: a message has at most 16 lines.
_MAX_ROWS = 4


class CorsAnswer(NamedTuple):
    """The status of an answer, the request that it answers, and its CORS fault, or ""."""

    request: str
    status: int
    fault: str


def assert_cors(
    server: App | str,
    *,
    requests: Sequence[Request] = (),
    statuses: Sequence[int] = (),
    origin: str = ORIGIN,
) -> Verdict:
    """Request every kind of answer from a server, and check that a page of `origin` can read it.

    The check finds the routes of a Starlette or FastAPI app, inside middleware, too. Each route
    gets preflight requests, a GET, a body that is not JSON, an unexpected JSON body, a body of
    10 MB, and a method that it does not have. An answer with an `etag` is requested again with that
    tag. A temporary route raises an error.

    The check also sends `requests`, and one request for an unknown path. A server that is given by
    its URL gets only those. `statuses` are status codes that at least one answer must have.

    Raises `ServerExceeded` for an answer that a page of `origin` cannot read. Raises
    `NothingMeasured` if no answer had a status of `statuses`, or if there was nothing to request.

        assert_cors(app, statuses=(200, 404, 500))
    """
    routes = _routes(server)
    if not routes and not requests:
        raise nothing_measured(
            "server",
            "the check knows no routes of this server",
            "give the requests to send: requests=[...]",
        )
    route_requests = tuple(_route_requests(routes))
    with _raising_route(routes), served(server) as url:

        async def main() -> list[CorsAnswer]:
            raising = [Request("GET", _RAISING_PATH)] if isinstance(routes, list) else []
            all_requests = [*route_requests, *requests, Request("GET", _UNKNOWN_PATH), *raising]
            answers = []
            for request in all_requests:
                answer = await _ask_from(url, request, origin)
                answers.append(_inspect(request, answer, origin))
                if request.method == "GET" and "etag" in answer.headers:
                    headers = {"if-none-match": answer.headers["etag"]}
                    cached = Request(request.method, request.path, headers=headers)
                    answers.append(_inspect(cached, await _ask_from(url, cached, origin), origin))
            return answers

        answers = run("assert_cors", main)
    missing = [status for status in statuses if status not in {answer.status for answer in answers}]
    if missing:
        raise nothing_measured(
            "server",
            f"no answer had status {', '.join(map(str, missing))}",
            "add a request that the server answers with it: requests=[...]",
        )
    verdict = verdict_on_answers(answers, origin)
    return concluded(verdict)


def _routes(app: Any) -> Sequence[Any]:
    """Return the routes of an app, or of the app inside its middleware; none for a URL."""
    while app is not None and not hasattr(app, "routes"):
        app = getattr(app, "app", None)
    return getattr(app, "routes", ())


@contextmanager
def _raising_route(routes: Sequence[Any]) -> Iterator[None]:
    """Add a route to the list `routes` whose handler raises an error, and remove it at the end.

    Routes in another container than a list stay unchanged.
    """
    if not isinstance(routes, list):
        yield
        return
    from starlette.routing import Route  # noqa: PLC0415 - an app with such a list has Starlette

    error = RuntimeError("raised by assert_cors to get an error answer")

    def raises(_request: object) -> None:
        raise error

    route = Route(_RAISING_PATH, raises)
    routes.insert(0, route)
    try:
        # In the server's log, this error would look like a fault of the app.
        with unlogged(lambda raised: raised is error):
            yield
    finally:
        routes.remove(route)


def _route_requests(routes: Sequence[Any], prefix: str = "") -> Iterator[Request]:
    """Yield valid and bad requests for each route that has methods, nested routes included."""
    for route in routes:
        methods = getattr(route, "methods", None)
        path = sub(r"{[^}]*}", "0", prefix + getattr(route, "path", ""))
        yield from _route_requests(getattr(route, "routes", None) or (), path)
        if not methods:
            continue
        for method in sorted(methods - {"HEAD", "OPTIONS"}):
            preflight = {"access-control-request-method": method}
            if method != "GET":  # browsers ask before they send a JSON body
                preflight["access-control-request-headers"] = "content-type"
            yield Request("OPTIONS", path, headers=preflight)
            if method == "GET":
                yield Request("GET", path)
            else:
                yield Request(method, path, b"{")
                yield Request(method, path, {"streamperf": None})
                yield Request(method, path, b" " * _LARGE_BODY_BYTES, {"expect": "100-continue"})
        if "PUT" not in methods:
            yield Request("PUT", path)


async def _ask_from(url: str, request: Request, origin: str) -> Answer:
    """Send a request with an `origin` header, and return its status, headers and first data."""
    headers = {"origin": origin, **request.headers}
    # A stream may never end, and the check needs only the headers.
    return await ask(url, Request(request.method, request.path, request.body, headers), "midway")


def _inspect(request: Request, answer: Answer, origin: str) -> CorsAnswer:
    """Return an answer with the reason why a page of `origin` cannot read it, if there is one."""
    allowed = answer.headers.get("access-control-allow-origin")
    fault = ""
    if allowed not in {"*", origin}:
        fault = "no access-control-allow-origin" if allowed is None else f"allows {allowed}"
    elif request.method == "OPTIONS":
        method = request.headers.get("access-control-request-method", "GET")
        methods = answer.headers.get("access-control-allow-methods", "")
        if method not in {"GET", "HEAD", "POST"} and method not in methods and methods != "*":
            fault = f"access-control-allow-methods lacks {method}"
        elif "access-control-request-headers" in request.headers and not any(
            header in {"*", "content-type"}
            for header in sub(
                r"\s", "", answer.headers.get("access-control-allow-headers", "").lower()
            ).split(",")
        ):
            fault = "access-control-allow-headers lacks content-type"
        elif answer.status >= 300:  # noqa: PLR2004 - browsers want 2xx
            fault = "not a 2xx status"
    return CorsAnswer(str(request), answer.status, fault)


def verdict_on_answers(answers: Sequence[CorsAnswer], origin: str) -> Verdict:
    """Return the verdict on whether a page of `origin` can read all answers."""
    faulty = [answer for answer in answers if answer.fault]
    figures = Figures(given={"answers": len(answers)}, counts={"lacking": len(faulty)})
    if not faulty:
        statuses = ", ".join(map(str, sorted({answer.status for answer in answers})))
        headline = f"{len(answers)} answers can be read from other origins: {statuses}"
        return passed(headline, figures)
    by_status = {answer.status: answer for answer in reversed(faulty)}
    rows = [
        [str(status), by_status[status].request, by_status[status].fault]
        for status in sorted(by_status)[:_MAX_ROWS]
    ]
    statuses = ", ".join(map(str, sorted(by_status)))
    entries = {
        "means": f"a page of {origin} sees a network error instead of the answer",
        "try": "add the headers around the whole app: a framework may send errors and 304 "
        "answers past its inner middleware",
    }
    return exceeded(
        f"{len(faulty)} of {len(answers)} answers keep other origins out: {statuses}",
        figures,
        labelled_lines(entries),
        [*map(fit_line, table_lines(["status", "request", "fault"], rows))],
    )
