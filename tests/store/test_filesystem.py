import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.errors import UserError
from sweeper.store import Store, open_filesystem
from sweeper.store.filesystem import Files


def test_plain_relative_home_and_file_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_filesystem("a b")[1] == f"{tmp_path}/a b"
    assert open_filesystem("~/s")[1] == f"{tmp_path}/s"
    assert open_filesystem(f"file://{tmp_path}/a%20b")[1] == f"{tmp_path}/a b"
    assert open_filesystem("x/../s/")[1] == f"{tmp_path}/s"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("ftp://host/x", "scheme 'ftp'"),
        ("s33://bucket/x", "did you mean s3://"),
        ("file://folder/x", "3 slashes"),
        ("", "no path"),
        ("a\0b", "no path"),
        ("~nobody-has-this-name/x", "home folder"),
    ],
)
def test_unusable_addresses_are_one_line(uri, text):
    with pytest.raises(UserError, match=text) as caught:
        open_filesystem(uri)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("below", ["", "/sub", "/sub/deeper"])
def test_root_is_a_file_or_below_one(tmp_path, below):
    (tmp_path / "plain").write_text("x")
    with pytest.raises(UserError, match="is not a folder"):
        Store(f"{tmp_path}/plain{below}", create=True)
    assert (tmp_path / "plain").read_text() == "x"


def test_dangling_link_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is not a folder"):
        open_filesystem(str(tmp_path / "link"))


def test_write_replaces_and_leaves_nothing_aside(tmp_path):
    files = Files(str(tmp_path))
    files.write("runs/r/job.json", b"old")
    files.write("runs/r/job.json", b"new")
    assert files.read("runs/r/job.json").to_pybytes() == b"new"
    assert os.listdir(tmp_path / "runs/r") == ["job.json"]
    files.delete("runs/r/job.json")
    files.delete("runs/r/job.json")
    assert files.read("runs/r/job.json") is None
    assert files.names("runs/none") == []


def test_a_file_where_a_folder_must_be(tmp_path):
    files = Files(str(tmp_path))
    files.write("runs", b"in the way")
    for act in (lambda: files.write("runs/r", b"x"), lambda: files.names("runs")):
        with pytest.raises(UserError) as caught:
            act()
        assert "\n" not in str(caught.value)


FULL_DISK = """
import resource, signal, sys
from sweeper.errors import UserError
from sweeper.store.filesystem import Files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
files = Files(sys.argv[1])
files.write("small", b"x" * 1000)
try:
    files.write("small", b"y" * 1001)
except UserError as error:
    print(error)
"""


def test_a_write_that_does_not_fit_leaves_the_old_content(tmp_path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.count("\n") == 1
    assert "cannot write" in answer.stdout
    assert os.listdir(tmp_path) == ["small"]
    assert Path(tmp_path, "small").read_bytes() == b"x" * 1000
