"""A server on this machine that answers for all others, so that a whole response path runs.

It speaks HTTP/1.1, and TLS with certificates of an authority of its own, made for whichever name a
client asks for; the clients of one process are told to trust that by the environment.
"""

import json
import socket
import socketserver
import ssl
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple, Self

from pytest_streamperf.exceptions import missing_extra


class Request(NamedTuple):
    """What was asked for: the method, the host, the path with its query, and the body."""

    method: str
    host: str
    path: str
    body: bytes = b""

    def __str__(self) -> str:
        return f"{self.method} {self.host}{self.path.partition('?')[0]}"


Answers = Mapping[str, Any] | Callable[[Request], Any]
"""By "host/path" without the query, or a function: bytes, text, or what JSON knows."""

_HELLO = b"\x16"  # the first byte of a TLS handshake


class Stub:
    """Serves while it is entered: on `port`; clients want `env` in their environment."""

    def __init__(self, answers: Answers | None = None) -> None:
        self.requests: list[Request] = []
        self.port = 0
        self.env: dict[str, str] = {}
        self._answers = answers
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamperf-")))
            contexts = _Contexts()
            bundle = folder / "authority.pem"
            bundle.write_bytes(contexts.authority)
            variables = "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"
            self.env = dict.fromkeys(variables, str(bundle))
            server = _Server(self, contexts)
            stack.callback(server.server_close)
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def answer(self, request: Request) -> bytes:
        """Take a request down, and say what it gets."""
        self.requests.append(request)
        if callable(self._answers):
            found = self._answers(request)
        else:
            known = self._answers or {}
            found = known.get(f"{request.host}{request.path.partition('?')[0]}", {})
        if isinstance(found, bytes):
            return found
        return (found if isinstance(found, str) else json.dumps(found)).encode()


class _Contexts:
    """TLS for any name: each gets a certificate when it is asked for."""

    def __init__(self) -> None:
        try:
            import trustme  # noqa: PLC0415 - an extra
        except ModuleNotFoundError:
            raise missing_extra("trustme", "gate", "mode='stub'") from None
        self._authority = trustme.CA()
        self.authority = self._authority.cert_pem.bytes()
        self._known: dict[str, ssl.SSLContext] = {}
        self.context = self._of("localhost")
        self.context.sni_callback = self._named

    def _named(self, one: Any, name: str | None, _context: ssl.SSLContext) -> None:
        one.context = self._of(name or "localhost")

    def _of(self, name: str) -> ssl.SSLContext:
        if name not in self._known:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._authority.issue_cert(name).configure_cert(context)
            self._known[name] = context
        return self._known[name]


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, stub: Stub, contexts: _Contexts) -> None:
        self.stub = stub
        self._contexts = contexts
        super().__init__(("127.0.0.1", 0), _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        if request.recv(1, socket.MSG_PEEK) != _HELLO:
            super().finish_request(request, client_address)
            return
        with self._contexts.context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def answer(self) -> None:
        """Whatever the method is."""
        length = int(self.headers.get("Content-Length") or 0)
        host = (self.headers.get("Host") or "").partition(":")[0]
        request = Request(self.command, host, self.path, self.rfile.read(length))
        body = self.server.stub.answer(request)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: the requests are kept."""


for _method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
    setattr(_Handler, f"do_{_method}", _Handler.answer)
