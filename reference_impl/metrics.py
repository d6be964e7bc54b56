"""What the server is doing: gauges and totals, counted by the events that it sees.

    {"timestamp", "timestampNs", "metrics": {
        "pendingRequests", "pendingWebSockets",     in flight
        "activeConnections",                        sockets with something in flight
        "totals": {"requests", "responses", "failures", "disconnects",
                   "websocketOpens", "websocketCloses"}}}

Every request comes to an end, and is a response then: `failures` are those that raised or were
answered with 5xx, `disconnects` those whose client left first. To ask for the metrics does not
count.
"""

import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATH: Final = "/api/dev/metrics"
_FAILED = 500


class Metrics:
    """The gauges and the totals."""

    def __init__(self) -> None:
        self.pending = Counter(http=0, websocket=0)
        self.connections: Counter[object] = Counter()
        self.totals = Counter(
            requests=0,
            responses=0,
            failures=0,
            disconnects=0,
            websocketOpens=0,
            websocketCloses=0,
        )

    def snapshot(self) -> dict[str, Any]:
        """All of it, as it is now."""
        now = time.time_ns()
        return {
            "timestamp": datetime.fromtimestamp(now / 1e9, UTC).isoformat(),
            "timestampNs": now,
            "metrics": {
                "pendingRequests": self.pending["http"],
                "pendingWebSockets": self.pending["websocket"],
                "activeConnections": len(self.connections),
                "totals": dict(self.totals),
            },
        }


class Tracked:
    """A request or a WebSocket, from its start to its end.

    `client` is the address of its socket.
    """

    def __init__(self, metrics: Metrics, kind: str, client: object) -> None:
        self._metrics = metrics
        self._kind = kind
        self._client = client
        self._open = False
        metrics.pending[kind] += 1
        metrics.connections[client] += 1
        metrics.totals["requests"] += kind == "http"

    def opened(self) -> None:
        """The WebSocket was accepted."""
        self._open = True
        self._metrics.totals["websocketOpens"] += 1

    def over(self, *, failed: bool, left: bool) -> None:
        """It failed, or its client left first, or neither."""
        self._ended()
        totals = self._metrics.totals
        totals["responses"] += self._kind == "http"
        totals["websocketCloses"] += self._open
        totals["failures"] += failed
        totals["disconnects"] += left

    def _ended(self) -> None:
        self._metrics.pending[self._kind] -= 1
        self._metrics.connections -= Counter([self._client])  # forgets those that have none left


class Counted:
    """An ASGI app, and what it does taken down."""

    def __init__(self, app: "ASGIApp", metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Have the app answer, and see how it ends."""
        if scope["type"] not in self._metrics.pending or scope["path"] == PATH:
            await self._app(scope, receive, send)
            return
        tracked = Tracked(self._metrics, scope["type"], tuple(scope.get("client") or ()))
        failed = left = complete = False

        async def hear() -> "Message":
            nonlocal left
            message = await receive()
            # Servers say so too when all is over, and there is nothing more to come.
            left = left or (message["type"].endswith(".disconnect") and not complete)
            return message

        async def tell(message: "Message") -> None:
            nonlocal failed, left, complete
            try:
                await send(message)
            except OSError:
                left = True
                raise
            match message["type"]:
                case "http.response.start":
                    failed = message["status"] >= _FAILED
                case "http.response.body":
                    complete = not message.get("more_body", False)
                case "websocket.accept":
                    tracked.opened()
                case "websocket.close":
                    complete = True

        try:
            await self._app(scope, hear, tell)
        except BaseException:
            failed = True
            raise
        finally:
            tracked.over(failed=failed and not left, left=left)
