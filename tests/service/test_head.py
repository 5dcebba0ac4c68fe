import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sweeper.errors import UserError
from sweeper.service import head
from sweeper.service.head import connect


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server on loopback that answers everything in the same way."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "auto",
        "head:8265",
        "ray://head:10001",
        "os://system",
        "http://",
        "http://a/b",
        "http://a b",
    ],
)
def test_only_the_address_of_a_dashboard_is_taken(address):
    with pytest.raises(UserError, match="http://HOST:8265"):
        connect(address)


def test_nothing_answers():
    with pytest.raises(UserError, match=r"^--address 'http://127\.0\.0\.1:9': no Ray answers") as e:
        connect("http://127.0.0.1:9/")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (200, b"{}"), (404, b""), (500, b"")]
)
def test_something_else_answers(status, body):
    with answering(status, body) as url, pytest.raises(UserError, match="not the dashboard of Ray"):
        connect(url)


def test_a_head_that_accepts_and_says_nothing(monkeypatch):
    import socket

    monkeypatch.setattr(head, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UserError, match="no Ray answers there"):
            connect(url)
