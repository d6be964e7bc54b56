"""The agent server as an ASGI app: `create_app` builds it from an engine and its tools.

    POST /agents/{id}/run        one turn of an agent as server-sent events; see `writers`
    GET  /agents/{id}/run        one turn for the query ?message=, for a browser's EventSource
    POST /v1/chat/completions    the reply of the engine as an OpenAI chat completion stream
    POST /messages               the reply as an Anthropic message stream; also /v1/messages
    GET  /v1/models              the list of models
    POST /api/ai/maparse         curves in a list of prices; see `maparse`
    GET  /api/ai/models/status   the state of the model that finds the curves
    POST /api/render/spline      a spline through points, as pairs of floats; see `splines`
    WS   /ws/telemetry           the server's metrics, every second; see `telemetry`
    GET  /                       a page that shows the streams; see `page`

These paths exist only with `debug`:

    GET  /api/dev/metrics        the server's metrics; see `metrics`
    GET  /api/dev/heap           a snapshot of the heap; see `heap`
    GET  /api/dev/workers        the state of the worker processes; see `workers`
    POST /api/dev/telemetry      broadcast the body to all clients of /ws/telemetry
    GET  /api/dev/regressions    the seeded regressions; POST switches them; see `switches`

The body of a run is `{"messages": [{"role": "user" or "assistant", "content": string}, ...]}`. The
server stores no conversation, so clients send all its messages. The body of a refused request's
response is `{"error": {"type": ..., "message": ...}}`; the message says which input is allowed.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from reprlib import repr as short

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from reference_impl import cors, debugging, maparse, metrics, page, splines, switches, telemetry
from reference_impl.agent import Engine, Tool, run_turn, text_deltas
from reference_impl.bodies import RequestError, message_in, messages_of, read_json, refuse
from reference_impl.demo import AGENTS, TOOLS, demo_engine
from reference_impl.responses import DIALECTS
from reference_impl.writers import EventStream, ReplyStream, error_body

_RUN_SHAPE = '{"messages": [{"role": "user" or "assistant", "content": string}, ...]}'
_REPLY_SHAPE = '{"stream": true, "messages": [{"role": string, "content": string}, ...]}'
# The paths that stream a reply of the engine without tools: dialect of the reply, allowed roles.
_REPLY_PATHS = {
    "/v1/chat/completions": ("openai", {"system", "developer", "user", "assistant", "tool"}),
    "/messages": ("anthropic", {"user", "assistant"}),
    "/v1/messages": ("anthropic", {"user", "assistant"}),
}
_MODELS = {"object": "list", "data": [{"id": "reference", "object": "model", "created": 0}]}
_ETAG = f'"{sha256(json.dumps(_MODELS).encode()).hexdigest()[:16]}"'


def create_app(  # noqa: PLR0913 - it takes the options of all its parts
    engine: Engine = demo_engine,
    *,
    tools: Mapping[str, Tool] = TOOLS,
    heartbeat: float = 15.0,
    max_body: int = 1_000_000,
    hub: telemetry.Hub | None = None,
    debug: bool = False,
    snapshot_limit: float = 5.0,
) -> Starlette:
    """Return the agent server for an engine and its tools, by default for the scripted demo.

    `heartbeat` is the silence in seconds after which the server sends a ping. `max_body` is the
    largest request body in bytes. `hub` holds the limits of telemetry clients. `debug` adds the
    diagnostic paths under `/api/dev`. `snapshot_limit` is the longest time, in seconds, for a
    snapshot of the heap. A number that is not positive raises a `ValueError`, and an engine that is
    not callable raises a `TypeError`.

        with serve_app(create_app(engine, heartbeat=1.0)) as url:
            ...
    """
    if not callable(engine):
        raise TypeError(f"engine={engine!r}: must be a callable, messages -> async iterator")
    positive = {"heartbeat": heartbeat, "max_body": max_body, "snapshot_limit": snapshot_limit}
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name}={value!r}: must be more than 0")

    async def run(request: Request) -> EventStream:
        agent = request.path_params["id"]
        if agent not in AGENTS:
            allowed = ", ".join(sorted(AGENTS))
            raise RequestError(404, "unknown_agent", f"no agent {short(agent)}, allowed: {allowed}")
        if request.method == "POST":
            data = await read_json(request, max_body, _RUN_SHAPE)
            messages = messages_of(data, {"user", "assistant"}, _RUN_SHAPE)
        else:
            messages = message_in(request)
        system = {"role": "system", "content": AGENTS[agent]}
        return EventStream(run_turn(engine, [system, *messages], tools=tools), heartbeat)

    async def reply(request: Request) -> ReplyStream:
        dialect, roles = _REPLY_PATHS[request.url.path]
        data = await read_json(request, max_body, _REPLY_SHAPE)
        messages = messages_of(data, roles, _REPLY_SHAPE)
        if data.get("stream") is not True:
            raise RequestError(
                422,
                "wrong_shape",
                f"stream is {short(data.get('stream'))}, allowed: {_REPLY_SHAPE}",
            )
        return ReplyStream(text_deltas(engine(messages)), DIALECTS[dialect])

    server_metrics, hub = metrics.Metrics(), hub or telemetry.Hub()
    hub.told = server_metrics.snapshot

    async def watch(socket: WebSocket) -> None:
        await telemetry.Session(hub, socket).serve()

    app = _App(
        server_metrics,
        lifespan=switches.switched_off_at_shutdown,
        routes=[
            Route("/agents/{id}/run", run, methods=["GET", "POST"]),
            *(Route(path, reply, methods=["POST"]) for path in _REPLY_PATHS),
            Route("/v1/models", _list_models, methods=["GET"]),
            *maparse.routes(max_body),
            *splines.routes(max_body),
            WebSocketRoute("/ws/telemetry", watch),
            *page.routes(engine, heartbeat, debug=debug),
            *(debugging.routes(server_metrics, hub, max_body, snapshot_limit) if debug else []),
        ],
        exception_handlers={
            RequestError: refuse,
            404: _unknown_path,
            405: _wrong_method,
            500: _internal_error,
            ClientDisconnect: _client_left,
        },
    )
    app.router.redirect_slashes = False  # a trailing slash gets the 404 of any unknown path
    return app


class _App(Starlette):
    def __init__(self, server_metrics: metrics.Metrics, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._server_metrics = server_metrics

    def build_middleware_stack(self) -> ASGIApp:
        # Starlette sends its 500 response outside its own middleware, so these two wrap all of it.
        return metrics.CountingApp(
            cors.CrossOrigin(super().build_middleware_stack()), self._server_metrics
        )


async def _list_models(request: Request) -> Response:
    cached_etags, headers = request.headers.get("if-none-match", ""), {"ETag": _ETAG}
    if cached_etags == "*" or _ETAG in cached_etags:
        return Response(status_code=304, headers=headers)
    return JSONResponse(_MODELS, headers=headers)


async def _unknown_path(request: Request, _error: Exception) -> Response:
    allowed = ", ".join(route.path for route in request.app.routes)
    message = f"no path {short(request.url.path)}, allowed: {allowed}"
    return JSONResponse(error_body("unknown_path", message), 404)


async def _wrong_method(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - Starlette raises it for a 405
    methods = (error.headers or {})["Allow"].split(", ")
    allowed = ", ".join(sorted(methods))
    message = f"method {short(request.method)} on {short(request.url.path)}, allowed: {allowed}"
    return JSONResponse(error_body("wrong_method", message), 405, headers={"Allow": allowed})


async def _internal_error(_request: Request, _error: Exception) -> Response:
    # The traceback is in the log; a client must not see it.
    return JSONResponse(error_body("internal_error", "the server failed"), 500)


async def _client_left(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # not read: the client left before the end of its request
