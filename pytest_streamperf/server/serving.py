"""Where a check's clients go: to an app that is served for them, or to a server that runs."""

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

# Seconds from tick to tick of a loop, and how much later one may come before it counts.
_TICK, _LATE = 0.01, 0.02


class PatientLoop(getattr(asyncio, "ProactorEventLoop", asyncio.SelectorEventLoop)):  # type: ignore[misc]
    """An event loop for clients, whose seconds are those in which this process could run.

    What a machine takes for something else, but for 30 ms each time, is not held against a server:
    deadlines come as much later. What runs on the loop must not block it: that would look alike.
    """

    def __init__(self) -> None:
        super().__init__()
        self._stood = 0.0
        self._now, self._cpu = clock.wall(), clock.cpu()
        self._tick()

    def time(self) -> float:
        """Seconds, less those for which nothing of this process ran."""
        now, cpu = clock.wall(), clock.cpu()
        late = now - self._now - _TICK - _LATE - (cpu - self._cpu)
        self._now, self._cpu = now, cpu
        self._stood += max(0.0, late)
        return now - self._stood

    def _tick(self) -> None:
        self.call_later(_TICK, self._tick)


class Seen:
    """An ASGI app, and where it runs: the event loop and the thread, once it is served."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Have the app answer."""
        self.loop, self.thread = asyncio.get_running_loop(), threading.get_ident()
        await self._app(scope, receive, send)


class Door(Seen):
    """An app that lets in nobody before all who are awaited are there, and then all at once."""

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self._awaited = self._missing = 0
        self._open = asyncio.Event()

    def close(self, awaited: int) -> None:
        """Have the next so many requests wait for each other."""
        self._awaited = self._missing = awaited

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Have the app answer a request, which has come whole by then."""
        if not self._awaited:
            await super().__call__(scope, receive, send)
            return
        self._awaited -= 1
        come = [await receive()]
        while come[-1].get("more_body"):
            come.append(await receive())
        self._missing -= 1
        if not self._missing:
            self._open.set()
        await self._open.wait()

        async def received() -> Any:
            return come.pop(0) if come else await receive()

        await super().__call__(scope, received, send)


@contextmanager
def served(server: App | str) -> Iterator[str]:
    """Yield the base URL of a server, or of an app that is served while this is open.

    Raises `TypeError` for what is neither, and `ValueError` for a URL of another scheme.
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
    loop: Callable[[], asyncio.AbstractEventLoop] | None = PatientLoop,
) -> _T:
    """Run a check's clients on an event loop of their own; `name` is the check's.

    With no `loop` on what the policy has, which may be alone in starting processes.
    """
    if running_loop():
        msg = (
            f"{name} runs clients on an event loop of its own, and one is running here: "
            f"await asyncio.to_thread({name}, ...)"
        )
        raise TypeError(msg)
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main())
