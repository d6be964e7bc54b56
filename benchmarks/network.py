"""Who notices a background fetch? This guard beside others, over ways out that swallow their error.

    python -m benchmarks.network                        # everything: about five minutes
    python -m benchmarks.network --ways socket pycurl

Needs Linux, curl and redis-server, as root or with user namespaces. It runs in a network namespace
with only loopback up, to which the addresses of the test are bound, so that no packet leaves the
machine; what listens there counts who gets through. For each tool: *recorded*, a run that does not
pass; *right*, with the test to blame, and no other, failing; *reached*, what came through though it
was to be blocked. Exits with 1 if this project, with the exact layer, was less than perfect.
"""

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.environment import PARSER, ROOT, machine, python_with
from benchmarks.fresh_ways import FRESH
from benchmarks.ways import CALLS, CHILD, HARMLESS, WAYS, Way

HOST, PORT, NAME = "192.0.2.1", 8080, "models.example"
PACKAGES = (
    *("pytest==9.2.0", "pytest-socket==0.8.1", "pytest-recording==0.14.1", "pytest-httpx==0.36.2"),
    *("psutil==7.2.2", PARSER, "requests==2.34.2", "httpx==0.28.1", "httpx2==2.16.2"),
    *("aiohttp==3.14.5", "anyio==4.16.0", "trio==0.35.0", "websockets==17.4", "uvloop==0.23.0"),
    *("pycurl==7.49.0", "grpcio==1.85.1", "pycares==5.2.1", "primp==2.0.1"),
    *("pyzmq==27.3.0", "sentry-sdk==2.75.0", "redis==8.1.0", "debugpy==1.8.22"),
)
SETTINGS = "[tool.streamperf]\nbackground_fetch = false\nblock_network = true\n"
OURS = "this guard, exact"
_HEAD = """
import _socket, asyncio, concurrent.futures, contextlib, ctypes, http.client, multiprocessing, os
import socket, struct, subprocess, sys, threading, time, urllib.request
HOST, PORT, NAME, URL, CHILD = {host!r}, {port}, {name!r}, "http://{host}:{port}/models", {child!r}

def reach():
    with contextlib.{swallow}:
{code}

"""


class Tool(NamedTuple):
    """How a tool is turned on: options, the project's settings, a conftest."""

    options: tuple[str, ...] = ()
    settings: str = ""
    conftest: str = ""


TOOLS: Mapping[str, Tool] = {
    OURS: Tool(("-p", "pytest_streamperf._plugin"), f"{SETTINGS}exact_network = true\n"),
    "this guard, audit hook": Tool(("-p", "pytest_streamperf._plugin"), SETTINGS),
    "pytest-socket": Tool(("--disable-socket", "--allow-unix-socket")),
    "pytest-recording": Tool(("--block-network",)),
    "pytest-httpx": Tool(
        conftest="import pytest\n@pytest.fixture(autouse=True)\ndef mocked(httpx_mock): yield\n"
    ),
}
_PLUGINS = {
    "pytest-socket": ("-p", "pytest_socket"),
    "pytest-recording": ("-p", "pytest_recording.plugin"),
    "pytest-httpx": ("-p", "pytest_httpx"),
}


class Found(NamedTuple):
    """What a tool made of a way."""

    recorded: bool
    right: bool
    reached: bool


class Listener:
    """Counts who gets through, by TCP and UDP, to the addresses of the test and to the resolver."""

    def __init__(self) -> None:
        self.count = 0
        self._sockets: list[socket.socket] = []

    @contextmanager
    def listening(self, resolver: str) -> Iterator[None]:
        """Count, for as long as it is open."""
        for address, kind in (
            ((HOST, PORT), socket.SOCK_STREAM),
            ((HOST, PORT), socket.SOCK_DGRAM),
            ((resolver, 53), socket.SOCK_DGRAM),
        ):
            one = socket.socket(type=kind)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)
            if kind == socket.SOCK_STREAM:
                one.listen(128)
            self._sockets.append(one)
            threading.Thread(target=self._serve, args=(one,), daemon=True).start()
        try:
            yield
        finally:
            for one in self._sockets:
                one.close()

    def _serve(self, one: socket.socket) -> None:
        while True:
            try:
                if one.type == socket.SOCK_STREAM:
                    one.accept()[0].close()
                else:
                    one.recvfrom(4096)
            except OSError:
                return
            self.count += 1


