"""CORS: every response may be read by pages of any origin.

`CrossOrigin` wraps the whole app and adds the CORS headers to each response, errors included. It
answers the preflight request of a browser, `OPTIONS`, with 204. Starlette's own CORS middleware
answers it with 200 and adds no headers to Starlette's 500 response.
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
    """Return whether a response of this status gets the CORS headers: always true."""
    return True


class CrossOrigin:
    """An ASGI app that adds the CORS headers to the responses of another app."""

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a preflight request, or pass any other request to the app."""
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
