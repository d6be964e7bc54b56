"""Cross-origin requests: every answer may be read by pages from anywhere.

What a browser asks beforehand is answered here, with 204. Starlette has a middleware for the same,
whose answer is 200, and which its own answer to what failed passes by.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS: Final = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
    (b"access-control-allow-headers", b"Content-Type, Authorization"),
)


def allowed(_status: int) -> bool:
    """Whether an answer of this status may be read: any."""
    return True


class CrossOrigin:
    """An ASGI app whose answers have the headers."""

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer, or have the app answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: "Message") -> None:
            if message["type"] == "http.response.start" and allowed(message["status"]):
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        if scope["method"] == "OPTIONS":
            await with_headers({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})
        else:
            await self._app(scope, receive, with_headers)
