"""The agent server, as an ASGI app.

    POST /agents/{id}/run        one turn of an agent, as server-sent events: see `writers`
    GET  /agents/{id}/run        the same, of ?message=, for who can do no more: an EventSource
    POST /v1/chat/completions    what the model says, as OpenAI's chat completions stream it
    POST /messages               the same as Anthropic's messages; /v1/messages too
    GET  /v1/models              the models that may be asked for
    POST /api/ai/maparse         curves in prices; see `maparse`
    GET  /api/ai/models/status   the model that finds them
    POST /api/render/spline      a spline through points, as pairs of floats: see `splines`
    WS   /ws/telemetry           what is going on, every second; see `telemetry`
    GET  /                       a page to look at; see `page`

And only with `debug`:

    GET  /api/dev/metrics        what is going on; see `metrics`
    GET  /api/dev/heap           what is in memory; see `heap`
    GET  /api/dev/workers        what worker processes do; see `workers`
    POST /api/dev/telemetry      tells everyone at /ws/telemetry what the body is
    GET  /api/dev/regressions    mistakes to put in place, and POST to do so; see `switches`

The body of a run is `{"messages": [{"role": "user" or "assistant", "content": string}, ...]}`; the
server keeps no conversation, so clients send all of it. A request that is refused gets
`{"error": {"type": ..., "message": ...}}`, and what would have been allowed.
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
from reference_impl.agent import Engine, Tool, run_turn, said
from reference_impl.bodies import RequestError, message_in, messages_of, read_json, refuse
from reference_impl.demo import AGENTS, TOOLS, demo_engine
from reference_impl.responses import DIALECTS
from reference_impl.writers import EventStream, ReplyStream, error_body

_RUN = '{"messages": [{"role": "user" or "assistant", "content": string}, ...]}'
_REPLY = '{"stream": true, "messages": [{"role": string, "content": string}, ...]}'
# Where the model is asked by itself: its dialect, and whose messages that takes.
_REPLIES = {
    "/v1/chat/completions": ("openai", {"system", "developer", "user", "assistant", "tool"}),
    "/messages": ("anthropic", {"user", "assistant"}),
    "/v1/messages": ("anthropic", {"user", "assistant"}),
}
_MODELS = {"object": "list", "data": [{"id": "reference", "object": "model", "created": 0}]}
_ETAG = f'"{sha256(json.dumps(_MODELS).encode()).hexdigest()[:16]}"'


def create_app(  # noqa: PLR0913 - the terms of all its parts
    engine: Engine = demo_engine,
    *,
    tools: Mapping[str, Tool] = TOOLS,
    heartbeat: float = 15.0,
    max_body: int = 1_000_000,
    hub: telemetry.Hub | None = None,
    debug: bool = False,
    snapshot_limit: float = 5.0,
) -> Starlette:
    """Make the server for an engine and its tools; without any, for the scripted demo.

    `heartbeat` is the silence in seconds after which a ping is sent, `max_body` the largest
    request body in bytes, `hub` the terms on which telemetry is served; `debug` opens what is under
    `/api/dev`, which tells of the server's inside, and `snapshot_limit` is the time in seconds that
    a snapshot of the heap may take. A value that is not positive is a `ValueError`, an engine that
    cannot be called a `TypeError`.

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
            data = await read_json(request, max_body, _RUN)
            messages = messages_of(data, {"user", "assistant"}, _RUN)
        else:
            messages = message_in(request)
        system = {"role": "system", "content": AGENTS[agent]}
        return EventStream(run_turn(engine, [system, *messages], tools=tools), heartbeat)

    async def reply(request: Request) -> ReplyStream:
        dialect, roles = _REPLIES[request.url.path]
        data = await read_json(request, max_body, _REPLY)
        messages = messages_of(data, roles, _REPLY)
        if data.get("stream") is not True:
            raise RequestError(
                422, "wrong_shape", f"stream is {short(data.get('stream'))}, allowed: {_REPLY}"
            )
        return ReplyStream(said(engine(messages)), DIALECTS[dialect])

    counted, hub = metrics.Metrics(), hub or telemetry.Hub()
    hub.told = counted.snapshot

    async def watch(socket: WebSocket) -> None:
        await telemetry.Session(hub, socket).serve()

    app = _App(
        counted,
        lifespan=switches.restored,
        routes=[
            Route("/agents/{id}/run", run, methods=["GET", "POST"]),
            *(Route(path, reply, methods=["POST"]) for path in _REPLIES),
            Route("/v1/models", _models, methods=["GET"]),
            *maparse.routes(max_body),
            *splines.routes(max_body),
            WebSocketRoute("/ws/telemetry", watch),
            *page.routes(engine, heartbeat, debug=debug),
            *(debugging.routes(counted, hub, max_body, snapshot_limit) if debug else []),
        ],
        exception_handlers={
            RequestError: refuse,
            404: _unknown_path,
            405: _wrong_method,
            500: _failed,
            ClientDisconnect: _client_left,
        },
    )
    app.router.redirect_slashes = False  # an unknown path is told so, in JSON like the others
    return app


class _App(Starlette):
    def __init__(self, counted: metrics.Metrics, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._counted = counted

    def build_middleware_stack(self) -> ASGIApp:
        # Around all that Starlette answers, its 500 too: that is beyond any middleware of its own.
        return metrics.Counted(cors.CrossOrigin(super().build_middleware_stack()), self._counted)


async def _models(request: Request) -> Response:
    known, headers = request.headers.get("if-none-match", ""), {"ETag": _ETAG}
    if known == "*" or _ETAG in known:
        return Response(status_code=304, headers=headers)
    return JSONResponse(_MODELS, headers=headers)


async def _unknown_path(request: Request, _error: Exception) -> Response:
    allowed = ", ".join(route.path for route in request.app.routes)
    message = f"no path {short(request.url.path)}, allowed: {allowed}"
    return JSONResponse(error_body("unknown_path", message), 404)


async def _wrong_method(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - by its status
    methods = (error.headers or {})["Allow"].split(", ")
    allowed = ", ".join(sorted(methods))
    message = f"method {short(request.method)} on {short(request.url.path)}, allowed: {allowed}"
    return JSONResponse(error_body("wrong_method", message), 405, headers={"Allow": allowed})


async def _failed(_request: Request, _error: Exception) -> Response:
    # What went wrong is in the log; it is nobody else's business.
    return JSONResponse(error_body("internal_error", "the server failed"), 500)


async def _client_left(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # never read: the client left before its request was whole
