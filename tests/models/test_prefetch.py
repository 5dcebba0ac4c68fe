"""The files of the next checkpoint, brought near in the background."""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import build_tiny

from sweeper.errors import UserError
from sweeper.models import resolve_all, weights_folder
from sweeper.models.prefetch import CheckpointFiles
from sweeper.records import Checkpoint, Outlook
from sweeper.spec.model import ModelSpec

PLENTY = 1e12

_opened: list[tuple[str, str]] | None = None


def _note(event: str, arguments: tuple) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], str):
        _opened.append((threading.current_thread().name, arguments[0]))


@pytest.fixture(scope="module", autouse=True)
def _hook() -> None:
    sys.addaudithook(_note)  # there is no way to remove one; it does nothing outside of a test


@pytest.fixture
def opened() -> Iterator[list[tuple[str, str]]]:
    """Name of the thread and path, for each file that is opened."""
    global _opened
    _opened = []
    yield _opened
    _opened = None


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("trained")
    for step in (0, 1, 2):
        build_tiny("gpt_neox", home / f"step{step}", seed=step)
    return home


@pytest.fixture
def steps(folder) -> tuple[ModelSpec, tuple[Checkpoint, ...]]:
    spec = ModelSpec(path=str(folder), revisions="step*")
    return spec, resolve_all("mine", spec, "cpu")


def outlook(spec: ModelSpec, checkpoint: Checkpoint, **more) -> Outlook:
    return Outlook(next_checkpoint=checkpoint, next_model=spec.model_dump(), **more)


def read_bytes(folder: Path, opened: list[tuple[str, str]]) -> set[str]:
    """Threads that have opened a folder's weights."""
    return {thread for thread, path in opened if path == str(folder / "model.safetensors")}


def test_the_next_checkpoint_is_read_by_another_thread(steps, folder, opened, monkeypatch):
    spec, (first, second, _) = steps
    files = CheckpointFiles(lambda: PLENTY)
    assert files.folder(first, spec) == folder / "step0"
    opened.clear()
    num_bytes = sizes_read(monkeypatch)
    files.look_ahead(outlook(spec, second))
    files.wait()
    assert read_bytes(folder / "step0", opened) == set()
    threads = read_bytes(folder / "step1", opened)
    assert threads
    assert threading.main_thread().name not in threads
    assert sum(num_bytes) == (folder / "step1" / "model.safetensors").stat().st_size
    assert files.folder(second, spec) == folder / "step1"


def sizes_read(monkeypatch) -> list[int]:
    """Sizes of the pieces that unbuffered files give, from now on."""
    sizes: list[int] = []
    open_path = Path.open

    def opening(path, mode="r", buffering=-1, **more):
        stream = open_path(path, mode, buffering, **more)
        if buffering != 0:
            return stream
        return Counting(stream, sizes)

    monkeypatch.setattr(Path, "open", opening)
    return sizes


class Counting:
    def __init__(self, stream, sizes: list[int]) -> None:
        self.stream, self.sizes = stream, sizes

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()

    def read(self, size: int) -> bytes:
        piece = self.stream.read(size)
        self.sizes.append(len(piece))
        return piece


def test_what_is_near_is_not_read_again(steps, opened, folder):
    spec, (first, second, third) = steps
    files = CheckpointFiles(lambda: PLENTY)
    files.folder(first, spec)
    for wanted, num_new in ((second, 1), (second, 0), (third, 1)):
        opened.clear()
        files.look_ahead(outlook(spec, wanted))
        files.wait()
        weights = [path for _, path in opened if path.startswith(str(folder / wanted.revision))]
        assert bool(weights) == bool(num_new)


def test_nothing_larger_than_half_of_the_free_memory_is_read(steps, folder, monkeypatch):
    spec, (first, second, _) = steps
    size = (folder / "step1" / "model.safetensors").stat().st_size
    for free, read in ((2 * size - 1, 0), (2 * size, size)):
        files = CheckpointFiles(lambda free=free: free)
        files.folder(first, spec)
        with monkeypatch.context() as patch:
            sizes = sizes_read(patch)
            files.look_ahead(outlook(spec, second))
            files.wait()
        assert sum(sizes) == read


@pytest.mark.parametrize("broken", ["absent", "changed", "no model at all"])
def test_a_broken_next_checkpoint_is_only_told_of_by_the_real_load(steps, tmp_path, broken, caplog):
    spec, (first, second, _) = steps
    if broken == "absent":
        second = replace(second, location=str(tmp_path / "gone"), revision="gone")
    elif broken == "changed":
        second = replace(second, fingerprint="sha256:0")
    files = CheckpointFiles(lambda: PLENTY)
    files.folder(first, spec)
    ahead = outlook(spec, second)
    if broken == "no model at all":
        ahead = replace(ahead, next_model={"path": 7})
    with caplog.at_level(logging.INFO, logger="sweeper"):
        files.look_ahead(ahead)
        files.wait()
    assert "nothing could be prepared ahead" in caplog.text
    if broken == "no model at all":
        assert files.folder(second, spec).name == "step1"
        return
    with pytest.raises(UserError) as caught:
        files.folder(second, spec)
    with pytest.raises(UserError) as plain:
        weights_folder(second, spec)
    assert str(caught.value) == str(plain.value)


def test_a_load_waits_for_the_thread_that_fetches_the_same(steps, folder, monkeypatch):
    spec, (first, second, _) = steps
    files, begun, go_on = CheckpointFiles(lambda: PLENTY), threading.Event(), threading.Event()
    order = []

    def slow(checkpoint, spec):
        begun.set()
        if threading.current_thread() is not threading.main_thread():
            go_on.wait(60)
        order.append(threading.current_thread() is threading.main_thread())
        return weights_folder(checkpoint, spec)

    files.folder(first, spec)
    monkeypatch.setattr("sweeper.models.source.weights_folder", slow)
    files.look_ahead(outlook(spec, second))
    assert begun.wait(60)
    threading.Timer(0.05, go_on.set).start()
    assert files.folder(second, spec) == folder / "step1"
    assert order == [False, True]


def test_a_load_of_another_one_waits_for_nothing(steps, folder, monkeypatch):
    spec, (first, second, third) = steps
    files, go_on = CheckpointFiles(lambda: PLENTY), threading.Event()

    def stuck(checkpoint, spec):
        if checkpoint == second:
            go_on.wait(60)
        return weights_folder(checkpoint, spec)

    files.folder(first, spec)
    monkeypatch.setattr("sweeper.models.source.weights_folder", stuck)
    files.look_ahead(outlook(spec, second))
    sizes = sizes_read(monkeypatch)
    assert files.folder(third, spec) == folder / "step2"
    files.look_ahead(outlook(spec, first))  # one thing at a time
    go_on.set()
    files.wait()
    assert sum(sizes) == 0  # not wanted any more, so not read


def test_an_unwritable_cache_stops_nothing(steps, folder, tmp_path, monkeypatch, caplog):
    spec, (first, second, _) = steps
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    files = CheckpointFiles(lambda: PLENTY)
    files.folder(first, spec)
    sizes = sizes_read(monkeypatch)
    (tmp_path / ".locks").write_text("in the way")
    with caplog.at_level(logging.WARNING, logger="sweeper"):
        files.look_ahead(outlook(spec, second, cache_gb=1.0))
        files.wait()
    assert "cluster.cache_gb: nothing can be deleted from the hub's cache" in caplog.text
    assert sum(sizes) == os.path.getsize(folder / "step1" / "model.safetensors")
