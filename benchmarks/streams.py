"""What do streams cost: handed out, coded, and served? Each beside the least there is.

    python -m benchmarks.streams                        # about a minute
    python -m benchmarks.streams --rounds 3

Deltas beside a bare generator of one string; dialects beside `json.dumps` and `json.loads` of the
same payloads; chunks over loopback beside a bare uvicorn app that sends the same bytes and the
package `llmock` that is scripted to say the same words. All servers run in processes of their own,
on asyncio and h11, and the client reads bytes and looks at none. What is told is the median of the
rounds, in which everything is run once.
"""

import argparse
import asyncio
import gc
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any

from benchmarks.environment import PARSER, ROOT, machine, python_with
from pytest_streamperf import Text, TokenStream, ToolCall, Turn, Usage
from pytest_streamperf.wire import BUILT_IN, dialect
from pytest_streamperf.wire.wire_stream import WireStream

PACKAGES = "llmock==0.2.2", "websockets==17.4", "psutil==7.2.2", "pytest==9.2.0", PARSER
DELTAS = 100_000
WORDS = 5_000
_CALL = ToolCall("write", {"path": "notes.md", "content": "The reply of a model. " * 500})
TURN = Turn(Text("The reply of a model comes in small pieces. " * 500), _CALL, usage=Usage(9, 9))

Timed = Callable[[], object]


def bare(deltas: int) -> Iterator[str]:
    """The least that a stream could be."""
    for _ in range(deltas):
        yield "delta"


async def bare_async(deltas: int) -> AsyncIterator[str]:
    """The same where it is awaited: the event loop runs before each delta."""
    for _ in range(deltas):
        await asyncio.sleep(0)
        yield "delta"


def handed_out() -> dict[str, tuple[int, Timed, dict[str, Timed]]]:
    """What is done with how many, what it is held against, and who else does it."""
    drawn, given = TokenStream(DELTAS), TokenStream(bare(DELTAS))

    async def awaited(stream: Any) -> None:
        async for _ in stream:
            pass

    def taken(stream: Any) -> Timed:
        def take() -> None:
            for _ in stream() if callable(stream) else stream:
                pass

        return take

    fewer = DELTAS // 10
    return {
        "deltas handed out": (
            DELTAS,
            taken(lambda: bare(DELTAS)),
            {"drawn by seed": taken(drawn), "given": taken(given)},
        ),
        "deltas awaited": (
            fewer,
            lambda: asyncio.run(awaited(bare_async(fewer))),
            {"drawn by seed": lambda: asyncio.run(awaited(TokenStream(fewer)))},
        ),
    }


def coded() -> dict[str, tuple[int, Timed, dict[str, Timed]]]:
    """Each dialect, there and back."""
    found: dict[str, tuple[int, Timed, dict[str, Timed]]] = {}
    for name in BUILT_IN:
        spoken = dialect(name)
        events = list(spoken.encode(TURN))
        texts = [text for text in map(_payload, events) if text]
        payloads = [json.loads(text) for text in texts]

        def encode(spoken: Any = spoken) -> None:
            for _ in spoken.encode(TURN):
                pass

        def decode(spoken: Any = spoken, events: list[bytes] = events) -> None:
            decoder = spoken.Decoder()
            for event in events:
                decoder.feed(event)
            decoder.close()

        def dumps(payloads: list[Any] = payloads) -> None:
            for payload in payloads:
                json.dumps(payload).encode()

        def loads(texts: list[bytes] = texts) -> None:
            for text in texts:
                json.loads(text)

        found[f"{name} encoded"] = len(payloads), dumps, {"this project": encode}
        found[f"{name} decoded"] = len(payloads), loads, {"this project": decode}
    return found


def _payload(event: bytes) -> bytes:
    """The JSON of an event, or of a line that is nothing else; empty for what has none."""
    for line in event.splitlines():
        text = line.removeprefix(b"data:").strip()
        if text.startswith(b"{"):
            return text
    return b""


# -- servers, each as a program that is given how many words to say


def serve_bare(words: int) -> None:
    """The bytes that this project sends, from the least that an ASGI app can be."""
    chunks = list(_script(words))

    async def app(_scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})

    _listen(app)


def serve_ours(words: int) -> None:
    """A script of this project's."""
    from pytest_streamperf.wire.server import Script  # noqa: PLC0415

    _listen(Script(_script(words)))


def serve_llmock(words: int) -> None:
    """The same words."""
    from llmock.main import create_app  # noqa: PLC0415
    from llmock.scenarios import Reply  # noqa: PLC0415

    app = create_app()
    app.state.llmock.scenarios.add(Reply(text="word " * words, times=None))
    _listen(app)


SERVERS = {"bare uvicorn": serve_bare, "this project": serve_ours, "llmock": serve_llmock}


def _script(words: int) -> WireStream:
    return WireStream(Turn.of(["word "] * words, usage=Usage(1, words)), "openai-chat")


def _listen(app: Any) -> None:
    import uvicorn  # noqa: PLC0415

    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(
        uvicorn.Config(app, loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None)
    ).run(sockets=[listener])


@contextmanager
def serving(python: str, server: str) -> Iterator[int]:
    """Run a server, and give its port."""
    command = [python, "-m", "benchmarks.streams", "--serve", server]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            yield int(process.stdout.readline())
        finally:
            process.kill()


def read(port: int) -> int:
    """Ask for the stream, read it to its end, and give the number of its chunks."""
    body = json.dumps(
        {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer none\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    taken = bytearray()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + body)
        while not taken.endswith(b"\r\n0\r\n\r\n"):
            taken += connection.recv(2**16)
    return taken.count(b"\r\ndata: ")


def main() -> None:
    """Run everything in turn, and print the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        SERVERS[options.serve](WORDS)
        return
    python = python_with(*PACKAGES)
    print(f"{machine()}, {time.strftime('%Y-%m-%d')}: python -m benchmarks.streams\n")
    print(f"{'':28} {'':16} {'us each':>9} {'a second':>11} {'ratio':>7}")
    with ExitStack() as stack:
        ports = {name: stack.enter_context(serving(python, name)) for name in SERVERS}
        chunks = {read(port) for port in ports.values()}
        least, *others = ports
        of_servers: dict[str, Timed] = {
            name: lambda port=ports[name]: read(port) for name in others
        }
        table = {
            **handed_out(),
            **coded(),
            "chunks over loopback": (min(chunks), lambda: read(ports[least]), of_servers),
        }
        for what, (count, against, those) in table.items():
            _compare(what, count, {"": against, **those}, options.rounds)
    print(f"\nchunks of a stream: {', '.join(map(str, sorted(chunks)))}")


def _compare(what: str, count: int, those: dict[str, Timed], rounds: int) -> None:
    took: dict[str, list[float]] = {name: [] for name in those}
    for _ in range(rounds):
        for name, run in those.items():
            gc.collect()
            start = time.perf_counter()
            run()
            took[name].append((time.perf_counter() - start) / count)
    bare = median(took[""])
    for name, seconds in took.items():
        each = median(seconds)
        print(
            f"{what:28} {name or 'least there is':16} {each * 1e6:9.3f} {1 / each:11,.0f} "
            f"{each / bare:7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
