"""Eviction from a hub cache that lies on the disk as the hub's own tools lay it out."""

import gc
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, scan_cache_dir

from sweeper.models import hub, leased_folder, loading, resolve
from sweeper.models.evict import Lease, evict
from sweeper.records import Checkpoint
from sweeper.run import calibrate
from sweeper.spec.model import ModelSpec

KB = 1000


class Cache:
    """Builds repositories in a hub cache: blobs, snapshots of links, and refs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, repo: str, commit: str, files: dict[str, bytes], ref: str = "") -> None:
        root = self.folder / f"models--{repo.replace('/', '--')}"
        snapshot = root / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (root / "blobs").mkdir(exist_ok=True)
        (root / "refs").mkdir(exist_ok=True)
        for name, content in files.items():
            blob = root / "blobs" / hashlib.sha1(content).hexdigest()
            blob.write_bytes(content)
            (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))
        if ref:
            (root / "refs" / ref).write_text(commit)

    def commits(self) -> set[str]:
        found = scan_cache_dir(self.folder)
        assert found.warnings == []
        return {revision.commit_hash for repo in found.repos for revision in repo.revisions}

    def blob_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("*/blobs/*"))


def commit(number: int) -> str:
    return f"{number:040x}"


def weights(number: int, size: int = 10 * KB) -> dict[str, bytes]:
    """Weights of their own and a tokenizer that all revisions share."""
    return {"model.safetensors": bytes([number]) * size, "tokenizer.json": b"t" * KB}


@pytest.fixture
def cache(tmp_path, own_cache, monkeypatch) -> Cache:
    """An empty one, which the process takes for the user's."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return Cache(folder)


def fetched(cache: Cache, number: int, repo: str = "org/tiny", **options) -> None:
    """A revision that sweeper fetched and used later than those before it."""
    with Lease(repo, commit(number)) as lease:
        lease.mark_fetched()
        cache.add(repo, commit(number), options.pop("files", weights(number)), **options)
    path = note_of(number, repo)
    os.utime(path, ns=(number * 10**9, number * 10**9))


def note_of(number: int, repo: str = "org/tiny") -> Path:
    name = f"models--{repo.replace('/', '--')}@{commit(number)}"
    return Path(constants.HF_HUB_CACHE) / ".locks" / "sweeper" / name


def test_what_was_not_used_for_longest_goes_until_the_rest_fits(cache):
    for number in range(1, 6):
        fetched(cache, number, ref=f"step{number}")
    assert cache.blob_bytes() == 51 * KB
    assert evict(31 * KB) == [commit(1), commit(2)]
    assert cache.commits() == {commit(3), commit(4), commit(5)}
    assert cache.blob_bytes() == 31 * KB  # the shared tokenizer stays
    refs = {path.name for path in cache.folder.glob("*/refs/*")}
    assert refs == {"step3", "step4", "step5"}
    assert evict(31 * KB) == []
    assert evict(1e9) == []


def test_a_use_counts_and_not_the_order_of_fetching(cache):
    for number in (1, 2, 3):
        fetched(cache, number)
    with Lease("org/tiny", commit(1)):
        pass
    assert evict(21 * KB) == [commit(2)]


def test_nothing_that_others_brought_is_deleted_or_counted(cache):
    cache.add("org/tiny", commit(100), weights(100, 90 * KB), ref="main")
    cache.add("org/other", commit(101), weights(101), ref="main")
    for number in (1, 2):
        fetched(cache, number)
    # The tokenizer is the other revision's, too: deleting ours sets 20 KB free.
    assert evict(20 * KB) == []
    assert evict(0) == [commit(1), commit(2)]
    assert cache.commits() == {commit(100), commit(101)}


def test_the_same_commit_in_another_repository_is_left_alone(cache):
    cache.add("copy/tiny", commit(1), weights(1))
    fetched(cache, 1)
    assert evict(0) == [commit(1)]
    assert {repo.repo_id for repo in scan_cache_dir(cache.folder).repos} == {"copy/tiny"}


def test_what_is_ahead_stays_even_above_the_limit(cache):
    for number in (1, 2, 3):
        fetched(cache, number)
    assert evict(0, ahead={commit(1), commit(3)}) == [commit(2)]
    assert cache.commits() == {commit(1), commit(3)}


def test_what_this_process_uses_stays_until_it_lets_go(cache):
    for number in (1, 2):
        fetched(cache, number)
    lease = Lease("org/tiny", commit(1))
    assert evict(0) == [commit(2)]
    lease.close()
    assert evict(0) == [commit(1)]
    assert cache.commits() == set()


