"""Arguments of checks of the reference server: its paths, and the names in its metrics."""

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
"""What the last event of a whole stream holds."""
