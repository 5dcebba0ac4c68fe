from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from records_factory import unit
from tiny_models import load_folder

from sweeper.neurons.census import STATISTICS
from sweeper.plan.cells import census_cell
from sweeper.plan.census import census_parts, part_windows
from sweeper.records import Unit
from sweeper.run.census_work import census_rows
from sweeper.run.fresh_data import StaleDataError
from sweeper.run.worker import Worker
from sweeper.score import corpus as corpora
from sweeper.score.memory import TokenBudget
from sweeper.spec.corpus import CensusSpec, FileCorpus
from sweeper.spec.model import ModelSpec
from sweeper.store import Store

CENSUS = CensusSpec(corpus="text", length=32, overlap=0.0, windows=12, bins=128, pairs=50)
BUDGET = TokenBudget(32)


@pytest.fixture
def tiny_model(tiny_folder):
    """Loaded for each test: a worker loads its own, and both must be as the files have it."""
    return lambda model_type: load_folder(model_type, tiny_folder(model_type))


@pytest.fixture
def corpus(tmp_path: Path) -> FileCorpus:
    file = tmp_path / "text.txt"
    file.write_text("the cat sees the dogs that the old man feeds every morning. " * 20)
    return FileCorpus(path=str(file))


@pytest.fixture
def units(tiny_model, corpus):
    """Function from a number of parts to the whole, the parts, and what puts them together."""
    model = tiny_model("llama")
    fingerprint = corpora.fingerprint(corpus)

    def build(count: int, census: CensusSpec = CENSUS) -> tuple[Unit, list[Unit], Unit]:
        whole = unit(
            "whole",
            (census_cell(model.checkpoint, census, fingerprint),),
            checkpoint=model.checkpoint,
            model=ModelSpec(path=model.checkpoint.location).model_dump(),
            task=census.model_dump(),
            corpus=corpus.model_dump(),
            data_fingerprint=fingerprint,
        )
        cells = census_parts(model.checkpoint, census, fingerprint, count)
        parts = [
            replace(whole, id=cell.key[:16], cells=(cell,), windows=windows)
            for cell, windows in zip(cells, part_windows(census, count), strict=True)
        ]
        return whole, parts, replace(whole, parts=tuple(cell.key for cell in cells))

    return build


@pytest.fixture
def store(tmp_path: Path) -> str:
    return Store(str(tmp_path / "store"), create=True).uri


def test_a_census_in_parts_is_the_census(tiny_model, units, store):
    model = tiny_model("llama")
    whole, parts, together = units(3)
    expected = census_rows(model, whole, BUDGET, store)
    worker = Worker(store, "run", "w0", threads=1)
    outcomes = [worker.run(part) for part in [*parts[::-1], together]]
    assert [outcome.errors for outcome in outcomes] == [()] * 4
    assert sum(outcome.num_tokens for outcome in outcomes) == expected.num_tokens
    opened = Store(store)
    found = opened.table("neurons", [together.cells[0].key]).to_pandas()
    assert found["num_tokens"].tolist() == expected.rows["num_tokens"].tolist()
    for name in STATISTICS:
        np.testing.assert_allclose(found[name], expected.rows[name], rtol=1e-3, atol=1e-4)
    cells = opened.table("cells").to_pandas().set_index("kind")
    assert sorted(cells.index) == ["census", "census_part", "census_part", "census_part"]
    assert cells.loc["census", "num_items"] == 3 * 48
    assert (cells.loc["census_part", "num_items"] == 3).all()


def test_parts_beyond_the_text_are_empty(tiny_model, units, store):
    model = tiny_model("llama")
    whole, parts, together = units(5, CENSUS.model_copy(update={"windows": 1000}))
    worker = Worker(store, "run", "w0", threads=1)
    for part in parts:
        assert worker.run(part).errors == ()
    states = Store(store).table("census_parts", [part.cells[0].key for part in parts])
    assert len(states) == 3  # the first part has the whole text, three layers
    assert worker.run(together).errors == ()
    found = Store(store).table("neurons").to_pandas()
    expected = census_rows(model, whole, BUDGET, store).rows
    assert found["num_tokens"].tolist() == expected["num_tokens"].tolist()


def test_a_missing_part_is_a_failure(units, store):
    _, parts, together = units(2)
    worker = Worker(store, "run", "w0", threads=1)
    worker.run(parts[0])
    (error,) = worker.run(together).errors
    assert (error.type, error.text) == (
        "MissingPartError",
        "the store lacks 1 of 2 parts of the census",
    )


def test_other_text_than_the_drivers_is_refused(tiny_model, units, store):
    _, parts, _ = units(2)
    with pytest.raises(StaleDataError, match="on the driver"):
        census_rows(
            tiny_model("llama"), replace(parts[0], data_fingerprint="sha256:1"), BUDGET, store
        )


def test_the_exact_method(tiny_model, units, store):
    exact = CENSUS.model_copy(update={"method": "exact"})
    streamed, kept = (
        census_rows(tiny_model("llama"), units(1, spec)[0], BUDGET, store).rows
        for spec in (CENSUS, exact)
    )
    assert (kept["wd_bound"] == 0).all()
    assert ((streamed["wd"] - kept["wd"]).abs() <= streamed["wd_bound"]).all()
    np.testing.assert_allclose(streamed["md"], kept["md"], rtol=0.1)
