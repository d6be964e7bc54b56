"""What is under `/api/dev`, and tells of the server's inside: there only where it was asked for."""

import asyncio
from threading import Lock

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reference_impl import heap, metrics, switches, telemetry, workers
from reference_impl.bodies import RequestError, read, refuse_strangers


def routes(
    counted: metrics.Metrics, hub: telemetry.Hub, max_body: int, snapshot_limit: float
) -> list[Route]:
    """Metrics, workers, a snapshot of the heap, a way to tell all who get telemetry, switches.

    Bodies are of `max_body` bytes at most; a snapshot is taken for `snapshot_limit` seconds.
    """
    taking, staff = Lock(), workers.OfTheLoop()

    async def measures(_request: Request) -> Response:
        found = {**counted.snapshot(), "telemetry": hub.snapshot()}
        return JSONResponse(found, headers={"Cache-Control": "no-store"})

    async def publish(request: Request) -> Response:
        refuse_strangers(request)
        try:
            text = (await read(request, max_body)).decode()
        except UnicodeDecodeError as error:
            raise RequestError(
                400, "malformed_text", f"the body is no text ({error}), allowed: UTF-8"
            ) from None
        await telemetry.broadcast(hub, text)
        return Response(status_code=202)

    async def snapshot(_request: Request) -> Response:
        if not taking.acquire(blocking=False):
            raise RequestError(503, "busy", "a snapshot is being taken, allowed: one at a time")
        return heap.Snapshot(taking, snapshot_limit)

    async def working(_request: Request) -> Response:
        try:
            found = await asyncio.to_thread((await staff.get()).snapshot)
        except (ChildProcessError, RuntimeError) as error:
            raise RequestError(503, "no_workers", f"{error}, allowed: to ask again") from None
        return JSONResponse(found, headers={"Cache-Control": "no-cache"})

    return [
        Route(metrics.PATH, measures, methods=["GET"]),
        Route(heap.PATH, snapshot, methods=["GET"]),
        Route(workers.PATH, working, methods=["GET"]),
        Route("/api/dev/telemetry", publish, methods=["POST"]),
        *switches.routes(max_body),
    ]
