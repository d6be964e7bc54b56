"""What runs in a fresh interpreter of `assert_fetch_is_gated`: the subject, while somebody looks.

It is told what to do on standard input, and says what was tried on the last line of its output.
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
    """Do as told."""
    told = json.loads(sys.stdin.read())
    sys.path[:] = told["path"]
    for module in told["modules"]:
        importlib.import_module(module)
    output, sys.stdout = sys.stdout, sys.stderr  # what the subject prints is not the answer
    error = ""
    if told["stub"] is not None:
        _redirect(told["stub"])
    guard = FetchGuard(block=True)
    with contextlib.suppress(NetworkExceeded, NetworkInconclusive), guard:
        try:
            _run(told)
        except Exception as raised:  # noqa: BLE001 - whatever it is, it is told
            error = f"{type(raised).__name__}: {raised}"
        _settle(told["settle"])
        attempts = [each.plain() for each in guard.attempts]
    output.write("\n" + json.dumps({"attempts": attempts, "error": error}) + "\n")
    output.flush()
    os._exit(0)  # what still waits for an answer would wait on


def _run(told: dict[str, Any]) -> None:
    if "snippet" in told:
        exec(compile(told["snippet"], "<snippet>", "exec"), {"__name__": "__snippet__"})  # noqa: S102
        return
    function = _find(told["function"], told.get("file", ""))
    done = function()
    if asyncio.iscoroutine(done):
        asyncio.run(_await(done, told["settle"]))


def _find(name: str, file: str) -> Callable[[], Any]:
    module_name, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError:
        spec = importlib.util.spec_from_file_location(module_name, file) if file else None
        if spec is None or spec.loader is None:
            raise
        found = sys.modules[module_name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
    for part in path.split("."):
        found = getattr(found, part)
    function: Callable[[], Any] = found
    return function


async def _await(done: Any, settle: float) -> None:
    await done
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        await asyncio.wait(tasks, timeout=settle)


def _settle(seconds: float) -> None:
    """Wait for the threads that the subject left."""
    end = time.monotonic() + seconds
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(max(0.0, end - time.monotonic()))


def _redirect(port: int) -> None:
    """Have whoever looks up a name, or connects elsewhere, come to the stub."""
    look_up, own = socket.getaddrinfo, socket.socket

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        known = host is None or is_local(str(host)) or is_address(str(host))
        return look_up(host if known else "127.0.0.1", *args, **kwargs)

    def redirected(connect: Callable[..., Any]) -> Callable[..., Any]:
        def connected(one: Any, address: Any) -> Any:
            internet = one.family in _INTERNET and one.type == socket.SOCK_STREAM
            return connect(one, ("127.0.0.1", port) if internet else address)

        return connected

    socket.getaddrinfo = getaddrinfo
    for name in ("connect", "connect_ex"):
        setattr(own, name, redirected(getattr(own, name)))


main()
