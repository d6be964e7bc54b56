"""Mistakes in how the server behaves: what it counts, sends, keeps and says to whom."""

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
    """Counts a request as over where its response ends, and not where its client leaves first."""

    def over(self, *, failed: bool, left: bool) -> None:
        """It is over."""
        if not left:
            super().over(failed=failed, left=left)


class EndsTwiceOnError(metrics.Tracked):
    """Counts down in the error handler, and again when all is over."""

    def over(self, *, failed: bool, left: bool) -> None:
        """It is over."""
        if failed:
            self._ended()
        super().over(failed=failed, left=left)


class MissesFailures(metrics.Tracked):
    """Counts a response where one was sent as it should be: what failed has none."""

    def over(self, *, failed: bool, left: bool) -> None:
        """It is over."""
        if failed:
            self._ended()
        else:
            super().over(failed=failed, left=left)


class BuffersWithoutEnd(telemetry.Session):
    """Keeps whatever a slow client has not taken."""

    def offer(self, text: str, size: int) -> None:
        """Take a message."""
        self._keep(text, size)


class NeverResumes(telemetry.Session):
    """Takes a client that fell behind once for one that is behind."""

    behind = False

    def offer(self, text: str, size: int) -> None:
        """Take a message, from those that never fell behind."""
        self.behind = self.behind or self.buffered + size > self._hub.limit
        if not self.behind:
            super().offer(text, size)


class HeardBySending(telemetry.Session):
    """Starts the idle clock again whenever something passes, its own messages too."""

    async def _send(self, text: str) -> None:
        await super()._send(text)
        self._heard()


class KeepsTheDead(telemetry.Session):
    """Finds out that clients are gone when it is told so, and nobody tells."""

    def _leave(self) -> None:
        pass


async def broadcast_and_wait(hub: telemetry.Hub, text: str) -> None:
    """Goes on to the next client when this one has taken all there was."""
    for session in tuple(hub.sessions):
        session.offer(text, len(text.encode()))
        while session.buffered and session in hub.sessions:  # noqa: ASYNC110 - as people write it
            await asyncio.sleep(0.001)


def allowed_unless_an_error(status: int) -> bool:
    """Adds the headers where an answer is made, and errors are made elsewhere."""
    return status < 400  # noqa: PLR2004 - where errors begin


def allowed_unless_not_modified(status: int) -> bool:
    """Takes an answer without a body for one that nobody reads."""
    return status != 304  # noqa: PLR2004 - "Not Modified"


async def taken_on_the_loop(steps: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Takes the snapshot where it is asked for, and everyone else waits."""
    for step in list(steps):
        yield step


async def taken_whole(steps: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Takes it in a thread, and sends it when there is all of it."""
    yield await asyncio.to_thread(b"".join, steps)


async def cut_off(
    writing: Coroutine[Any, Any, None], _stopping: Callable[[], Awaitable[None]], send: "Send"
) -> None:
    """Has a stop cancel what is being written, as whatever knows nothing of stops."""
    from starlette.requests import ClientDisconnect  # noqa: PLC0415 - the rest goes without

    try:
        await writing
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except* (ClientDisconnect, OSError):
        pass


class LeavesItsTask(responses.ResponseWriter):
    """Ends the task that flushes where a reply ends, and not where its client leaves."""

    over = False

    async def _ended(self) -> None:
        self.over = True
        await super()._ended()

    async def _stop(self, flushing: asyncio.Task[None]) -> None:
        if self.over:
            await super()._stop(flushing)


async def read_if_shallow(request: "Request", limit: int, allowed: str) -> Any:
    """Expects what is not JSON, and not what is nested too deep to be read."""
    from reference_impl import bodies  # noqa: PLC0415

    try:
        return json.loads(await bodies.read(request, limit))
    except ValueError as error:
        raise bodies.RequestError(400, "malformed_json", f"{error}, allowed: {allowed}") from None


async def read_and_kept(request: "Request", _limit: int, _allowed: str) -> Any:
    """Reads whatever comes, and keeps it for whoever may ask what that was."""
    body = await request.body()
    vars(request.app.state).setdefault("kept", []).append(body)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


_gauges = partial(seeded, "assert_gauges_settle")
_telemetry = partial(seeded, "assert_backpressure")
_cors = partial(seeded, "assert_cors")
_fire = partial(seeded, "assert_survives")

REGRESSIONS = (
    _gauges("gauge-leaks-on-disconnect", "metrics:Tracked", LeaksOnDisconnect),
    _gauges("gauge-goes-negative", "metrics:Tracked", EndsTwiceOnError),
    _gauges("totals-miss-failures", "metrics:Tracked", MissesFailures),
    _telemetry("buffer-without-end", "telemetry:Session", BuffersWithoutEnd),
    _telemetry("broadcast-waits", "telemetry:broadcast", broadcast_and_wait),
    _telemetry("never-resumes", "telemetry:Session", NeverResumes),
    _telemetry("idle-reset-by-sends", "telemetry:Session", HeardBySending),
    _telemetry("dead-clients-kept", "telemetry:Session", KeepsTheDead),
    _cors("cors-missing-on-errors", "cors:allowed", allowed_unless_an_error),
    _cors("cors-missing-on-304", "cors:allowed", allowed_unless_not_modified),
    seeded("assert_responsive", "snapshot-on-the-loop", "heap:stepwise", taken_on_the_loop),
    seeded("assert_streamed", "snapshot-in-memory", "heap:stepwise", taken_whole),
    _fire("task-left-behind", "responses:ResponseWriter", LeavesItsTask),
    _fire("deep-json-fails", "app:read_json", read_if_shallow),
    _fire("bodies-kept", "app:read_json", read_and_kept),
    seeded("assert_stops", "cut-off-at-stop", "writers:to_the_end", cut_off),
)
