import http.server
import json
import os
import re
import subprocess
import sys
import textwrap
import threading
from typing import ClassVar

import pandas as pd
import pytest

SHA = "0123456789abcdef0123456789abcdef01234567"
CARD = """---
configs:
- config_name: first
  data_files:
  - split: train
    path: first.parquet
- config_name: second
  data_files:
  - split: train
    path: second.parquet
---
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's interface as reading one public dataset needs."""

    files: ClassVar[dict[str, bytes]] = {}

    def do_GET(self):
        entry = re.fullmatch(r"/(?:api/)?datasets/org/pairs(/[^?]*)?(?:\?.*)?", self.path)
        _, verb, revision, *rest = (entry[1].split("/") + [""] * 3) if entry else ["", "", ""]
        name = "/".join(rest).strip("/")
        if entry and verb == "resolve" and name in self.files:
            self.answer(self.files[name], {"ETag": f'"{name}"', "X-Repo-Commit": SHA})
        elif entry and verb == "resolve":
            self.answer(b"", {"X-Error-Code": "EntryNotFound"}, 404)
        elif entry and verb == "revision" and revision in ("main", SHA):
            self.json({"id": "org/pairs", "sha": SHA, "private": False, "tags": [], "siblings": []})
        elif entry and verb == "revision":
            self.answer(b"", {"X-Error-Code": "RevisionNotFound"}, 404)
        elif entry and verb == "tree":
            self.json([self.described(file) for file in self.files])
        else:
            self.answer(b"", {"X-Error-Code": "RepoNotFound"}, 404)

    do_HEAD = do_GET

    def do_POST(self):
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.json([self.described(file) for file in self.files if file in asked])

    def described(self, file):
        return {"type": "file", "path": file, "size": len(self.files[file]), "oid": SHA}

    def json(self, content):
        self.answer(json.dumps(content).encode(), {"Content-Type": "application/json"})

    def answer(self, body, headers, status=200):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    Hub.files["README.md"] = CARD.encode()
    for config in ("first", "second"):
        rows = {
            "sentence_good": [f"{config} good {i}" for i in range(3)],
            "sentence_bad": [f"{config} bad {i}" for i in range(3)],
            "UID": [config] * 3,
            "linguistics_term": ["p"] * 3,
            "pair_id": [0, 1, 2],
        }
        pd.DataFrame(rows).to_parquet(folder / "rows.parquet")
        Hub.files[f"{config}.parquet"] = (folder / "rows.parquet").read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


PRELUDE = """
from sweeper.errors import UserError
from sweeper.score import corpus, pairs
from sweeper.spec.corpus import FileCorpus, HubCorpus
from sweeper.spec.task import Columns, HubPairs, MinimalPairsSpec

def suite(columns=None, **source):
    source = HubPairs(path="org/pairs", **source)
    return MinimalPairsSpec(source=source, columns=Columns(**(columns or {})), limit=2)

def text(**more):
    given = {"path": "org/pairs", "config": "first", "split": "train", "column": "sentence_bad"}
    return HubCorpus(**{**given, **more})

def error_of(call, *args):
    try:
        call(*args)
    except UserError as error:
        print(error)
"""


@pytest.fixture
def ask(tmp_path):
    def ask(endpoint, code, offline=False):
        # The hub's address is read when its client is imported, hence a process of its own.
        more = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": endpoint}
        more["HF_HUB_OFFLINE"] = str(int(offline))
        command = [sys.executable, "-c", PRELUDE + textwrap.dedent(code)]
        done = subprocess.run(command, env=os.environ | more, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return ask


def test_configurations_are_joined_and_cached(hub, ask, tmp_path):
    (tmp_path / "copy.csv").write_text("text\nfirst bad 1\nfirst bad 2\n")
    code = f"""
        spec = suite(configs="all")
        pairs.check(spec, "s")
        print(list(pairs.load_pairs(spec).itertuples(index=False, name=None))[1:3])
        print(len(pairs.load_pairs(suite(configs=["second"]))))
        corpus.check(text(), "c")
        print(corpus.documents(text(skip=1)))
        copy = FileCorpus(path={str(tmp_path / "copy.csv")!r})
        print(corpus.fingerprint(text(skip=1)) == corpus.fingerprint(copy))
    """
    expected = [
        "[(1, 'first/1', 'p', 'first', 'first good 1', 'first bad 1'), "
        "(2, 'second/0', 'p', 'second', 'second good 0', 'second bad 0')]",
        "2",
        "['first bad 1', 'first bad 2']",
        "True",
    ]
    assert ask(hub, code) == expected
    assert ask("http://127.0.0.1:9", code, offline=True) == expected


def test_what_the_hub_lacks_is_said_in_one_line(hub, ask):
    code = """
        error_of(corpus.check, text(path="org/no"), "c")
        error_of(corpus.check, text(revision="v1"), "c")
        error_of(corpus.check, text(config="fist"), "c")
        error_of(corpus.documents, text(split="test"), "c")
        error_of(corpus.documents, text(column="sentence"), "c")
        error_of(pairs.check, suite(configs=["fist"]), "s")
        error_of(pairs.load_pairs, suite({"good": "sentence_god"}, configs=["first"]), "s")
    """
    said = ask(hub, code)
    expected = [
        r"c\.path: the hub has no dataset 'org/no' that you may read; .* kind: file",
        r"c\.revision: dataset 'org/pairs' has no 'v1'",
        r"c: dataset 'org/pairs': .*'fist' not found.*first.*second.*",
        r"c: dataset 'org/pairs': Unknown split \"test\".*train.*",
        r"c\.column: 'org/pairs' has no column 'sentence'; .*did you mean sentence_bad\?",
        r"s\.source\.configs: 'org/pairs' has no 'fist'; .*did you mean first\?",
        r"s\.columns\.good: .*no column 'sentence_god'; .*did you mean sentence_good\?",
    ]
    assert len(said) == len(expected)
    for line, pattern in zip(said, expected, strict=True):
        assert re.fullmatch(pattern, line), line


def test_a_hub_out_of_reach_fails_at_once(ask):
    (said,) = ask("http://127.0.0.1:9", 'error_of(corpus.check, text(), "c")')
    assert re.fullmatch(r"c\.path: the hub cannot be reached for dataset 'org/pairs' .*", said)
    assert "kind: file and path: FILE" in said
