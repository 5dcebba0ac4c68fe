from dataclasses import replace

import pandas as pd
import pytest
from records_factory import cell, unit

from sweeper.neurons.routing.removal import removal as measure
from sweeper.neurons.routing.roles import Quorum
from sweeper.run.census_work import MissingPartError
from sweeper.run.fresh_data import StaleDataError
from sweeper.run.removal_work import removal
from sweeper.run.rows import Rows, cell_row
from sweeper.score import corpus as corpora
from sweeper.score.memory import TokenBudget
from sweeper.spec.corpus import FileCorpus
from sweeper.spec.routing import RoutingSpec
from sweeper.store import Store, new_attempt_name

SPEC = RoutingSpec(corpus="text", length=16, windows=9, removal_windows=4, threshold=0.05)
NEURONS = [
    (0, 9, "candidate", 0),
    (1, 7, "handler", 0),
    (1, 4, "consensus", 1),
    (1, 5, "consensus", 0),
    (1, 6, "gateway", 0),
    (2, 3, "handler", 0),
    (2, 8, "consensus", 0),
]
"""Layer, neuron, role and place."""


@pytest.fixture
def corpus(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("the cat sees the dogs that the old man feeds every morning. " * 20)
    return FileCorpus(path=str(file))


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"), create=True).uri


def commit(store, of_unit, tables):
    """Write a unit's tables as a worker does."""
    (only,) = of_unit.cells
    rows = Rows(unit=of_unit, attempt=new_attempt_name(of_unit.id), run="r", worker="w")
    rows.add(tables, cell_row(only, 1, 1, 0.0))
    rows.commit(Store(store).writer)


def put_roles(store, neurons=NEURONS):
    table = pd.DataFrame(neurons, columns=["layer", "neuron", "role", "place"])
    rates = dict.fromkeys(("rate", "rate_linear", "rate_barely", "rate_highly"), 0.5)
    routing = unit("routing", (cell("k-routing", kind="routing"),))
    commit(store, routing, {"routing_neurons": table.assign(**rates)})


@pytest.fixture
def work(tiny_model, corpus):
    """Function from changes of the job's key to a unit."""

    def build(**changes):
        fingerprint = corpora.fingerprint(corpus)
        spec = SPEC.model_copy(update=changes)
        checkpoint = tiny_model("llama").checkpoint
        return unit(
            "removal",
            (cell("k-removal", kind="removal", condition="removal", task="text"),),
            checkpoint=checkpoint,
            task=spec.model_dump(),
            corpus=corpus.model_dump(),
            data_fingerprint=fingerprint,
            analysis={
                "spec": spec.model_dump(),
                "corpora": {"text": corpus.model_dump()},
                "fingerprints": {"text": fingerprint},
                "routing": "k-routing",
            },
        )

    return build


def test_roles_of_the_store_on_the_first_windows(tiny_model, work, store, corpus):
    put_roles(store)
    model, of_unit = tiny_model("llama"), work()
    found = removal(model, of_unit, TokenBudget(64), store)
    ids = model.tokenizer(corpora.text(corpus))["input_ids"]
    rows = [ids[start : start + 16] for start in range(0, 4 * 16, 16)]
    quorums = {
        1: Quorum(handler=7, consensus=(5, 4)),
        2: Quorum(handler=3, consensus=(8,)),
    }
    expected = measure(model, rows, quorums, TokenBudget(64), threshold=0.05)
    (table,) = found.tables.values()
    pd.testing.assert_frame_equal(table, expected, rtol=1e-4, atol=1e-5)
    assert found.num_items == len(table) == 3 * (4 + 3)
    assert found.num_tokens == 4 * 15 * 7

    commit(store, of_unit, found.tables)
    stored = Store(store).table("removal", ["k-removal"]).to_pandas().astype({"level": "Int32"})
    assert stored["level"].isna().sum() == 6
    pd.testing.assert_frame_equal(
        stored[list(expected.columns)], expected, check_dtype=False, rtol=1e-4, atol=1e-5
    )


def test_whole_windows_only(tiny_model, work, store, corpus):
    put_roles(store)
    model = tiny_model("llama")
    whole = len(model.tokenizer(corpora.text(corpus))["input_ids"]) // 16
    found = removal(model, work(removal_windows=10_000), TokenBudget(64), store)
    table = found.tables["removal"]
    assert set(table.loc[table["level"].isna(), "tokens"]) == {whole * 15}


def test_a_text_of_less_than_a_window(tiny_model, work, store, tmp_path):
    put_roles(store)
    corpus = FileCorpus(path=str(tmp_path / "short.txt"))
    (tmp_path / "short.txt").write_text("the cat sees")
    short = replace(
        work(), corpus=corpus.model_dump(), data_fingerprint=corpora.fingerprint(corpus)
    )
    with pytest.raises(ValueError, match="corpus 'text' has no whole window of 16 tokens"):
        removal(tiny_model("llama"), short, TokenBudget(64), store)


@pytest.mark.parametrize(
    "neurons", [[], [(0, 9, "gateway", 0)], [(0, 1, "handler", 0), (1, 2, "consensus", 0)]]
)
def test_without_a_quorum_the_cell_is_done_without_rows(tiny_model, work, store, neurons):
    put_roles(store, neurons)
    found = removal(tiny_model("llama"), work(), TokenBudget(64), store)
    assert (found.num_items, found.num_tokens) == (0, 0)
    commit(store, work(), found.tables)
    opened = Store(store)
    assert "k-removal" in opened.done_keys()
    assert opened.table("removal").num_rows == 0


def test_the_threshold_and_the_value_of_the_job(tiny_model, work, store):
    put_roles(store)
    model = tiny_model("llama")

    def counts(**changes):
        table = removal(model, work(**changes), TokenBudget(64), store).tables["removal"]
        return table.loc[table["intervention"] == "remove_mlp", "tokens"].tolist()

    assert counts() != counts(threshold=0.5)
    assert counts() != counts(fires="product")


def test_what_it_builds_upon_must_be_there(tiny_model, work, store):
    with pytest.raises(MissingPartError, match="the store lacks the routing analysis"):
        removal(tiny_model("llama"), work(), TokenBudget(64), store)
    with pytest.raises(ValueError, match="the unit is no removal"):
        removal(tiny_model("llama"), replace(work(), analysis=None), TokenBudget(64), store)


def test_other_text_than_the_drivers_is_refused(tiny_model, work, store):
    put_roles(store)
    stale = replace(work(), data_fingerprint="sha256:1")
    with pytest.raises(StaleDataError, match="on the driver"):
        removal(tiny_model("llama"), stale, TokenBudget(64), store)
