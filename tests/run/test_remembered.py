import io
import json

import pytest
import torch
from records_factory import checkpoint
from rich.console import Console

import sweeper
from sweeper.models.loading import load
from sweeper.run import worker
from sweeper.run.remembered import BatchSizes


def test_the_smallest_size_is_remembered_by_model_and_device(tmp_path):
    file = tmp_path / "cache" / "batch_sizes.json"
    sizes = BatchSizes(file)
    assert sizes.known(checkpoint(), "cpu") is None
    sizes.remember(checkpoint(), "cpu", 512)
    sizes.remember(checkpoint(), "cpu", 1024)  # another worker had less room
    assert BatchSizes(file).known(checkpoint(), "cpu") == 512
    assert BatchSizes(file).known(checkpoint(), "1 x NVIDIA H200") is None
    for change in ({"fingerprint": "hub:x"}, {"dtype": "bfloat16"}, {"attention": "eager"}):
        assert sizes.known(checkpoint(**change), "cpu") is None
    assert sizes.known(checkpoint(model="renamed", revision="v2"), "cpu") == 512
    file.unlink()
    assert sizes.known(checkpoint(), "cpu") is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": true, "b": "x", "c": -1, "d": null}'])
def test_a_damaged_file_is_forgotten_and_replaced(tmp_path, content):
    file = tmp_path / "batch_sizes.json"
    file.write_text(content)
    BatchSizes(file).remember(checkpoint(), "cpu", 64)
    assert list(json.loads(file.read_text()).values()) == [64]


ROOM = 600


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "batch_sizes.json"


@pytest.fixture
def little_memory(monkeypatch):
    """Workers whose models have memory for ``ROOM`` positions; gives the sizes they tried."""
    tried = []

    # The allocator cannot be made to fail at will here; its error, raised where it would be.
    def refuse(_module, args):
        tried.append(args[0].numel())
        if args[0].numel() > ROOM:
            raise torch.OutOfMemoryError("out of memory")

    def load_into_little(*args):
        model = load(*args)
        model.model.get_input_embeddings().register_forward_pre_hook(refuse)
        return model

    monkeypatch.setattr(worker, "load", load_into_little)
    return tried


def test_a_worker_begins_with_the_size_that_an_earlier_one_ended_with(
    story_job, cache, little_memory
):
    console = Console(file=io.StringIO())
    assert sweeper.run_job(story_job(), console).complete
    assert max(little_memory) > ROOM  # the census, 16 windows of 64 tokens at once
    (size,) = json.loads(cache.read_text()).values()
    assert ROOM / 4 < size <= ROOM
    little_memory.clear()
    assert sweeper.run_job(story_job(store=story_job().store + "2"), console).complete
    assert 0 < max(little_memory) <= ROOM
    assert list(json.loads(cache.read_text()).values()) == [size]


def test_nothing_is_noted_where_memory_suffices(story_job, cache):
    assert sweeper.run_job(story_job(), Console(file=io.StringIO())).complete
    assert not cache.exists()
