"""The diagnostic paths under `/api/dev`; an app has them only with `create_app(debug=True)`.

They report the metrics, the heap and the worker processes of the server. They also broadcast a text
as telemetry, and switch seeded regressions.
"""

import asyncio
from threading import Lock

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reference_impl import heap, metrics, switches, telemetry, workers
from reference_impl.bodies import RequestError, read, refuse_foreign_origin


def routes(
    server_metrics: metrics.Metrics, hub: telemetry.Hub, max_body: int, snapshot_limit: float
) -> list[Route]:
    """Return the routes of metrics, heap snapshots, workers, broadcasts and switches.

    A request body has at most `max_body` bytes. A heap snapshot takes at most `snapshot_limit`
    seconds.
    """
    snapshot_lock, loop_workers = Lock(), workers.OfTheLoop()

    async def report_metrics(_request: Request) -> Response:
        report = {**server_metrics.snapshot(), "telemetry": hub.snapshot()}
        return JSONResponse(report, headers={"Cache-Control": "no-store"})

    async def publish(request: Request) -> Response:
        refuse_foreign_origin(request)
        try:
            text = (await read(request, max_body)).decode()
        except UnicodeDecodeError as error:
            raise RequestError(
                400, "malformed_text", f"the body is not text ({error}), allowed: UTF-8"
            ) from None
        await telemetry.broadcast(hub, text)
        return Response(status_code=202)

    async def take_snapshot(_request: Request) -> Response:
        if not snapshot_lock.acquire(blocking=False):
            raise RequestError(503, "busy", "a snapshot is being taken, allowed: one at a time")
        return heap.Snapshot(snapshot_lock, snapshot_limit)

    async def report_workers(_request: Request) -> Response:
        try:
            report = await asyncio.to_thread((await loop_workers.get()).snapshot)
        except (ChildProcessError, RuntimeError) as error:
            raise RequestError(503, "no_workers", f"{error}, allowed: a new request") from None
        return JSONResponse(report, headers={"Cache-Control": "no-cache"})

    return [
        Route(metrics.PATH, report_metrics, methods=["GET"]),
        Route(heap.PATH, take_snapshot, methods=["GET"]),
        Route(workers.PATH, report_workers, methods=["GET"]),
        Route("/api/dev/telemetry", publish, methods=["POST"]),
        *switches.routes(max_body),
    ]
