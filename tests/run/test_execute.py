"""Whole sweeps in this process, on a real model."""

import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

import sweeper
from sweeper.clamp.operations import OPERATIONS, Operation
from sweeper.errors import UserError
from sweeper.score.pairs import load_pairs


def quiet() -> Console:
    return Console(file=io.StringIO())


def test_a_sweep_gives_every_cell_and_the_right_numbers(story_job, stories):
    job = story_job()
    run = sweeper.run_job(job, quiet())
    assert run.complete
    manifest, cells, items = run.manifest(), run.table("cells"), run.table("items")
    assert len(manifest) == 1 + 2 * (1 + 1 + 3)
    assert set(cells["cell_key"]) == set(manifest["cell_key"])
    assert (cells["status"] == "done").all()
    assert not items.duplicated(["cell_key", "item_id"]).any()
    top = manifest[(manifest["condition"] == "top") & (manifest["task"] == "grammar")]
    found = items[items["cell_key"] == top["cell_key"].item()].set_index("item_id")["logprob"]
    expected = clamped_by_hand(run, stories, top["condition_key"].item())
    np.testing.assert_allclose(found, expected.reindex(found.index), atol=1e-3)
    changed = cells.set_index("cell_key").loc[top["cell_key"].item()]
    assert 0 < changed["values_changed"] < changed["values_seen"]


def clamped_by_hand(run, stories, condition_key: str) -> pd.Series:
    """The good sentences' log-probabilities by plain Hugging Face with the set clamped anew.

    The set is chosen here by pandas from the census in the store.
    """
    census = run.table("neurons")
    line = census.groupby("layer")["wd"].transform(lambda wd: wd.quantile(0.95))
    chosen = census[census["wd"] > line].groupby("layer")["neuron"].apply(list)
    stored = run.table("conditions").set_index("condition_key").loc[condition_key]
    assert {row.layer: list(row.neurons) for row in stored.itertuples()} == chosen.to_dict()

    def clamp(layer):
        def hook(_module, inputs):
            inputs[0][..., chosen[layer]] = inputs[0][..., chosen[layer]].relu()

        return hook

    layers = stories.model.model.layers
    handles = [layers[n].mlp.act_fn.register_forward_pre_hook(clamp(n)) for n in chosen.index]
    pairs = load_pairs(run.job.suite["grammar"]).set_index("item_id")
    with torch.inference_mode():
        scores = {item: score(stories, text) for item, text in pairs["good"].items()}
    for handle in handles:
        handle.remove()
    return pd.Series(scores)


def score(stories, text: str) -> float:
    ids = stories.tokenizer(text, return_tensors="pt")["input_ids"]
    return -float(stories.model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)


def test_tokens_are_kept_on_request_and_can_be_queried(story_job):
    plain = sweeper.run_job(story_job(), quiet())
    assert plain.table("tokens").empty
    keep = {"perplexity": {"keep_tokens": True}, "grammar": {"keep_tokens": True}}
    run = sweeper.run_job(story_job(name="kept", suite=keep), quiet())
    # Cells without tokens cannot stand for these; the census can.
    assert run.folder.read_progress()["cells_reused"] == 1
    tokens, items = run.table("tokens"), run.table("items")
    place = ["cell_key", "item"]
    window = tokens[tokens["text"] == 0].groupby(place)["surprisal"].sum()
    expected = items.set_index(place)["logprob"]
    np.testing.assert_allclose(-window.reindex(expected.index), expected, atol=1e-3)
    answer = run.store.sql(
        "select text, count(*) as n, avg(surprisal) as nats, max(char_end) as last "
        "from tokens join cells using (cell_key) where task = 'grammar' group by text order by text"
    )
    counts = items[["num_tokens", "num_tokens_bad"]].dropna().sum()
    assert answer["n"].tolist() == counts.tolist()
    assert answer["nats"].between(0, 20).all()


def test_a_second_run_computes_nothing_and_says_the_same(story_job):
    first = sweeper.run_job(story_job(), quiet())
    commits = sorted(first.store.files.names("commits"))
    estimates = first.estimates()
    again = sweeper.run_job(story_job(), quiet())
    assert sorted(again.store.files.names("commits")) == commits
    pd.testing.assert_frame_equal(again.estimates(), estimates)
    assert again.folder.read_progress()["cells_reused"] == 11


