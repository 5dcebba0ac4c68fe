"""Every operation by way of a whole sweep: what the store holds equals MLPs written out by hand."""

import io

import numpy as np
import pytest
import torch
from mlp_reference import mlp
from rich.console import Console

import sweeper
from sweeper.score.pairs import load_pairs

TOP = {"kind": "top", "statistic": "wd", "fraction": 0.05}
CONDITIONS = {
    "mean": {"operation": "mean", "neurons": TOP},
    "set": {"operation": "set", "value": -1.5, "neurons": TOP},
    "sign_flip": {"operation": "sign_flip", "neurons": TOP},
    "positive_relu": {"operation": "positive_relu", "neurons": TOP},
    "remove_mlp": {"operation": "remove_mlp", "neurons": {"kind": "all", "layers": [1, 3]}},
}


@pytest.fixture(scope="module")
def run(make_story_job, tmp_path_factory):
    job = make_story_job(tmp_path_factory.mktemp("operations"))(condition=CONDITIONS, seeds=1)
    return sweeper.run_job(job, Console(file=io.StringIO()))


def changes(run, operation):
    """By layer what is to be done, the means of the census looked up anew."""
    manifest = run.manifest()
    key = manifest.loc[manifest["condition"] == operation, "condition_key"].iloc[0]
    sets = run.table("conditions").set_index("condition_key").loc[[key]]
    means = run.table("neurons").set_index(["layer", "neuron"])["mean"]
    found = {}
    for row in sets.itertuples():
        put_in = {
            "mean": [means[row.layer, neuron] for neuron in row.neurons],
            "set": [-1.5] * len(row.neurons),
        }
        found[row.layer] = {
            "operation": operation,
            "neurons": row.neurons,
            "values": put_in.get(operation),
        }
        if operation not in put_in:
            assert row.values is None
    return found


@pytest.mark.parametrize("operation", CONDITIONS)
def test_what_is_stored_is_what_the_operation_gives(run, stories, monkeypatch, operation):
    assert run.complete
    layers = stories.model.model.layers
    for index, change in changes(run, operation).items():
        own = layers[index].mlp
        monkeypatch.setattr(own, "forward", lambda x, own=own, c=change: mlp("llama", own, x, c))
    pairs = load_pairs(run.job.suite["grammar"]).set_index("item_id")
    expected = {}
    for item, text in pairs["good"].items():
        ids = stories.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            loss = stories.model(input_ids=ids, labels=ids).loss
        expected[item] = -float(loss) * (ids.shape[1] - 1)
    manifest, items = run.manifest(), run.table("items")
    chosen = (manifest["condition"] == operation) & (manifest["task"] == "grammar")
    found = items[items["cell_key"] == manifest.loc[chosen, "cell_key"].item()]
    np.testing.assert_allclose(found["logprob"], found["item_id"].map(expected), atol=1e-3)
    baseline = manifest[manifest["is_baseline"] & (manifest["task"] == "grammar")]
    plain = items[items["cell_key"] == baseline["cell_key"].item()].set_index("item_id")
    assert np.abs(found["item_id"].map(plain["logprob"]) - found["logprob"]).max() > 0.01


def test_changed_values_of_a_removed_mlp_are_those_of_its_output(run, stories):
    cells = run.table("cells").set_index(["condition", "task"])
    removed = cells.loc[("remove_mlp", "grammar")]
    one = cells.loc[("sign_flip", "grammar")]
    num_neurons = run.table("conditions").set_index("condition_key")["neurons"].map(len)
    sign_flip = run.manifest().set_index("condition").loc["sign_flip", "condition_key"].iloc[0]
    places = one["values_seen"] / num_neurons.loc[[sign_flip]].sum()
    assert removed["values_seen"] == 2 * stories.model.config.hidden_size * places
    assert 0.99 * removed["values_seen"] < removed["values_changed"] <= removed["values_seen"]
