"""Object stores on loopback for tests, each a process of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlencode

import pyarrow.fs as pafs
import pytest

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    # Without this the client looks for a machine of Amazon's around it.
    "AWS_EC2_METADATA_DISABLED": "true",
}


class S3Server:
    """moto's S3 server, with credentials in the environment of this process."""

    def __init__(self, fail_every: int = 0) -> None:
        script = Path(__file__).with_name("s3_server.py")
        command = [sys.executable, str(script), "--fail-every", str(fail_every)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def uri(self, bucket: str, folder: str = "", **options: object) -> str:
        """Address of a folder in a bucket, which is made."""
        endpoint = {"endpoint_override": f"127.0.0.1:{self.port}", "scheme": "http"}
        pafs.S3FileSystem(allow_bucket_creation=True, region="us-east-1", **endpoint).create_dir(
            bucket
        )
        return f"s3://{bucket}/{folder}?{urlencode({**endpoint, **options})}"

    def stop(self) -> None:
        """End the server."""
        self._process.communicate()


class GcsServer:
    """An emulator of Google's store."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--in-memory"]
        command += ["--host=127.0.0.1", f"--port={self.port}", "--default-bucket=bucket"]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, **silent)
        while not self._answers():
            assert self._process.poll() is None
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True

    def uri(self, bucket: str, folder: str = "") -> str:
        """Address of a folder in the one bucket that there is, called ``bucket``."""
        options = {"endpoint_override": f"127.0.0.1:{self.port}", "scheme": "http"}
        return f"gs://{bucket}/{folder}?{urlencode({**options, 'anonymous': 'true'})}"

    def stop(self) -> None:
        """End the server."""
        self._process.kill()
        self._process.wait()


@contextmanager
def s3_server(fail_every: int = 0) -> Iterator[S3Server]:
    """A server for as long as the context lasts."""
    _require("moto", "flask")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_PROFILE"):
            patch.delenv(name, raising=False)
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        server = S3Server(fail_every)
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def gcs_server() -> Iterator[GcsServer]:
    """A server for as long as the context lasts."""
    _require("gcp_storage_emulator")
    server = GcsServer()
    try:
        yield server
    finally:
        server.stop()


def _require(*packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed, so there is no server to test with")


def environment() -> dict[str, str]:
    """That of a process beside this one, which imports what this one does."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
