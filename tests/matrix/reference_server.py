"""Arguments for server checks of the reference server: its paths and the names of its metrics.

`METRICS`, `BROADCAST` and `MODEL` are keyword arguments of the checks. `TOTALS` are pairs of totals
that must be equal when all clients have left.
"""

from reference_impl.metrics import PATH

METRICS = {
    "read": PATH,
    "gauges": ("pendingRequests", "pendingWebSockets", "activeConnections"),
}
TOTALS = (("requests", "responses"), ("websocketOpens", "websocketCloses"))
BROADCAST = {
    "path": "/ws/telemetry",
    "publish": "/api/dev/telemetry",
    "read": PATH,
    "gauge": "clients",
}
MODEL = {"read": "/api/ai/models/status", "loads": "loads", "cold": "cold"}
LAST_EVENTS = ("event: done", "[DONE]")
"""Texts in the last event of a complete stream: of an agent's turn, and of a chat completion."""
