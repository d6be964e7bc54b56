"""Seeded regressions of the server: its metrics, telemetry, CORS, snapshots, streams and bodies.

The server checks must catch them: `assert_gauges_settle`, `assert_backpressure`, `assert_cors`,
`assert_responsive`, `assert_streamed`, `assert_survives` and `assert_stops`.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from reference_impl import metrics, responses, telemetry
from reference_impl.seeded_regressions import seeded

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Send


class LeaksOnDisconnect(metrics.Tracked):
    """A request whose client disconnects early stays in the gauges forever."""

    def finish(self, *, failed: bool, client_left: bool) -> None:
        """Count the end of a request, but not an early disconnect."""
        if not client_left:
            super().finish(failed=failed, client_left=client_left)


class EndsTwiceOnError(metrics.Tracked):
    """A failed request lowers the gauges twice: in the error handler and at its end."""

    def finish(self, *, failed: bool, client_left: bool) -> None:
        """Count the end of a request, and the end of a failed one twice."""
        if failed:
            self._count_down()
        super().finish(failed=failed, client_left=client_left)


class MissesFailures(metrics.Tracked):
    """A failed request lowers the gauges but is missing in the totals of responses."""

    def finish(self, *, failed: bool, client_left: bool) -> None:
        """Count the end of a request, but no failure in the totals."""
        if failed:
            self._count_down()
        else:
            super().finish(failed=failed, client_left=client_left)


class BuffersWithoutEnd(telemetry.Session):
    """The server keeps every message that a slow client has not read, without a limit."""

    def offer(self, text: str, size: int) -> None:
        """Buffer a message, even above the limit."""
        self._keep(text, size)


class NeverResumes(telemetry.Session):
    """A client that fell behind once gets no more messages, even after it has caught up."""

    behind = False

    def offer(self, text: str, size: int) -> None:
        """Buffer a message, unless the client has ever fallen behind."""
        self.behind = self.behind or self.buffered + size > self._hub.limit
        if not self.behind:
            super().offer(text, size)


class SendingResetsIdleClock(telemetry.Session):
    """Messages to a client restart its idle clock, so a silent client is never closed."""

    async def _send(self, text: str) -> None:
        await super()._send(text)
        self._heard()


class KeepsVanishedClients(telemetry.Session):
    """A client that has vanished stays in the list of clients."""

    def _leave(self) -> None:
        pass


async def broadcast_and_wait(hub: telemetry.Hub, text: str) -> None:
    """A broadcast waits for each client to read everything before it serves the next one."""
    for session in tuple(hub.sessions):
        session.offer(text, len(text.encode()))
        while session.buffered and session in hub.sessions:  # noqa: ASYNC110 - a realistic fault
            await asyncio.sleep(0.001)


def allowed_without_error(status: int) -> bool:
    """Responses with an error status lack the CORS headers."""
    return status < 400  # noqa: PLR2004 - the first error status


def allowed_unless_not_modified(status: int) -> bool:
    """Responses with status 304 (Not Modified) lack the CORS headers."""
    return status != 304  # noqa: PLR2004 - "Not Modified"


async def taken_on_the_loop(steps: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The snapshot is taken on the event loop, so every other client waits."""
    for step in list(steps):
        yield step


async def taken_in_one_piece(steps: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The whole snapshot is built in memory before its first byte is sent."""
    yield await asyncio.to_thread(b"".join, steps)


async def cut_off(
    writing: Coroutine[Any, Any, None], _stopping: Callable[[], Awaitable[None]], send: "Send"
) -> None:
    """A server that stops cancels its streams without sending them an error event."""
    from starlette.requests import ClientDisconnect  # noqa: PLC0415 - only this needs starlette

    try:
        await writing
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except* (ClientDisconnect, OSError):
        pass


class LeavesFlushTask(responses.ResponseWriter):
    """The flush task of a reply keeps running if the client leaves before the end."""

    has_ended = False

    async def _after_last_delta(self) -> None:
        self.has_ended = True
        await super()._after_last_delta()

    async def _stop_flush_task(self, flush_task: asyncio.Task[None]) -> None:
        if self.has_ended:
            await super()._stop_flush_task(flush_task)


async def read_if_shallow(request: "Request", limit: int, allowed: str) -> Any:
    """JSON that is nested too deep raises an error that the server does not handle."""
    from reference_impl import bodies  # noqa: PLC0415

    try:
        return json.loads(await bodies.read(request, limit))
    except ValueError as error:
        raise bodies.RequestError(400, "malformed_json", f"{error}, allowed: {allowed}") from None


async def read_and_keep_body(request: "Request", _limit: int, _allowed: str) -> Any:
    """Every request body is read without a limit and kept in memory."""
    body = await request.body()
    vars(request.app.state).setdefault("kept_bodies", []).append(body)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


_gauge_regression = partial(seeded, "assert_gauges_settle")
_telemetry_regression = partial(seeded, "assert_backpressure")
_cors_regression = partial(seeded, "assert_cors")
_survival_regression = partial(seeded, "assert_survives")

REGRESSIONS = (
    _gauge_regression("gauge-leaks-on-disconnect", "metrics:Tracked", LeaksOnDisconnect),
    _gauge_regression("gauge-goes-negative", "metrics:Tracked", EndsTwiceOnError),
    _gauge_regression("totals-miss-failures", "metrics:Tracked", MissesFailures),
    _telemetry_regression("buffer-without-end", "telemetry:Session", BuffersWithoutEnd),
    _telemetry_regression("broadcast-waits", "telemetry:broadcast", broadcast_and_wait),
    _telemetry_regression("never-resumes", "telemetry:Session", NeverResumes),
    _telemetry_regression("idle-reset-by-sends", "telemetry:Session", SendingResetsIdleClock),
    _telemetry_regression("dead-clients-kept", "telemetry:Session", KeepsVanishedClients),
    _cors_regression("cors-missing-on-errors", "cors:allowed", allowed_without_error),
    _cors_regression("cors-missing-on-304", "cors:allowed", allowed_unless_not_modified),
    seeded("assert_responsive", "snapshot-on-the-loop", "heap:stepwise", taken_on_the_loop),
    seeded("assert_streamed", "snapshot-in-memory", "heap:stepwise", taken_in_one_piece),
    _survival_regression("task-left-behind", "responses:ResponseWriter", LeavesFlushTask),
    _survival_regression("deep-json-fails", "app:read_json", read_if_shallow),
    _survival_regression("bodies-kept", "app:read_json", read_and_keep_body),
    seeded("assert_stops", "cut-off-at-stop", "writers:to_the_end", cut_off),
)