def judge(python: str, tool: str, way: Way, listener: Listener) -> Found:
    """Run a test with this way in it under a tool."""
    how, before = TOOLS[tool], listener.count
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        code = textwrap.indent(way.code, " " * 8)
        swallow = "nullcontext()" if way in HARMLESS.values() else "suppress(BaseException)"
        child = CHILD.format(host=HOST, port=PORT)
        head = _HEAD.format(
            host=HOST, port=PORT, name=NAME, code=code, child=child, swallow=swallow
        )
        tests = f"{head}{CALLS[way.called]}\n\ndef test_innocent(): pass\n"
        (folder / "test_it.py").write_text(tests, encoding="utf-8")
        (folder / "pyproject.toml").write_text(how.settings, encoding="utf-8")
        (folder / "conftest.py").write_text(how.conftest, encoding="utf-8")
        done = subprocess.run(  # noqa: S603 - ours
            [
                *(python, "-m", "pytest", "-p", "no:cacheprovider", "-rfE"),
                *(*_PLUGINS.get(tool, ()), *how.options, f"--rootdir={folder}", str(folder)),
            ],
            cwd=folder,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)},
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
    said = done.stdout + done.stderr
    blamed = set(re.findall(r"^(?:FAILED|ERROR) \S*?(test_\w+|<\w+>)(?= |$)", said, re.MULTILINE))
    blamed |= set(re.findall(r"^\S*::(test_\w+): \d+ attempt", done.stderr, re.MULTILINE))
    expected = {"at import": "<startup>", "in a session fixture": "<session>"}
    right = blamed == {expected.get(way.called, "test_guilty")}
    return Found(done.returncode != 0, right, listener.count > before)


def inside(names: list[str], python: str) -> int:
    """In the namespace: ask every tool about every way, and print the matrix."""
    resolver = next(
        line.split()[1]
        for line in Path("/etc/resolv.conf").read_text(encoding="utf-8").splitlines()
        if line.startswith("nameserver")
    )
    for command in (
        ["ip", "link", "set", "lo", "up"],
        ["ip", "address", "add", f"{HOST}/32", "dev", "lo"],
        *(
            [["ip", "address", "add", f"{resolver}/32", "dev", "lo"]]
            if resolver[:4] != "127."
            else []
        ),
    ):
        subprocess.run(command, check=True)  # noqa: S603 - literals
    ways = {**WAYS, **FRESH}
    chosen = {name: ways[name] for name in names or ways}
    listener, found = Listener(), {}
    print(f"{'way':32} {'called':22} " + " ".join(f"{tool[:18]:>18}" for tool in TOOLS))
    with ExitStack() as stack:
        stack.enter_context(listener.listening(resolver))
        for name, way in chosen.items():
            row = {tool: judge(python, tool, way, listener) for tool in TOOLS}
            found[name] = row
            print(f"{name:32} {way.called:22} " + " ".join(map(_cell, row.values())), flush=True)
        alarms = [
            name
            for name, way in ({} if names else HARMLESS).items()
            if judge(python, OURS, way, listener).recorded
        ]
    for label in Found._fields:
        counts = [sum(getattr(row[tool], label) for row in found.values()) for tool in TOOLS]
        print(
            f"{label + ' of ' + str(len(found)):55} " + " ".join(f"{count:>18}" for count in counts)
        )
    if not names:
        print(f"false alarms of {OURS}: {', '.join(alarms) or 'none'}, of {len(HARMLESS)} ways")
    exact = [row[OURS] for row in found.values()]
    return int(bool(alarms) or not all(each == (True, True, False) for each in exact))


def _cell(found: Found) -> str:
    said = "-" if not found.recorded else "right" if found.right else "recorded"
    return f"{said + (', reached' if found.reached else ''):>18}"


def main() -> int:
    """Go into a namespace, and run there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--ways", nargs="*", default=[], choices=[*WAYS, *FRESH], metavar="WAY")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return inside(options.ways, options.inside)
    python = python_with(*PACKAGES)
    print(f"{machine()}: python -m benchmarks.network", *sys.argv[1:], flush=True)
    namespace = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-Urn"]
    command = [*namespace, sys.executable, "-m", "benchmarks.network", "--inside", python]
    ways = ["--ways", *options.ways] if options.ways else []
    return subprocess.run([*command, *ways], cwd=ROOT, check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
