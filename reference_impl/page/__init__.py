"""The page at `/`, on which people see a stream stutter: files of this folder, as they are.

GET /                  the page
GET /page/{file}       what belongs to it
GET /page/about        {"debug": whether there is anything under /api/dev}
GET /page/tool-calls   a tool call while it is written, as events; see `tool_calls`

Nothing is built, and nothing comes from elsewhere.
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

_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_FOLDER: Final = Path(__file__).parent
FILES: Final = {file.name: file for file in _FOLDER.iterdir() if file.suffix in _TYPES}
"""What the page is made of, by name."""

# It may talk to servers on this machine, by `?server=`, and to nobody else.
_LOOPBACK = " ".join(
    f"{scheme}://{host}:*" for scheme in ("http", "ws") for host in ("127.0.0.1", "localhost")
)
HEADERS: Final = {
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src data:",
            f"connect-src 'self' {_LOOPBACK}",
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
"""What its files are sent with."""


def routes(engine: Engine, heartbeat: float, *, debug: bool) -> list[Route]:
    """The page, its files, and what a server tells it alone."""

    async def index(_request: Request) -> Response:
        return _file("index.html")

    async def file(request: Request) -> Response:
        return _file(request.path_params["file"])

    async def about(_request: Request) -> Response:
        return JSONResponse({"debug": debug})

    async def calls(request: Request) -> EventStream:
        return EventStream(tool_calls.written(engine, message_in(request)), heartbeat)

    return [
        Route("/", index, methods=["GET"]),
        Route("/page/about", about, methods=["GET"]),
        Route("/page/tool-calls", calls, methods=["GET"]),
        Route("/page/{file}", file, methods=["GET"]),
    ]


def _file(name: str) -> Response:
    if name not in FILES:
        allowed = ", ".join(sorted(FILES))
        raise RequestError(404, "unknown_path", f"no file {short(name)}, allowed: {allowed}")
    path = FILES[name]
    return FileResponse(path, media_type=_TYPES[path.suffix], headers=HEADERS)