@pytest.fixture
def user(cache) -> Iterator[subprocess.Popen]:
    """Another process that uses the first revision, with a cache of its own for all else."""
    fetched(cache, 1)
    code = (
        "import sys, huggingface_hub.constants as c; c.HF_HUB_CACHE = sys.argv[1]\n"
        "from sweeper.models.evict import Lease\n"
        "lease = Lease('org/tiny', sys.argv[2]); print('has it', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(cache.folder), commit(1)],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "SWEEPER_CACHE": str(cache.folder.parent / "elsewhere")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "has it\n"
    yield process
    process.kill()
    process.communicate()


def test_what_another_process_uses_stays_until_that_is_dead(cache, user):
    fetched(cache, 2)
    assert evict(0) == [commit(2)]
    user.kill()
    user.wait()
    assert evict(0) == [commit(1)]


@pytest.fixture
def real(cache, tiny_folder) -> tuple[Checkpoint, ModelSpec]:
    """A model that can be loaded, and came from the hub."""
    files = {file.name: file.read_bytes() for file in tiny_folder("gpt2").iterdir()}
    fetched(cache, 1, files=files, ref="main")
    spec = ModelSpec(path="org/tiny")
    return resolve("mine", spec, "cpu"), spec


def test_a_leased_folder_stays_while_the_block_lasts(real):
    checkpoint, spec = real
    with leased_folder(checkpoint, spec) as folder:
        assert evict(0) == []
        assert (folder / "model.safetensors").is_file()
    assert evict(0) == [checkpoint.commit]


def test_a_model_stays_while_its_speed_is_measured(real, monkeypatch):
    checkpoint, spec = real
    deleted = []

    def load(*given):
        deleted.extend(evict(0))
        return loading_load(*given)

    loading_load = loading.load
    monkeypatch.setattr(loading, "load", load)
    monkeypatch.setattr(calibrate, "SECONDS", 0.0)
    threads = torch.get_num_threads()
    request = {"checkpoint": asdict(checkpoint), "spec": spec.model_dump(), "threads": threads}
    calibrate.measure(request)
    assert deleted == []
    assert evict(0) == [checkpoint.commit]


def test_a_model_of_the_harness_stays_as_long_as_it_is_there(real):
    from sweeper.score.harness.model import SweeperLM

    model = SweeperLM("org/tiny", device="cpu")
    assert evict(0) == []
    del model
    gc.collect()
    assert evict(0) == [commit(1)]


def test_a_repository_stays_while_its_first_file_is_on_its_way(cache):
    fetched(cache, 1)
    with Lease("org/tiny", commit(2)) as lease:
        lease.mark_fetched()
        partial = cache.folder / "models--org--tiny" / "blobs" / "abc.incomplete"
        partial.write_bytes(b"half")
        # Deleting its only revision would delete the repository, and that file with it.
        assert evict(0) == []
        assert partial.exists()
        cache.add("org/tiny", commit(2), weights(2))
        assert evict(0) == [commit(1)]
    assert cache.commits() == {commit(2)}


def test_a_repository_stays_while_only_its_tokenizer_is_on_its_way(cache):
    fetched(cache, 1)
    with Lease("org/tiny", commit(2)):  # a model with random weights: never evicted, no note of it
        assert evict(0) == []
    assert evict(0) == [commit(1)]


def test_what_a_deletion_takes_from_a_revision_on_its_way_is_fetched_again(cache, monkeypatch):
    """The deletion looks at the cache before a link to an existing file is set, and acts after."""
    fetched(cache, 1)
    scanned, linked, threads = threading.Event(), threading.Event(), []

    def scan(folder):
        found = scan_cache_dir(folder)
        scanned.set()
        linked.wait(60)
        return found

    def download(repo, commit, **_):
        snapshot = cache.folder / "models--org--tiny" / "snapshots" / commit
        if not threads:
            cache.add(repo, commit, {"model.safetensors": b"2" * KB})
            threads.append(threading.Thread(target=evict, args=[0]))
            threads[0].start()
            scanned.wait(60)
            (shared,) = (file for file in snapshot.parent.glob("*/tokenizer.json"))
            (snapshot / "tokenizer.json").symlink_to(os.readlink(shared))
            linked.set()
        else:
            shutil.rmtree(snapshot)
            cache.add(repo, commit, weights(2))
        return snapshot

    monkeypatch.setattr("sweeper.models.evict.scan_cache_dir", scan)
    monkeypatch.setattr("sweeper.models.hub._snapshot", download)
    folder = hub.fetch("org/tiny", commit(2))
    threads[0].join()
    assert (folder / "tokenizer.json").read_bytes() == b"t" * KB
    assert cache.commits() == {commit(2)}


def test_what_others_delete_and_fetch_again_is_theirs(cache):
    for number in (1, 2):
        fetched(cache, number)
    scan_cache_dir(cache.folder).delete_revisions(commit(1)).execute()
    assert evict(1e9) == []
    cache.add("org/tiny", commit(1), weights(1))
    assert evict(0) == [commit(2)]
    assert cache.commits() == {commit(1)}


def test_a_damaged_repository_is_left_alone_and_the_others_are_not(cache):
    fetched(cache, 1)
    fetched(cache, 2, repo="org/two")
    ref = cache.folder / "models--org--tiny" / "refs" / "main"
    ref.write_text(commit(999))  # points nowhere: the hub's tools skip the repository
    assert evict(0) == [commit(2)]
    ref.unlink()
    assert evict(0) == [commit(1)]


def test_a_deletion_that_was_killed_halfway_is_ended(cache):
    for number in (1, 2, 3):
        fetched(cache, number, ref=f"step{number}")
    shutil.rmtree(cache.folder / "models--org--tiny" / "snapshots" / commit(2))
    assert evict(11 * KB) == [commit(1)]
    assert cache.commits() == {commit(3)}


def test_no_cache_and_no_notes_are_no_trouble(cache, monkeypatch):
    assert evict(0) == []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache.folder / "absent"))
    assert evict(0) == []


def test_without_a_place_for_notes_nothing_is_ever_evicted(cache):
    (cache.folder / ".locks").write_text("in the way")
    with Lease("org/tiny", commit(1)) as lease:
        lease.mark_fetched()
        cache.add("org/tiny", commit(1), weights(1))
    with pytest.raises(OSError, match="locks"):
        evict(0)
    assert cache.commits() == {commit(1)}
