import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

import pytest
import torch
from safetensors.torch import load_file

from sweeper.models.loading import load
from sweeper.records import Checkpoint
from sweeper.spec.model import ModelSpec

MAIN, STEP, GATED = "a" * 40, "b" * 40, "c" * 40

PROGRAM = """
import dataclasses, json, sys
from sweeper.errors import UserError
from sweeper.models import resolve, weights_folder
from sweeper.spec.model import ModelSpec

answers = []
for path, revision in json.loads(sys.argv[1]):
    spec = ModelSpec(path=path, revision=revision)
    try:
        checkpoint = resolve("mine", spec, "cpu")
        folder = str(weights_folder(checkpoint, spec))
        answers.append({"checkpoint": dataclasses.asdict(checkpoint), "folder": folder})
    except UserError as error:
        answers.append({"error": str(error)})
print(json.dumps({"answers": answers, "torch": "torch" in sys.modules}))
"""


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's HTTP interface that resolving and downloading a model uses."""

    revisions: ClassVar = {"main": MAIN, "step1": STEP, MAIN: MAIN, STEP: STEP}
    commits: ClassVar[dict[str, dict[str, bytes]]] = {}

    def do_GET(self):
        self._answer(body=True)

    def do_HEAD(self):
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if "down" in parts:
            self._send(503, b"", body=body)
        elif "closed" in parts:
            self._closed(parts, body=body)
        elif "tiny" not in parts:
            self._send(404, b"", body=body, error="RepoNotFound")
        elif parts[0] == "api":
            self._api(*parts[-2:], body=body)
        else:
            self._file(parts[-2], parts[-1], body=body)

    def _closed(self, parts: list[str], *, body: bool) -> None:
        """A gated repository shows its page to everybody, but no file."""
        if parts[0] == "api":
            self._json({"id": "org/closed", "sha": GATED, "siblings": []}, body=body)
        else:
            self._send(403, b"", body=body, error="GatedRepo")

    def _api(self, kind: str, revision: str, *, body: bool) -> None:
        commit = self.revisions.get(revision)
        if commit is None:
            self._send(404, b"", body=body, error="RevisionNotFound")
        elif kind == "revision":
            self._json({"id": "org/tiny", "sha": commit, "siblings": []}, body=body)
        else:
            files = self.commits[commit].items()
            listing = [
                {"type": "file", "path": name, "size": len(content), "oid": _oid(content)}
                for name, content in files
            ]
            self._json(listing, body=body)

    def _file(self, commit: str, name: str, *, body: bool) -> None:
        content = self.commits[commit].get(name)
        if content is None:
            self._send(404, b"", body=body, error="EntryNotFound")
        else:
            facts = {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": commit}
            self._send(200, content, body=body, **facts)

    def _json(self, content: object, *, body: bool) -> None:
        text = json.dumps(content).encode()
        self._send(200, text, body=body, **{"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, *, body: bool, error: str = "", **headers: str):
        self.send_response(status)
        if error:
            self.send_header("X-Error-Code", error)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@pytest.fixture(scope="module")
def endpoint(tiny_folder, tmp_path_factory) -> Iterator[str]:
    """A hub with ``org/tiny``: safetensors on main, pickled weights alone at step1."""
    folder = tiny_folder("gpt_neox")
    main = {file.name: file.read_bytes() for file in folder.iterdir()}
    pickled = tmp_path_factory.mktemp("bin") / "pytorch_model.bin"
    torch.save(load_file(folder / "model.safetensors"), pickled)
    step = {name: content for name, content in main.items() if name != "model.safetensors"}
    extra = {"consolidated.safetensors": b"not wanted", "pytorch_model.bin": b"not wanted"}
    Hub.commits = {
        MAIN: {**main, **extra},
        STEP: {**step, "pytorch_model.bin": pickled.read_bytes()},
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def ask(home: Path, endpoint: str, *models: tuple[str, str], offline: bool = False) -> list[dict]:
    """Resolve in a process of its own, since the hub's address is read when it is imported."""
    proxies = ("http_proxy", "https_proxy", "all_proxy")
    kept = {name: value for name, value in os.environ.items() if name.lower() not in proxies}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(models)],
        cwd=Path(__file__).resolve().parents[2],
        env={
            **kept,
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_HUB_OFFLINE": "1" if offline else "0",
            "HF_HUB_DISABLE_XET": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert not answer["torch"]
    return answer["answers"]


@pytest.fixture(scope="module")
def home(endpoint, tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def online(endpoint, home) -> list[dict]:
    return ask(home, endpoint, ("org/tiny", "main"), ("org/tiny", "step1"), ("org/tiny", STEP))


def test_revisions_resolve_to_commits(online):
    found = [Checkpoint(**answer["checkpoint"]) for answer in online]
    assert [checkpoint.commit for checkpoint in found] == [MAIN, STEP, STEP]
    assert [checkpoint.revision for checkpoint in found] == ["main", "step1", STEP]
    assert [checkpoint.fingerprint for checkpoint in found] == [
        f"hub:{commit}" for commit in (MAIN, STEP, STEP)
    ]
    assert {checkpoint.location for checkpoint in found} == {"org/tiny"}
    assert {checkpoint.origin for checkpoint in found} == {"hub org/tiny"}
    assert {checkpoint.num_neurons for checkpoint in found} == {48}


def test_only_the_weights_that_are_loaded_are_downloaded(online):
    main, step, _ = ({path.name for path in Path(answer["folder"]).iterdir()} for answer in online)
    common = {"config.json", "tokenizer.json", "tokenizer_config.json"}
    assert main == common | {"model.safetensors"}
    assert step == common | {"pytorch_model.bin"}


def test_safetensors_and_pickled_weights_load_alike(online):
    ids = torch.arange(16)[None]
    logits = []
    for answer in online[:2]:
        checkpoint = Checkpoint(**answer["checkpoint"])
        spec = ModelSpec(path=checkpoint.location, revision=checkpoint.revision)
        logits.append(load(checkpoint, spec, Path(answer["folder"])).model(ids).logits)
    assert torch.equal(*logits)


def test_what_is_cached_resolves_alike_without_the_hub(online, home, endpoint):
    main, step, absent = ask(
        home, endpoint, ("org/tiny", "main"), ("org/tiny", STEP), ("org/tiny", "x"), offline=True
    )
    for answer, before in ((main, online[0]), (step, online[2])):
        origin = "hub org/tiny (local cache; hub not reachable)"
        assert answer["checkpoint"] == {**before["checkpoint"], "origin": origin}
        assert answer["folder"] == before["folder"]
    assert "the hub cannot be reached" in absent["error"]


def test_what_the_hub_does_not_have_is_named(home, endpoint):
    models = [("org/tiny", "step7"), ("org/absent", "main"), ("org/closed", "main")]
    revision, repository, gated = (a["error"] for a in ask(home, endpoint, *models))
    assert revision == (
        "model.mine.revision: the hub repository 'org/tiny' has no revision 'step7'"
    )
    assert "neither a local folder nor a hub repository 'org/absent'" in repository
    assert "access to the hub repository 'org/closed' must be asked for" in gated


def test_a_hub_that_is_down_is_told_from_one_that_says_no(tmp_path, endpoint):
    (down,) = ask(tmp_path, endpoint, ("org/down", "main"))
    (refused,) = ask(tmp_path, "http://127.0.0.1:9", ("org/tiny", "main"))
    assert "the hub cannot be reached" in down["error"]
    assert "the hub cannot be reached" in refused["error"]
