"""An S3 server on loopback for tests: moto's, if wanted with errors now and then.

Prints its port, and ends when its standard input does.
"""

import argparse
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

Start = Callable[..., Any]
ERRORS = (("500 Internal Server Error", "InternalError"), ("503 Slow Down", "SlowDown"))


class Failing:
    """Answers every n-th request with an error, as S3 does when it is busy."""

    def __init__(self, app: Callable[..., Iterable[bytes]], every: int) -> None:
        self._app, self._every = app, every
        self._requests, self._errors = itertools.count(1), itertools.cycle(ERRORS)

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        if next(self._requests) % self._every:
            return self._app(environ, start)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        status, code = next(self._errors)
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>x</Message></Error>"
        start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body.encode()]


class _Quiet(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        """Requests are not worth a line each."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fail-every", type=int, default=0)
    every = parser.parse_args().fail_every
    app = DomainDispatcherApplication(create_backend_app)
    served = Failing(app, every) if every else app
    server = make_server("127.0.0.1", 0, served, threaded=True, request_handler=_Quiet)
    print(server.port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
