"""What is under `/api/dev`, and tells of the server's inside: there only where it was asked for."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reference_impl import metrics, telemetry
from reference_impl.bodies import RequestError, read


def routes(counted: metrics.Metrics, hub: telemetry.Hub, max_body: int) -> list[Route]:
    """The metrics, and a way to tell something to everyone who gets telemetry."""

    async def measures(_request: Request) -> Response:
        found = {**counted.snapshot(), "telemetry": hub.snapshot()}
        return JSONResponse(found, headers={"Cache-Control": "no-store"})

    async def publish(request: Request) -> Response:
        try:
            text = (await read(request, max_body)).decode()
        except UnicodeDecodeError as error:
            raise RequestError(
                400, "malformed_text", f"the body is no text ({error}), allowed: UTF-8"
            ) from None
        await telemetry.broadcast(hub, text)
        return Response(status_code=202)

    return [
        Route(metrics.PATH, measures, methods=["GET"]),
        Route("/api/dev/telemetry", publish, methods=["POST"]),
    ]
