"""The agent server: `POST /agents/{id}/run` streams one turn as server-sent events.

The body is `{"messages": [{"role": "user" or "assistant", "content": string}, ...]}`; the server
keeps no conversation, so clients send all of it. `writers` tells what comes back. A request that is
refused gets `{"error": {"type": ..., "message": ...}}`, and what would have been allowed.
"""

import json
from collections.abc import Mapping
from reprlib import repr as short

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reference_impl.agent import Engine, Message, Tool, run_turn
from reference_impl.demo import AGENTS, TOOLS, demo_engine
from reference_impl.writers import EventStream, error_body

_BODY = '{"messages": [{"role": "user" or "assistant", "content": string}, ...]}'


def create_app(
    engine: Engine = demo_engine,
    *,
    tools: Mapping[str, Tool] = TOOLS,
    heartbeat: float = 15.0,
    max_body: int = 1_000_000,
) -> Starlette:
    """Make the server for an engine and its tools; without any, for the scripted demo.

    `heartbeat` is the silence in seconds after which a ping is sent, `max_body` the largest
    request body in bytes. A value that is not positive is a `ValueError`, an engine that cannot
    be called a `TypeError`.

        with running(create_app(engine, heartbeat=1.0)) as url:
            ...
    """
    if not callable(engine):
        raise TypeError(f"engine={engine!r}: must be a callable, messages -> async iterator")
    for name, value in (("heartbeat", heartbeat), ("max_body", max_body)):
        if not value > 0:
            raise ValueError(f"{name}={value!r}: must be more than 0")

    async def run(request: Request) -> EventStream:
        agent = request.path_params["id"]
        if agent not in AGENTS:
            allowed = ", ".join(sorted(AGENTS))
            raise _RequestError(
                404, "unknown_agent", f"no agent {short(agent)}, allowed: {allowed}"
            )
        messages = _parse(await _read(request, max_body))
        system = {"role": "system", "content": AGENTS[agent]}
        return EventStream(run_turn(engine, [system, *messages], tools=tools), heartbeat)

    app = Starlette(
        routes=[Route("/agents/{id}/run", run, methods=["POST"])],
        exception_handlers={
            _RequestError: _refuse,
            404: _unknown_path,
            405: _wrong_method,
            ClientDisconnect: _client_left,
        },
    )
    app.router.redirect_slashes = False  # an unknown path is told so, in JSON like the others
    return app


class _RequestError(Exception):
    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(status, kind, message)


async def _read(request: Request, limit: int) -> bytes:
    too_large = _RequestError(
        413, "body_too_large", f"the body is too large, allowed: {limit} bytes"
    )
    if int(request.headers.get("content-length", "0")) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > limit:
            raise too_large
        body += chunk
    return bytes(body)


def _parse(body: bytes) -> list[Message]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _RequestError(
            400, "malformed_json", f"the body is not JSON ({error}), allowed: {_BODY}"
        ) from None
    messages = data.get("messages") if isinstance(data, dict) else None
    if not isinstance(messages, list) or not messages:
        raise _RequestError(
            422, "wrong_shape", f"the body has no messages: {short(data)}, allowed: {_BODY}"
        )
    checked: list[Message] = []
    for index, message in enumerate(messages):
        match message:
            case {"role": "user" | "assistant" as role, "content": str(content)}:
                checked.append({"role": role, "content": content})
            case _:
                raise _RequestError(
                    422, "wrong_shape", f"messages[{index}] is {short(message)}, allowed: {_BODY}"
                )
    return checked


async def _refuse(_request: Request, refusal: Exception) -> Response:
    status, kind, message = refusal.args
    return JSONResponse(error_body(kind, message), status)


async def _unknown_path(request: Request, _error: Exception) -> Response:
    message = f"no path {short(request.url.path)}, allowed: /agents/{{id}}/run"
    return JSONResponse(error_body("unknown_path", message), 404)


async def _wrong_method(request: Request, _error: Exception) -> Response:
    message = f"method {short(request.method)} on {short(request.url.path)}, allowed: POST"
    return JSONResponse(error_body("wrong_method", message), 405, headers={"Allow": "POST"})


async def _client_left(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # never read: the client left before its request was whole
