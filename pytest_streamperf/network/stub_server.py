"""A stub server on this machine that answers for every host, so that response code runs in tests.

`Stub` serves HTTP/1.1, with and without TLS, and records the requests. Its certificate authority
issues a certificate for each host name that a client asks for. Clients trust that authority if
their process has the variables in `Stub.env`.
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
    """A request to the stub: the method, the host, the path with its query, and the body."""

    method: str
    host: str
    path: str
    body: bytes = b""

    def __str__(self) -> str:
        return f"{self.method} {self.host}{self.path.partition('?')[0]}"


Answers = Mapping[str, Any] | Callable[[Request], Any]
"""Bodies by "host/path" without the query, or a function: bytes, a text, or a value for JSON."""

_TLS_HANDSHAKE = b"\x16"  # the first byte of a TLS connection (RFC 8446, 5.1)


class Stub:
    """Server that runs while entered, on `port`; a client process needs the variables `env`."""

    def __init__(self, answers: Answers | None = None) -> None:
        self.requests: list[Request] = []
        self.port = 0
        self.env: dict[str, str] = {}
        self._answers = answers
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamperf-")))
            contexts = _TlsContexts()
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
        """Record a request, and return the body of its response."""
        self.requests.append(request)
        if callable(self._answers):
            answer = self._answers(request)
        else:
            answers = self._answers or {}
            answer = answers.get(f"{request.host}{request.path.partition('?')[0]}", {})
        if isinstance(answer, bytes):
            return answer
        return (answer if isinstance(answer, str) else json.dumps(answer)).encode()


class _TlsContexts:
    """TLS contexts for any host name; the first connection to a name issues its certificate."""

    def __init__(self) -> None:
        try:
            import trustme  # noqa: PLC0415 - an extra
        except ModuleNotFoundError:
            raise missing_extra("trustme", "gate", "mode='stub'") from None
        self._authority = trustme.CA()
        self.authority = self._authority.cert_pem.bytes()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self.context = self._context_for("localhost")
        self.context.sni_callback = self._select_context

    def _select_context(self, connection: Any, name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._context_for(name or "localhost")

    def _context_for(self, name: str) -> ssl.SSLContext:
        if name not in self._contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._authority.issue_cert(name).configure_cert(context)
            self._contexts[name] = context
        return self._contexts[name]


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, stub: Stub, contexts: _TlsContexts) -> None:
        self.stub = stub
        self._contexts = contexts
        super().__init__(("127.0.0.1", 0), _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        if request.recv(1, socket.MSG_PEEK) != _TLS_HANDSHAKE:
            super().finish_request(request, client_address)
            return
        with self._contexts.context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors of a connection, because a client may leave at any time."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def answer(self) -> None:
        """Answer a request of any method."""
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
        """Write no log line, because `Stub.requests` holds the requests."""


for _method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
    setattr(_Handler, f"do_{_method}", _Handler.answer)