def test_cells_are_shared_between_runs_and_only_new_ones_are_computed(story_job):
    first = sweeper.run_job(story_job(), quiet())
    wider = sweeper.run_job(story_job(name="wider", seeds=4), quiet())
    assert wider.folder.read_progress()["cells_reused"] == 11
    assert set(first.manifest()["cell_key"]) < set(wider.manifest()["cell_key"])
    assert len(wider.table("cells")) == 13
    random = wider.estimates().query("condition == 'random'")
    assert set(random["num_seeds"]) == {4}
    assert set(wider.estimates().query("condition == 'top'")["p_floor"]) == {1 / 5}


def test_results_do_not_depend_on_how_the_work_is_cut(story_job):
    one = sweeper.run_job(story_job(), quiet())
    changes = {
        "store": story_job().store + "2",
        "model": {"stories": {"max_batch_tokens": 64}},
        "cluster": {"unit_seconds": 0.001},
    }
    other = sweeper.run_job(story_job(**changes), quiet())
    assert len(other.store.files.names("commits")) > len(one.store.files.names("commits"))
    place = ["cell_key", "item_id"]
    items, others = (run.table("items").set_index(place).sort_index() for run in (one, other))
    assert items.index.equals(others.index)
    for column in ("logprob", "logprob_bad", "margin"):
        np.testing.assert_allclose(items[column], others[column], atol=1e-3)


@pytest.fixture
def silent_neuron(shared, tmp_path):
    """The tiny real model with neuron 3 of layer 1 made silent: its pre-activation is always 0."""
    folder = tmp_path / "silent"
    shutil.copytree(shared / "models" / "stories260K", folder, copy_function=shutil.copyfile)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.gate_proj.weight"][3] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return {"stories": {"path": str(folder)}}


def test_a_clamp_that_changes_nothing_fails_alone_and_is_tried_again(story_job, silent_neuron):
    explicit = {"kind": "explicit", "neurons": {1: [3]}}
    useless = {"operation": "negative_clamp", "neurons": explicit}
    job = story_job(model=silent_neuron, condition={"useless": useless})
    run = sweeper.run_job(job, quiet())
    failed = {(item.cell.condition, item.cell.task) for item in run.failed}
    assert failed == {("useless", "grammar"), ("useless", "perplexity")}
    assert {item.error.type for item in run.failed} == {"UnchangedError"}
    assert {item.attempts for item in run.failed} == {job.cluster.max_attempts}
    assert not run.complete
    assert set(run.estimates()["condition"]) == {"top", "random"}
    bad = run.table("cells").query("status == 'failed'")
    assert len(bad) == 2
    assert not set(bad["cell_key"]) & set(run.table("items")["cell_key"])
    # Allowed now: these cells are tried again, and nothing else.
    useless = useless | {"allow_unchanged": True}
    mended = sweeper.run_job(
        story_job(model=silent_neuron, condition={"useless": useless}), quiet()
    )
    assert mended.complete
    assert mended.folder.read_progress()["cells_reused"] == 11
    assert (mended.table("cells")["status"] == "done").all()
    effects = mended.estimates().query("condition == 'useless'")["effect"]
    # Computed in other company than the baseline: equal up to rounding.
    assert (effects.abs() < 1e-6).all()
    # Forbidden again: the zeros that are in the store now do not count.
    useless = useless | {"allow_unchanged": False}
    strict = sweeper.run_job(
        story_job(model=silent_neuron, condition={"useless": useless}), quiet()
    )
    assert {item.error.type for item in strict.failed} == {"UnchangedError"}
    assert set(strict.estimates()["condition"]) == {"top", "random"}


def test_a_condition_that_raises_takes_no_other_along(story_job, monkeypatch):
    def refuse(values):
        raise ArithmeticError("no such number")

    monkeypatch.setitem(OPERATIONS, "positive_clamp", Operation(refuse))
    explicit = {"kind": "explicit", "neurons": {4: [3]}}
    broken = {"operation": "positive_clamp", "neurons": explicit}
    job = story_job(condition={"broken": broken}, cluster={"max_attempts": 1})
    run = sweeper.run_job(job, quiet())
    failed = {(item.cell.condition, item.cell.task, item.error.type) for item in run.failed}
    assert failed == {("broken", task, "ArithmeticError") for task in ("grammar", "perplexity")}
    assert run.table("cells")["status"].value_counts().to_dict() == {"done": 11, "failed": 2}


def test_a_model_that_cannot_be_loaded_is_a_failure_with_a_list(story_job, tmp_path, shared):
    broken = tmp_path / "broken"
    shutil.copytree(shared / "models" / "stories260K", broken, copy_function=shutil.copyfile)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    run = sweeper.run_job(story_job(model={"stories": {"path": str(broken)}}), quiet())
    assert not run.complete
    assert run.blocked == 8  # the four conditions that wait for the census, in two tasks
    assert len(run.failed) == 3


