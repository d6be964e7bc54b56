"""A crowd that reads streams at once, from a process of its own: see `benchmarks.server`.

    python -m benchmarks.crowd PORT PATH CLIENTS TIMES

Each client takes bytes and looks at next to none of them, so that reading costs a fraction of
serving. Prints, as JSON, the seconds to each first chunk, the longest gap of each stream, the
number of bytes that each was, how often they were read, and seconds of CPU.
"""

import json
import selectors
import socket
import sys
import time

BODY = b'{"stream": true, "messages": [{"role": "user", "content": "hello"}]}'
_HEAD = "POST {} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n"
_PATIENCE = 120.0
# Whoever writes to a socket that somebody waits for is charged with waking them: elsewhere that is
# the network's part. So nobody waits, and what is told is coarse by as much.
_LOOK_EVERY = 0.001


class Client:
    """One stream, from its request to its end."""

    def __init__(self, port: int, request: bytes) -> None:
        self._request = request
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(0)
        self.start = self.last = 0.0
        self.first: float | None = None
        self.gap, self.size, self.reads = 0.0, 0, 0
        self._tail = b""

    def ask(self) -> None:
        """Send the request."""
        self.start = time.perf_counter()
        self.socket.sendall(self._request)

    def read(self) -> bool:
        """Take what there is; whether the stream is over."""
        data = self.socket.recv(2**18)
        now = time.perf_counter()
        if not data:
            if not self._tail.endswith(b"\r\n0\r\n\r\n"):
                sys.exit(f"a stream was cut off after {self.size} bytes: {self._tail!r}")
            return True
        if self.first is not None:
            self.gap = max(self.gap, now - self.last)
        elif b"data: " in data:
            self.first = now - self.start
        self.last = now
        self.size += len(data)
        self.reads += 1
        self._tail = data[-64:] if len(data) > 64 else (self._tail + data)[-64:]  # noqa: PLR2004
        return False


def crowd(port: int, request: bytes, count: int) -> list[Client]:
    """Have so many read at once, all to the end."""
    clients = [Client(port, request) for _ in range(count)]
    with selectors.DefaultSelector() as waiting:
        for client in clients:
            waiting.register(client.socket, selectors.EVENT_READ, client)
        for client in clients:
            client.ask()
        left = count
        while left:
            time.sleep(_LOOK_EVERY)
            ready = waiting.select(_PATIENCE)
            if not ready:
                sys.exit(f"{left} of {count} streams stood still for {_PATIENCE:g} s")
            for key, _ in ready:
                if key.data.read():
                    waiting.unregister(key.fileobj)
                    key.data.socket.close()
                    left -= 1
    return clients


def main() -> None:
    """Read, and print what was seen."""
    port, path, count, times = sys.argv[1:]
    request = _HEAD.format(path, len(BODY)).encode() + BODY
    clients = [
        client for _ in range(int(times)) for client in crowd(int(port), request, int(count))
    ]
    seen = {
        "first": [client.first for client in clients],
        "gap": [client.gap for client in clients],
        "size": [client.size for client in clients],
        "reads": sum(client.reads for client in clients),
        "cpu": time.process_time(),
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
