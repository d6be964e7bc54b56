"""The server's metrics: gauges of requests and WebSockets in flight, and totals since the start.

`CountingApp` wraps the whole app and counts its requests and WebSockets by their ASGI messages.
`Metrics.snapshot` returns this:

    {"timestamp", "timestampNs", "metrics": {
        "pendingRequests", "pendingWebSockets",     requests and WebSockets in flight
        "activeConnections",                        sockets with at least one of them in flight
        "totals": {"requests", "responses", "failures", "disconnects",
                   "websocketOpens", "websocketCloses"}}}

Every request counts in `responses` when it ends. `failures` counts requests and WebSockets that
raised an error, and requests with a status of 500 or more. `disconnects` counts those whose client
left before the end. A request for the metrics does not count.
"""

import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATH: Final = "/api/dev/metrics"
_FIRST_FAILURE_STATUS = 500


class Metrics:
    """The gauges and the totals of one server."""

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
        """Return the current gauges and totals, with the time, as JSON data."""
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
    """One request or WebSocket that the metrics count, from its start to its end.

    `kind` is "http" or "websocket"; `client` is the address of its socket.
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
        """Count that the server accepted the WebSocket."""
        self._open = True
        self._metrics.totals["websocketOpens"] += 1

    def finish(self, *, failed: bool, client_left: bool) -> None:
        """Count the end of a request or WebSocket: a failure, an early disconnect, or neither."""
        self._count_down()
        totals = self._metrics.totals
        totals["responses"] += self._kind == "http"
        totals["websocketCloses"] += self._open
        totals["failures"] += failed
        totals["disconnects"] += client_left

    def _count_down(self) -> None:
        self._metrics.pending[self._kind] -= 1
        self._metrics.connections -= Counter([self._client])  # `-=` drops clients at 0


class CountingApp:
    """An ASGI app that counts the requests and WebSockets of another app in `metrics`."""

    def __init__(self, app: "ASGIApp", metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Run the app for one request or WebSocket, and count its start and its end."""
        if scope["type"] not in self._metrics.pending or scope["path"] == PATH:
            await self._app(scope, receive, send)
            return
        exchange = Tracked(self._metrics, scope["type"], tuple(scope.get("client") or ()))
        failed = client_left = complete = False

        async def receive_and_watch() -> "Message":
            nonlocal client_left
            message = await receive()
            # Servers send a disconnect after a complete response, too; that one does not count.
            client_left = client_left or (message["type"].endswith(".disconnect") and not complete)
            return message

        async def send_and_watch(message: "Message") -> None:
            nonlocal failed, client_left, complete
            try:
                await send(message)
            except OSError:
                client_left = True
                raise
            match message["type"]:
                case "http.response.start":
                    failed = message["status"] >= _FIRST_FAILURE_STATUS
                case "http.response.body":
                    complete = not message.get("more_body", False)
                case "websocket.accept":
                    exchange.opened()
                case "websocket.close":
                    complete = True

        try:
            await self._app(scope, receive_and_watch, send_and_watch)
        except BaseException:
            failed = True
            raise
        finally:
            exchange.finish(failed=failed and not client_left, client_left=client_left)