def test_layers_and_neurons_that_the_model_lacks_are_errors_before_it_is_loaded(story_job):
    def explicit(neurons):
        spec = {"operation": "zero", "neurons": {"kind": "explicit", "neurons": neurons}}
        return story_job(condition={"named": spec})

    with pytest.raises(
        UserError,
        match=r"^condition\.named\.neurons\.neurons = 5: model 'stories' has layers 0 to 4$",
    ):
        sweeper.run_job(explicit({5: [0]}), quiet())
    with pytest.raises(UserError, match=r"neurons\.0 = 172: model 'stories' has neurons 0 to 171$"):
        sweeper.run_job(explicit({0: [172]}), quiet())
    with pytest.raises(
        UserError, match=r"^condition\.top\.neurons\.layers = 9: model 'stories' has layers 0 to 4$"
    ):
        sweeper.run_job(story_job(condition={"top": {"neurons": {"layers": [0, 9]}}}), quiet())


def test_the_job_is_kept_beside_its_results(story_job):
    job = story_job()
    run = sweeper.run_job(job, quiet())
    assert sweeper.open_run("story", job.store).job == job
    (checkpoint,) = run.folder.read_checkpoints()
    assert checkpoint.fingerprint.startswith("sha256:")
    facts = json.loads(run.table("cells")["versions"].iloc[0])
    assert facts["torch"] == torch.__version__.split("+")[0] or facts["torch"] == torch.__version__


def test_two_names_for_one_condition_share_their_cells(story_job):
    top = story_job().condition["top"].model_dump()
    run = sweeper.run_job(story_job(condition={"same": top}), quiet())
    assert run.complete
    progress = run.folder.read_progress()
    assert progress["cells_done"] == progress["cells_expected"] == 13
    assert len(run.table("cells")) == 11
    place = ["task", "metric", "group"]
    top, same = (
        run.estimates().query("condition == @name").set_index(place)["effect"]
        for name in ("top", "same")
    )
    pd.testing.assert_series_equal(top, same)


def test_a_job_changed_under_the_same_name_keeps_to_its_own_cells(story_job):
    sweeper.run_job(story_job(seeds=4), quiet())
    fewer = sweeper.run_job(story_job(seeds=2), quiet())
    assert set(fewer.manifest()["seed"].dropna()) == {0, 1}
    assert len(fewer.table("cells")) == 9
    assert fewer.folder.read_progress()["cells_reused"] == 9


def test_two_names_for_the_same_weights_share_everything(story_job, shared):
    path = {"path": str(shared / "models" / "stories260K")}
    run = sweeper.run_job(story_job(model={"stories": path, "twin": path}), quiet())
    assert run.complete
    assert run.blocked == 0
    assert len(run.table("cells")) == 11
    assert run.folder.read_progress()["eta_seconds"] == pytest.approx(0, abs=1e-6)
    effects = run.estimates().set_index(["model", "condition", "task", "metric", "group"])["effect"]
    pd.testing.assert_series_equal(effects.loc["stories"], effects.loc["twin"])


def test_one_bad_task_leaves_the_others_alone(story_job, tmp_path):
    pairs = tmp_path / "pairs.csv"
    long = "the dog " * 600
    pairs.write_text(f"sentence_good,sentence_bad,UID,linguistics_term,pair_id\n{long},a b,y,g,1\n")
    bad = {"kind": "minimal_pairs", "source": {"kind": "file", "path": str(pairs)}}
    cluster = {"unit_seconds": 1e-4}
    run = sweeper.run_job(story_job(suite={"bad": bad}, seeds=8, cluster=cluster), quiet())
    assert {item.cell.task for item in run.failed} == {"bad"}
    assert len(run.failed) == 10
    assert run.blocked == 0
    assert set(run.estimates()["task"]) == {"grammar", "perplexity"}


def test_a_complete_sweep_starts_no_worker(story_job, monkeypatch):
    sweeper.run_job(story_job(), quiet())
    monkeypatch.setattr(
        "sweeper.run.in_process.InProcessExecutor.start", lambda _self: pytest.fail("started")
    )
    assert sweeper.run_job(story_job(), quiet()).complete


def test_a_census_that_cannot_fit_is_named_before_the_model_is_loaded(story_job):
    with pytest.raises(UserError, match=r"^census\.memory_gb = 1e-05: 16 windows of 64 tokens"):
        sweeper.run_job(story_job(census={"memory_gb": 1e-5, "method": "exact"}), quiet())
