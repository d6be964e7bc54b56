"""The program of a fresh interpreter of `assert_fetch_is_gated`: run the subject under a guard.

In: one JSON object on standard input, with the subject, the import path and the settings. Out: the
last line of standard output, a JSON object with the attempts and the error of the subject.
"""

import asyncio
import contextlib
import importlib
import importlib.util
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from pytest_streamperf.exceptions import NetworkExceeded, NetworkInconclusive
from pytest_streamperf.network.attempts import is_address, is_local
from pytest_streamperf.network.fetch_guard import FetchGuard

_INTERNET = {socket.AF_INET, socket.AF_INET6}


def main() -> None:
    """Run the subject that standard input describes, and print the result."""
    order = json.loads(sys.stdin.read())
    sys.path[:] = order["path"]
    for module in order["modules"]:
        importlib.import_module(module)
    output, sys.stdout = sys.stdout, sys.stderr  # the subject may print, too
    error = ""
    if order["stub"] is not None:
        _redirect(order["stub"])
    guard = FetchGuard(block=True)
    with contextlib.suppress(NetworkExceeded, NetworkInconclusive), guard:
        try:
            _run(order)
        except Exception as raised:  # noqa: BLE001 - any error of the subject is reported
            error = f"{type(raised).__name__}: {raised}"
        _join_threads(order["settle"])
        attempts = [attempt.plain() for attempt in guard.attempts]
    output.write("\n" + json.dumps({"attempts": attempts, "error": error}) + "\n")
    output.flush()
    os._exit(0)  # a thread may still wait for an answer that never comes


def _run(order: dict[str, Any]) -> None:
    if "snippet" in order:
        exec(compile(order["snippet"], "<snippet>", "exec"), {"__name__": "__snippet__"})  # noqa: S102
        return
    function = _find_function(order["function"], order.get("file", ""))
    returned = function()
    if asyncio.iscoroutine(returned):
        asyncio.run(_await_with_tasks(returned, order["settle"]))


def _find_function(name: str, file: str) -> Callable[[], Any]:
    module_name, _, path = name.partition(":")
    try:
        owner: Any = importlib.import_module(module_name)
    except ModuleNotFoundError:
        spec = importlib.util.spec_from_file_location(module_name, file) if file else None
        if spec is None or spec.loader is None:
            raise
        owner = sys.modules[module_name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(owner)
    for part in path.split("."):
        owner = getattr(owner, part)
    function: Callable[[], Any] = owner
    return function


async def _await_with_tasks(coroutine: Any, settle: float) -> None:
    await coroutine
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        await asyncio.wait(tasks, timeout=settle)


def _join_threads(seconds: float) -> None:
    """Wait for the threads that the subject started, for at most `seconds` in all."""
    end = time.monotonic() + seconds
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(max(0.0, end - time.monotonic()))


def _redirect(port: int) -> None:
    """Send every connection to the stub server at `port`; resolve every name to this machine."""
    look_up, socket_class = socket.getaddrinfo, socket.socket

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        is_resolved = host is None or is_local(str(host)) or is_address(str(host))
        return look_up(host if is_resolved else "127.0.0.1", *args, **kwargs)

    def redirected(connect: Callable[..., Any]) -> Callable[..., Any]:
        def connect_to_stub(client: Any, address: Any) -> Any:
            internet = client.family in _INTERNET and client.type == socket.SOCK_STREAM
            return connect(client, ("127.0.0.1", port) if internet else address)

        return connect_to_stub

    socket.getaddrinfo = getaddrinfo
    for name in ("connect", "connect_ex"):
        setattr(socket_class, name, redirected(getattr(socket_class, name)))


main()
