"""Serve an app for a check, and run the clients of the check.

`served` takes an ASGI app or a URL, and yields the base URL for the clients. `run` runs the clients
on an event loop of their own. `StallTolerantLoop` is that loop: its clock stops while this process
cannot run, so that a busy machine does not make a server look slow. `ServedApp` notes where an app
runs, and `Door` lets several requests reach an app at the same moment.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pytest_streamperf._runtime import clock
from pytest_streamperf._runtime.context import running_loop
from pytest_streamperf.wire.server import serve_app

App = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI app."""

_T = TypeVar("_T")

# Seconds between two ticks that keep a client's event loop awake. Not measured.
_TICK_S = 0.01
# Seconds by which a tick may be late before the delay counts as a stall of this process.
# Not measured.
_TOLERANCE_S = 0.02


class StallTolerantLoop(getattr(asyncio, "ProactorEventLoop", asyncio.SelectorEventLoop)):  # type: ignore[misc]
    """An event loop for clients, whose clock stops while this process cannot run.

    The loop ticks regularly. A stall of the process beyond 30 ms is subtracted from the clock, so a
    deadline moves back by the length of the stall. CPU time of this process is no stall. A callback
    that waits and blocks the loop would look like a stall, so callbacks must not block.
    """

    def __init__(self) -> None:
        super().__init__()
        self._stalled = 0.0
        self._now, self._cpu = clock.wall(), clock.cpu()
        self._tick()

    def time(self) -> float:
        """Return the time in seconds, without the stalls of this process so far."""
        now, cpu = clock.wall(), clock.cpu()
        stall = now - self._now - _TICK_S - _TOLERANCE_S - (cpu - self._cpu)
        self._now, self._cpu = now, cpu
        self._stalled += max(0.0, stall)
        return now - self._stalled

    def _tick(self) -> None:
        self.call_later(_TICK_S, self._tick)


class ServedApp:
    """An ASGI app that notes the event loop and the thread in which it runs.

    `loop` is None and `thread` is 0 until the app has received its first call.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Note the loop and the thread, and call the app."""
        self.loop, self.thread = asyncio.get_running_loop(), threading.get_ident()
        await self._app(scope, receive, send)


class Door(ServedApp):
    """An app that holds back a number of requests, and then starts all of them at once."""

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self._to_hold = self._not_yet_complete = 0
        self._open = asyncio.Event()

    def close(self, awaited: int) -> None:
        """Hold back the next `awaited` requests until all of them have arrived completely."""
        self._to_hold = self._not_yet_complete = awaited

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Receive the whole request, wait for the other requests held back, and call the app.

        A request that need not wait goes directly to the app.
        """
        if not self._to_hold:
            await super().__call__(scope, receive, send)
            return
        self._to_hold -= 1
        messages = [await receive()]
        while messages[-1].get("more_body"):
            messages.append(await receive())
        self._not_yet_complete -= 1
        if not self._not_yet_complete:
            self._open.set()
        await self._open.wait()

        async def receive_held_messages() -> Any:
            return messages.pop(0) if messages else await receive()

        await super().__call__(scope, receive_held_messages, send)


@contextmanager
def served(server: App | str) -> Iterator[str]:
    """Yield the base URL of `server`, and serve it inside the block if it is an app.

    Raises `TypeError` for an object that is neither an app nor a URL. Raises `ValueError` for a URL
    whose scheme is neither http nor https.
    """
    if isinstance(server, str):
        if urlsplit(server).scheme not in {"http", "https"}:
            msg = f"a server's URL must begin with http:// or https://, not {server!r}"
            raise ValueError(msg)
        yield server.rstrip("/")
        return
    if not callable(server):
        msg = f"a check takes an ASGI app or a URL, not {server!r}"
        raise TypeError(msg)
    with serve_app(server) as url:
        yield url


def run(
    name: str,
    main: Callable[[], Coroutine[Any, Any, _T]],
    loop: Callable[[], asyncio.AbstractEventLoop] | None = StallTolerantLoop,
) -> _T:
    """Run the clients of the check `name` on an event loop of their own, and return the result.

    Without a `loop`, the loop comes from the event loop policy. With a policy such as uvloop's,
    only the loops of that policy can start processes.

    Raises `TypeError` where an event loop already runs in this thread.
    """
    if running_loop():
        msg = (
            f"{name} needs an event loop of its own, and one is running in this thread: "
            f"await asyncio.to_thread({name}, ...)"
        )
        raise TypeError(msg)
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main())
