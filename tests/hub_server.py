"""A hub of models on the loopback interface: the part of the REST interface that is used."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    """Branches and tags by name, and the files of each commit."""

    branches: dict[str, str]
    commits: dict[str, dict[str, bytes]]
    tags: dict[str, str] = field(default_factory=dict)
    is_gated: bool = False
    """Shows its page to everybody, but no file."""

    def commit(self, revision: str) -> str | None:
        known = {**{commit: commit for commit in self.commits}, **self.tags, **self.branches}
        return known.get(revision)


@dataclass
class Served:
    """A running hub."""

    endpoint: str
    requests: list[str] = field(default_factory=list)
    """Method and path of every request so far."""

    def environment(self, home: Path, *, offline: bool = False) -> dict[str, str]:
        """Variables for a process that uses this hub; its address is read on import."""
        return hub_environment(self.endpoint, home, offline=offline)


def hub_environment(endpoint: str, home: Path, *, offline: bool = False) -> dict[str, str]:
    proxies = ("http_proxy", "https_proxy", "all_proxy")
    kept = {name: value for name, value in os.environ.items() if name.lower() not in proxies}
    return {
        **kept,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "SWEEPER_CACHE": str(home / "sweeper"),
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


@contextmanager
def serve(repositories: Mapping[str, Repository]) -> Iterator[Served]:
    """Serve repositories by their names (``org/name``); ``org/down`` answers that it is down."""
    served = Served("")

    class Handler(_Handler):
        known = repositories
        requests = served.requests

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    known: Mapping[str, Repository]
    requests: list[str]

    def do_GET(self):
        self._answer()

    def do_HEAD(self):
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        self.requests.append(f"{self.command} {path}")
        parts = [unquote(part) for part in path.strip("/").split("/")]
        is_api = parts[:2] == ["api", "models"]
        org, name, *rest = parts[2:] if is_api else parts
        repository = self.known.get(f"{org}/{name}")
        if name == "down":
            self._send(503, b"")
        elif repository is None:
            self._send(404, b"", error="RepoNotFound")
        elif is_api:
            self._api(repository, f"{org}/{name}", rest)
        else:
            self._file(repository, rest)

    def _api(self, repository: Repository, repo: str, rest: list[str]) -> None:
        if rest == ["refs"]:
            self._json(
                {
                    "branches": _refs(repository.branches, "heads"),
                    "tags": _refs(repository.tags, "tags"),
                    "converts": [],
                }
            )
            return
        commit = repository.commit(rest[1] if rest else "main")
        if commit is None:
            self._send(404, b"", error="RevisionNotFound")
        elif not rest or rest[0] == "revision":
            self._json({"id": repo, "sha": commit, "siblings": []})
        else:
            self._json(_listing(repository.commits[commit]))

    def _file(self, repository: Repository, rest: list[str]) -> None:
        _, revision, name = rest
        commit = repository.commit(revision)
        content = repository.commits.get(commit or "", {}).get(name)
        if repository.is_gated:
            self._send(403, b"", error="GatedRepo")
        elif content is None or commit is None:
            self._send(404, b"", error="EntryNotFound")
        else:
            facts = {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": commit}
            self._send(200, content, **facts)

    def _json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), **{"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, *, error: str = "", **headers: str) -> None:
        self.send_response(status)
        if error:
            self.send_header("X-Error-Code", error)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


def _refs(named: Mapping[str, str], kind: str) -> list[dict[str, str]]:
    return [
        {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit}
        for name, commit in named.items()
    ]


def _listing(files: Mapping[str, bytes]) -> list[dict[str, object]]:
    return [
        {"type": "file", "path": name, "size": len(content), "oid": _oid(content)}
        for name, content in files.items()
    ]


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def answers(
    program: str, asked: Sequence[Any], endpoint: str, home: Path, *, offline: bool = False
) -> list[dict[str, Any]]:
    """Run a program in a process of its own, since the hub's address is read when it is imported.

    It is given what is asked as JSON, and prints its answers, and whether it has imported torch.
    """
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(asked)],
        cwd=Path(__file__).resolve().parents[1],
        env=hub_environment(endpoint, home, offline=offline),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert not answer["torch"]
    found: list[dict[str, Any]] = answer["answers"]
    return found
