"""What a worker shows, and how it takes what is no fault of its cells."""

import pytest
from records_factory import unit

from sweeper.errors import StoreError
from sweeper.plan.cells import census_cell
from sweeper.run.remembered import BatchSizes
from sweeper.run.signs import Signs
from sweeper.run.worker import Worker
from sweeper.score import corpus as corpora
from sweeper.spec.corpus import CensusSpec, FileCorpus
from sweeper.spec.model import ModelSpec
from sweeper.store import Store

CENSUS = CensusSpec(corpus="text", length=32, overlap=0.0, windows=12, bins=128, pairs=50)
POSITIONS = 100


@pytest.fixture
def census_unit(tiny_model, tmp_path, monkeypatch):
    """Function that makes a unit; batch sizes are remembered in the test's own folder."""
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "text.txt"
    file.write_text("the cat sees the dogs that the old man feeds every morning. " * 20)
    corpus = FileCorpus(path=str(file))
    checkpoint, fingerprint = tiny_model("llama").checkpoint, corpora.fingerprint(corpus)

    def build(**changes):
        return unit(
            "whole",
            (census_cell(checkpoint, CENSUS, fingerprint),),
            checkpoint=checkpoint,
            model=ModelSpec(path=checkpoint.location, max_batch_tokens=POSITIONS).model_dump(),
            task=CENSUS.model_dump(),
            corpus=corpus.model_dump(),
            data_fingerprint=fingerprint,
            **changes,
        )

    return build


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"), create=True).uri


def test_layers_are_signs(census_unit, store):
    signs = Signs()
    worker = Worker(store, "run", "w0", threads=1, signs=signs)
    assert signs.read().layers == 0
    assert worker.run(census_unit()).errors == ()
    sign = signs.read()
    # Of each of 3 layers at least once; how often depends on batches.
    assert sign.layers >= 3
    assert not sign.loading


def test_a_smaller_share_of_the_batch_is_kept_to_and_remembered(census_unit, store):
    worker = Worker(store, "run", "w0", threads=1)
    whole = census_unit()
    assert worker.run(whole).errors == ()
    assert BatchSizes().known(whole.checkpoint, "cpu") is None
    for share, expected in ((0.5, POSITIONS // 2), (0.25, POSITIONS // 4), (1.0, POSITIONS // 4)):
        assert worker.run(census_unit(batch_share=share)).errors == ()
        assert BatchSizes().known(whole.checkpoint, "cpu") == expected


def test_a_store_that_cannot_be_written_is_no_failure_of_cells(census_unit, store, tmp_path):
    worker = Worker(store, "run", "w0", threads=1)
    # A file where the folder should be refuses whoever asks, the superuser too.
    (tmp_path / "store" / "tables").write_text("")
    with pytest.raises(StoreError, match=r"^store: cannot write .*neurons"):
        worker.run(census_unit())
