"""The page at `/`, on which a user sees a stream stutter.

GET /                  the page
GET /page/{file}       a script or the style sheet of the page
GET /page/about        {"debug": whether the server has the paths under /api/dev}
GET /page/tool-calls   a tool call while the model writes it, as events; see `tool_calls`

The server sends the files of this folder unchanged. There is no build step, and the page loads
nothing from other servers.
"""

from pathlib import Path
from reprlib import repr as short
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from reference_impl.agent import Engine
from reference_impl.bodies import RequestError, message_in
from reference_impl.page import tool_calls
from reference_impl.writers import EventStream

_MEDIA_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_FOLDER: Final = Path(__file__).parent
FILES: Final = {file.name: file for file in _FOLDER.iterdir() if file.suffix in _MEDIA_TYPES}
"""The files of the page, by name."""

# The page may connect to servers on this machine, by `?server=`, and to no other machine.
_LOOPBACK_SOURCES = " ".join(
    f"{scheme}://{host}:*" for scheme in ("http", "ws") for host in ("127.0.0.1", "localhost")
)
HEADERS: Final = {
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src data:",
            f"connect-src 'self' {_LOOPBACK_SOURCES}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ]
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""The headers of every file of the page."""


def routes(engine: Engine, heartbeat: float, *, debug: bool) -> list[Route]:
    """Return the routes of the page, its files and its two data paths."""

    async def index(_request: Request) -> Response:
        return _file_response("index.html")

    async def file(request: Request) -> Response:
        return _file_response(request.path_params["file"])

    async def about(_request: Request) -> Response:
        return JSONResponse({"debug": debug})

    async def tool_call_stream(request: Request) -> EventStream:
        return EventStream(tool_calls.written(engine, message_in(request)), heartbeat)

    return [
        Route("/", index, methods=["GET"]),
        Route("/page/about", about, methods=["GET"]),
        Route("/page/tool-calls", tool_call_stream, methods=["GET"]),
        Route("/page/{file}", file, methods=["GET"]),
    ]


def _file_response(name: str) -> Response:
    if name not in FILES:
        allowed = ", ".join(sorted(FILES))
        raise RequestError(404, "unknown_path", f"no file {short(name)}, allowed: {allowed}")
    path = FILES[name]
    return FileResponse(path, media_type=_MEDIA_TYPES[path.suffix], headers=HEADERS)
