"""The jobs of studies 2 and 3 from end to end, on models whose truth is known."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted import firing_model, routing_model
from planted.firing_model import build_firing_model
from planted.routing_model import BASE_RATE, DECISION, SCAFFOLD, build_routing_model, chance_of
from planted.words import as_text, save_words, vocabulary
from rich.console import Console

import sweeper

HERE = Path(__file__).parent


def run_job(name: str, folder: Path, paths: dict[str, str]) -> sweeper.Run:
    overrides = [f"{key}={folder / path}" for key, path in {"store": "store", **paths}.items()]
    job = sweeper.load_job(HERE / name, overrides)
    return sweeper.run_job(job, Console(file=io.StringIO()))


def sets_of(run: sweeper.Run, model: str, condition: str) -> list[dict[int, set[int]]]:
    """Layer -> neurons of every different set of a condition."""
    manifest = run.manifest()
    mine = manifest[(manifest["model"] == model) & (manifest["condition"] == condition)]
    sets = run.table("conditions").set_index("condition_key")
    return [
        {row.layer: set(row.neurons) for row in sets.loc[[key]].itertuples()}
        for key in mine["condition_key"].unique()
    ]


def effects(run: sweeper.Run, model: str = "planted") -> pd.DataFrame:
    """Effects in nats per token, by condition."""
    found = run.estimates()
    found = found[(found["model"] == model) & (found["group"] == "all")]
    return found[found["metric"] == "nll"].set_index("condition")


@dataclass(frozen=True)
class Fired:
    truth: firing_model.Truth
    run: sweeper.Run


@pytest.fixture(scope="module")
def fired(tmp_path_factory):
    folder = tmp_path_factory.mktemp("firing")
    truth = build_firing_model(folder / "model")
    save_words(folder / "model", firing_model.TOKENS)
    for seed, (corpus, windows) in enumerate((("first", 200), ("second", 200), ("heldout", 40))):
        rows = firing_model.texts(windows, seed=seed + 1)
        (folder / f"{corpus}.txt").write_text(as_text(rows, firing_model.TOKENS))
    paths = {f"corpus.{name}.path": f"{name}.txt" for name in ("first", "second", "heldout")}
    run = run_job("firing_job.yaml", folder, {"model.planted.path": "model", **paths})
    assert not run.failed
    assert not run.unavailable
    return Fired(truth, run)


def test_conditions_on_firing_labels_get_the_planted_neurons(fired):
    truth = fired.truth
    assert sets_of(fired.run, "planted", "dead") == [truth.dead]
    assert sets_of(fired.run, "planted", "positional") == [
        {layer: set(neurons) for layer, neurons in truth.positional.items()}
    ]
    assert sets_of(fired.run, "planted", "tokens") == [{1: set(truth.detectors[1])}]
    assert sets_of(fired.run, "planted", "bigrams") == [
        {layer: set(neurons) for layer, neurons in truth.bigrams.items()}
    ]


@pytest.mark.parametrize("control", ["random_dead", "random_positional"])
def test_controls_have_as_many_neurons_in_each_layer(fired, control):
    (target,) = sets_of(fired.run, "planted", control.removeprefix("random_"))
    drawn = sets_of(fired.run, "planted", control)
    assert len(drawn) == fired.run.job.seeds
    for chosen in drawn:
        assert {k: len(v) for k, v in chosen.items()} == {k: len(v) for k, v in target.items()}
        assert chosen != target


def test_without_dead_neurons_not_a_single_score_changes(fired):
    manifest, items = fired.run.manifest(), fired.run.table("items").set_index("cell_key")
    by_condition = {
        row.condition: items.loc[[row.cell_key]].sort_values("item")["logprob"].to_numpy()
        for row in manifest[manifest["kind"] == "score"].itertuples()
    }
    assert np.abs(by_condition["dead"] - by_condition["baseline"]).max() == 0
    found = effects(fired.run)
    assert found.loc["dead", "effect"] == 0
    assert abs(found.loc["random_dead", "effect"]) > 0
    assert abs(found.loc["tokens", "effect"]) > 0


def test_the_tables_of_the_firing_census_hold_the_truth(fired):
    truth, firing = fired.truth, fired.run.table("firing")
    assert set(firing["corpus"]) == {"first", "second", "all"}
    whole = firing[firing["corpus"] == "all"].set_index(["layer", "neuron"])
    assert (whole["num_tokens"] == 400 * firing_model.LENGTH).all()
    summed = firing[firing["corpus"] != "all"].groupby(["layer", "neuron"])["active"].sum()
    pd.testing.assert_series_equal(whole["active"].sort_index(), summed)
    for layer, neurons in truth.positional.items():
        for neuron, (kind, strong) in neurons.items():
            assert tuple(whole.loc[(layer, neuron), ["type", "strong"]]) == (kind, strong)
    positions = fired.run.table("positions").set_index(["layer", "neuron"])
    planted = {(layer, neuron) for layer, of in truth.positional.items() for neuron in of}
    assert set(positions.index) == planted
    assert set(positions["frequency"].map(len)) == {firing_model.LENGTH}


def test_the_tables_of_ngrams_hold_the_truth(fired):
    truth, words = fired.truth, vocabulary(firing_model.TOKENS)
    detected = fired.run.table("detected")
    covered = {
        n: {
            layer: of_layer.groupby("neuron")["tokens"].agg(lambda t: {tuple(x) for x in t})
            for layer, of_layer in detected[detected["n"] == n].groupby("layer")
        }
        for n in (1, 2)
    }
    for layer in range(firing_model.LAYERS):
        tokens = {k: {(token,) for token in v} for k, v in truth.detectors[layer].items()}
        assert covered[1][layer].to_dict() == tokens
        pairs = {k: {pair} for k, pair in truth.bigrams[layer].items()}
        assert covered[2][layer].to_dict() == pairs
    single = detected[detected["n"] == 1]
    assert [text.strip() for text in single["text"]] == [words[t[0]] for t in single["tokens"]]
    ngrams = fired.run.table("ngrams")
    suppresses = ngrams[(ngrams["n"] == 1) & ngrams["suppresses"].fillna(value=False).astype(bool)]
    assert suppresses.groupby("layer")["neuron"].agg(set).to_dict() == truth.suppressing


@dataclass(frozen=True)
class Routed:
    truth: routing_model.Routing
    run: sweeper.Run
    heldout: list[list[int]]


@pytest.fixture(scope="module")
def routed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("routing")
    truth = build_routing_model(folder / "model")
    rows = {"text": routing_model.texts(truth.words, 512, seed=1)}
    rows["heldout"] = routing_model.texts(truth.words, 64, seed=2)
    for name, windows in rows.items():
        (folder / f"{name}.txt").write_text(as_text(windows, routing_model.TOKENS))
    paths = {f"corpus.{name}.path": f"{name}.txt" for name in rows}
    paths |= {f"model.{name}.path": "model" for name in ("planted", "control")}
    run = run_job("routing_job.yaml", folder, paths)
    assert not run.failed
    return Routed(truth, run, rows["heldout"])


def table_of(routed: Routed, name: str, model: str = "planted") -> pd.DataFrame:
    """Rows of a table that are about one of the two models."""
    cells = routed.run.table("cells")
    keys = cells.loc[cells["model"] == model, "cell_key"]
    found = routed.run.table(name)
    return found[found["cell_key"].isin(keys)]


def test_conditions_on_routing_labels_get_the_planted_neurons(routed):
    truth, run = routed.truth, routed.run
    assert sets_of(run, "planted", "consensus") == [truth.consensus]
    assert sets_of(run, "planted", "handler") == [{k: {v} for k, v in truth.handler.items()}]
    assert sets_of(run, "planted", "gateway") == [{k: {v} for k, v in truth.gateway.items()}]
    for chosen in sets_of(run, "planted", "random_consensus"):
        assert {layer: len(neurons) for layer, neurons in chosen.items()} == {DECISION: 3}


def test_random_weights_have_no_such_neurons_and_the_job_says_so(routed):
    lacking = {(each.model, each.condition) for each in routed.run.unavailable}
    assert {model for model, _ in lacking} == {"control"}
    assert {name for _, name in lacking} >= {"consensus", "handler"}
    control = table_of(routed, "routing_layers", "control")
    assert set(control["phase"]) <= {"diffuse", "scaffold"}
    assert (control["num_consensus"] == 0).all()
    found = effects(routed.run, "control")
    assert not set(found.index) & {"consensus", "random_consensus", "handler", "random_handler"}


def test_the_tables_of_the_routing_analysis_hold_the_truth(routed):
    truth, layers = routed.truth, table_of(routed, "routing_layers").set_index("layer")
    assert layers.loc[DECISION, "phase"] == "decision"
    assert layers.loc[SCAFFOLD, "phase"] == "scaffold"
    row = layers.loc[DECISION]
    assert row["handler"] == truth.handler[DECISION]
    assert row["num_consensus"] == 3
    assert row["range"] == row["range_token_low"] == row["range_document_high"] == 1
    assert bool(row["monotonic"])
    # Some of the 200 have no range: fewer than two of their levels have tokens enough.
    assert 100 < row["num_splits"] <= 200
    assert row["splits_reaching"] == 0
    assert layers["range"].drop(DECISION).isna().all()
    neurons = table_of(routed, "routing_neurons")
    consensus = neurons[neurons["role"] == "consensus"]
    assert set(consensus["neuron"]) == truth.consensus[DECISION]
    thresholds = table_of(routed, "routing_thresholds")
    here = thresholds[thresholds["layer"] == DECISION].set_index("threshold")
    assert (here["handler"] == truth.handler[DECISION]).all()
    assert (here["overlap"] == 1).all()


def test_removal_costs_most_where_the_consensus_is_silent(routed):
    removal = table_of(routed, "removal")
    assert set(removal["layer"]) == {DECISION}
    change = removal[removal["level"].notna()].pivot_table(
        index="level", columns="intervention", values="change"
    )
    words, levels = routed.truth.words, routed.truth.words.level
    full = words.response_chance
    costs = full * np.log(full / BASE_RATE) + (1 - full) * np.log((1 - full) / (1 - BASE_RATE))
    expected = [costs[levels == level].mean() for level in range(4)]
    np.testing.assert_allclose(change["remove_mlp"], expected, atol=0.15)
    assert change["remove_mlp"].is_monotonic_decreasing
    assert change["handler_zero"].max() < 0.1


def test_zeroing_consensus_or_handler_costs_what_the_construction_says(routed):
    """Without consensus every word pulls like an exception; a handler of 0 changes little."""
    words, found = routed.truth.words, effects(routed.run)
    tokens = np.array(routed.heldout) - routing_model.FIRST_WORD
    here, following = tokens[:, :-1].ravel(), tokens[:, 1:].ravel()
    for condition, answer in (
        ("consensus", words.answer + routing_model.AGAINST * words.level),
        ("handler", words.answer - words.handler),
    ):
        before, after = words.response_chance[here], chance_of(answer)[here]
        ratio = np.where(words.is_response[following], before / after, (1 - before) / (1 - after))
        assert found.loc[condition, "effect"] == pytest.approx(np.log(ratio).mean(), abs=0.02)
        assert found.loc[condition, "p_random"] == found.loc[condition, "p_floor"]
    assert abs(found.loc["gateway", "effect"]) < 0.01
