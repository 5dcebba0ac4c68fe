"""A proxy in front of an S3 server that lets every tenth request fail, in three ways in turn."""

import itertools
import socket
import struct
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

BUSY = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"""

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}
"""Headers that concern one connection."""

WAYS = ("busy", "cut", "answer lost")
"""The server says that it is busy; the connection breaks before the request is executed; it breaks
after that, so that nobody knows whether it was."""


class FlakyEndpoint:
    """The proxy, for as long as a context lasts."""

    def __init__(self, server: str, every: int = 10) -> None:
        """Prepare.

        Args:
            server: ``host:port`` of the server behind it.
            every: which requests fail.
        """
        self._server, self._every = server, every
        self._count, self._lock = itertools.count(1), threading.Lock()
        self.requests = 0
        self.failed = dict.fromkeys(WAYS, 0)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.address = f"127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        """Begin to serve."""
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self._http.shutdown()
        self._http.server_close()

    def fate(self) -> str | None:
        """How the next request fails; None where it does not."""
        with self._lock:
            self.requests = next(self._count)
            failure, rest = divmod(self.requests, self._every)
            if rest:
                return None
            way = WAYS[failure % len(WAYS)]
            self.failed[way] += 1
            return way

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = _body(self)
                way = endpoint.fate()
                if way == "busy":
                    return _answer(self, 503, {"Content-Type": "application/xml"}, BUSY)
                if way == "cut":
                    return _reset(self)
                status, headers, content = endpoint.forward(self, body)
                if way == "answer lost":
                    return _reset(self)
                return _answer(self, status, headers, content)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def forward(
        self, request: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask the server behind."""
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
        headers["Content-Length"] = str(len(body))
        connection = HTTPConnection(self._server, timeout=60)
        try:
            connection.request(request.command, request.path, body, headers)
            answer = connection.getresponse()
            kept = {k: v for k, v in answer.getheaders() if k.lower() not in HOP_BY_HOP}
            return answer.status, kept, answer.read()
        finally:
            connection.close()


def _body(request: BaseHTTPRequestHandler) -> bytes:
    if "chunked" not in request.headers.get("Transfer-Encoding", ""):
        return request.rfile.read(int(request.headers.get("Content-Length", 0)))
    parts = []
    while size := int(request.rfile.readline().split(b";")[0], 16):
        parts.append(request.rfile.read(size))
        request.rfile.readline()
    while request.rfile.readline().strip():  # trailers
        pass
    return b"".join(parts)


def _answer(
    request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], content: bytes
) -> None:
    request.send_response_only(status)
    length = {"Content-Length": str(len(content))}
    for name, value in ({} if request.command == "HEAD" else length).items():
        request.send_header(name, value)
    for name, value in headers.items():
        if request.command == "HEAD" or name.lower() != "content-length":
            request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(content)


def _reset(request: BaseHTTPRequestHandler) -> None:
    """Break the connection so that the other side sees an error, not an end."""
    linger = struct.pack("ii", 1, 0)
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    request.close_connection = True
    request.connection.close()
