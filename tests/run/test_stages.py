"""The stages of a run: census, in parts or not, matches, and the cells that wait for them."""

import io
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import sweeper
from sweeper import commands
from sweeper.errors import UserError
from sweeper.run import worker
from sweeper.run.expected import done_work, expected_cells, expected_work
from sweeper.run.sweep import prepare
from sweeper.store import Store


def quiet() -> Console:
    return Console(file=io.StringIO())


def zero(**neurons) -> dict:
    return {"operation": "zero", "neurons": neurons}


AS_BAD = zero(kind="matched", match="top", by="perplexity", task="perplexity", tolerance=0.15)
MATCHED = {
    "top": {"operation": "zero"},
    "random": {"operation": "zero"},
    "as_bad": AS_BAD,
    "alike": zero(kind="matched", match="top", by="moments", moments=["skew", "mean_abs"]),
    "draws": zero(kind="random", match="as_bad"),
}
"""Beside the baseline: 1 + 3 + 1 + 1 + 3 conditions."""


@pytest.fixture
def matched_job(story_job):
    """A quick sweep whose controls are matched by perplexity and by moments."""

    def build(**changes):
        few = {"grammar": {"limit": 1}}
        return story_job(**{"condition": MATCHED, "suite": few, **changes})

    return build


def statuses(run: sweeper.Run) -> Counter:
    cells = run.store.table("cells").to_pandas()
    return Counter(cells.loc[cells["status"] == "done", "kind"])


def test_a_matched_control_does_what_its_match_row_says(matched_job):
    job = matched_job()
    run = sweeper.run_job(job, quiet())
    assert run.complete
    assert statuses(run) == {"census": 1, "match": 1, "score": 2 * 10}
    manifest = run.manifest()
    assert len(manifest) == expected_cells(prepare(job)) == 22
    matches = run.table("matches")
    (chosen,) = matches[matches["chosen"]].to_dict("records")
    assert abs(chosen["difference"]) <= 0.15 * chosen["target_increase"]
    assert chosen["difference_low"] < chosen["difference"] < chosen["difference_high"]
    # Scored as any other condition, in other company, both conditions raise NLL as they should.
    effects = run.estimates().query("metric == 'nll'").set_index("condition")
    assert effects.loc["as_bad", "effect"] == pytest.approx(chosen["increase"], abs=1e-5)
    assert effects.loc["top", "effect"] == pytest.approx(chosen["target_increase"], abs=1e-5)
    # The intervals are those of the estimates: the same clusters, the same formula.
    ends = ["cluster_low", "cluster_high"]
    np.testing.assert_allclose(
        effects.loc["as_bad", ends].astype(float), [chosen["low"], chosen["high"]], atol=1e-4
    )
    # The set itself is the bottom of each layer, found again by pandas.
    census = run.table("neurons")
    line = census.groupby("layer")["wd"].transform(lambda wd: wd.quantile(chosen["fraction"]))
    bottom = census[census["wd"] < line].groupby("layer")["neuron"].apply(sorted)
    scored = manifest[manifest["kind"] == "score"].set_index("condition")
    sets = run.table("conditions").set_index("condition_key")
    stored = sets.loc[scored.loc["as_bad", "condition_key"].iloc[0]].set_index("layer")["neurons"]
    assert {layer: list(chosen) for layer, chosen in stored.items()} == bottom.to_dict()
    # Its random controls have as many neurons in each layer.
    assert set(scored.loc["draws", "num_neurons"]) == {chosen["num_neurons"]}
    assert set(scored.loc["draws", "control_of"]) == {"as_bad"}
    balance = run.table("balance")
    assert balance["statistic"].tolist() == ["skew", "mean_abs"]
    assert (balance["after"] < balance["before"]).all()


def test_nothing_is_matched_twice(matched_job, monkeypatch):
    sweeper.run_job(matched_job(), quiet())
    monkeypatch.setattr(worker, "find_match", lambda *_: pytest.fail("matched again"))
    again = sweeper.run_job(matched_job(name="wider", seeds=4), quiet())
    assert again.complete
    assert again.folder.read_progress()["cells_reused"] == 22
    # Another tolerance is another match, of the same census.
    finer = {**AS_BAD["neurons"], "tolerance": 0.14}
    monkeypatch.undo()
    run = sweeper.run_job(matched_job(condition=MATCHED | {"as_bad": zero(**finer)}), quiet())
    assert statuses(run)["match"] == 2
    assert statuses(run)["census"] == 1


def test_a_run_killed_while_it_matches_goes_on_from_there(matched_job, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(worker, "find_match", stop)
        with pytest.raises(KeyboardInterrupt):
            sweeper.run_job(matched_job(), quiet())
    store = Store(matched_job().store)
    before = store.done_keys()
    assert Counter(store.table("cells").to_pandas()["kind"])["census"] == 1
    run = sweeper.run_job(matched_job(), quiet())
    assert run.complete
    cells = run.table("cells")
    assert not cells["cell_key"].duplicated().any()
    assert before & set(cells["cell_key"])
    assert statuses(run) == {"census": 1, "match": 1, "score": 20}


def test_a_match_that_fails_blocks_what_waits_for_it_and_nothing_else(matched_job, monkeypatch):
    def fail(*_):
        raise ArithmeticError("no such number")

    with monkeypatch.context() as patched:
        patched.setattr(worker, "find_match", fail)
        run = sweeper.run_job(matched_job(), quiet())
    assert not run.complete
    assert [(item.cell.kind, item.cell.condition) for item in run.failed] == [("match", "as_bad")]
    assert run.blocked == 2 * (1 + 3)
    assert run.unavailable == ()
    assert set(run.estimates()["condition"]) == {"top", "random", "alike"}
    mended = sweeper.run_job(matched_job(), quiet())
    assert mended.complete
    assert mended.folder.read_progress()["cells_reused"] == 1 + 2 * 6


def test_a_census_that_fails_blocks_its_matches_too(matched_job, monkeypatch):
    def fail(*_args, **_further):
        raise ArithmeticError("no such number")

    monkeypatch.setattr(worker.Worker, "_census", fail)
    run = sweeper.run_job(matched_job(), quiet())
    assert {item.cell.kind for item in run.failed} == {"census"}
    assert run.blocked == 1 + 2 * (1 + 3 + 1 + 1 + 3)


def test_a_set_that_nothing_matches_is_listed_and_the_others_go_on(matched_job, monkeypatch):
    """The story's top neurons lower perplexity when their negative half is clamped."""
    clamp = {name: {"operation": "negative_clamp"} for name in MATCHED}
    spec = {name: {**MATCHED[name], **clamp[name]} for name in MATCHED}
    monkeypatch.setattr(sweeper.api.Run, "write_report", lambda _self: "page")
    out, err = quiet(), quiet()
    assert not commands.run(matched_job(condition=spec), out, err)
    run = sweeper.run_job(matched_job(condition=spec), quiet())
    assert not run.complete
    assert (run.failed, run.blocked) == ((), 0)
    found = {item.condition: item for item in run.unavailable}
    assert {name: item.num_cells for name, item in found.items()} == {"as_bad": 2, "draws": 6}
    (row,) = run.table("matches").to_dict("records")
    assert (row["outcome"], row["reached"]) == ("no increase", False)
    effect = run.estimates().query("metric == 'nll' and condition == 'top'")["effect"].item()
    assert row["target_increase"] == pytest.approx(effect, abs=1e-5)
    assert f"by {row['target_increase']:.3g} nats per token" in found["as_bad"].reason
    assert set(run.estimates()["condition"]) == {"top", "random", "alike"}
    said = err.file.getvalue()
    assert "not available: stories local as_bad (2 cells): top does not raise mean NLL" in said
    assert "tries the failed cells again" not in said
    # What the store knows not to be had is no work to plan.
    sweep = prepare(matched_job(condition=spec))
    (checkpoint,) = sweep.checkpoints
    work = expected_work(sweep, checkpoint, done_work(sweep, checkpoint, run.store))
    assert [(part.cells, part.done) for part in work] == [(1, 1), (1, 1), (6, 6), (6, 6)]
    planned = quiet()
    commands.plan(matched_job(condition=spec), False, planned, quiet())
    (line,) = [row for row in planned.file.getvalue().splitlines() if "stories" in row]
    assert line.replace("│", " ").split()[2:4] == ["14", "14"]


@pytest.mark.parametrize("layers", ["each", {"groups": 2}, {"cumulative": 2}])
def test_a_sweep_over_layers_is_many_conditions(story_job, layers):
    groups = {
        "each": [[0], [1], [2], [3], [4]],
        "groups": [[0, 1], [2, 3], [4]],
        "cumulative": [[0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4]],
    }[layers if isinstance(layers, str) else next(iter(layers))]
    job = story_job(
        condition={"top": {"neurons": {"layers": layers}}}, suite={"grammar": {"limit": 1}}, seeds=2
    )
    run = sweeper.run_job(job, quiet())
    assert run.complete
    manifest = run.manifest().query("kind == 'score' and task == 'perplexity'")
    names = [f"[{group[0]}-{group[-1]}]" for group in groups]
    rows = manifest[manifest["family"] == "top"]
    assert rows["condition"].tolist() == [f"top{name}" for name in names]
    assert rows["first_layer"].tolist() == [group[0] for group in groups]
    assert rows["last_layer"].tolist() == [group[-1] for group in groups]
    controls = manifest[manifest["family"] == "random"]
    assert Counter(controls["control_of"]) == dict.fromkeys(rows["condition"], 2)
    sets = run.table("conditions").groupby("condition_key")["layer"].apply(sorted)
    assert [sets[key] for key in rows["condition_key"]] == groups
    assert len(run.manifest()) == expected_cells(prepare(job)) == 1 + 2 * (1 + 3 * len(groups))
    assert set(run.estimates()["condition"]) == set(manifest["condition"]) - {"baseline"}


def test_groups_of_more_layers_than_there_are_are_one_line_before_the_model_is_loaded(story_job):
    job = story_job(condition={"top": {"neurons": {"layers": {"groups": 6}}}})
    with pytest.raises(UserError, match=r"^condition\.top\.neurons\.layers\.groups = 6: model"):
        sweeper.run_job(job, quiet())


def test_a_census_in_parts_is_the_census(story_job):
    whole = sweeper.run_job(story_job(), quiet()).table("neurons")
    cut = story_job(store=f"{story_job().store}_cut", census={"parts": 3})
    run = sweeper.run_job(cut, quiet())
    assert run.complete
    assert statuses(run) == {"census_part": 3, "census": 1, "score": 10}
    merged = run.table("neurons")
    assert set(merged["cell_key"]) == set(whole["cell_key"])
    place = ["layer", "neuron"]
    pd.testing.assert_frame_equal(
        merged.set_index(place)[["mean", "sd", "skew"]].sort_index(),
        whole.set_index(place)[["mean", "sd", "skew"]].sort_index(),
        rtol=1e-4,
        atol=1e-4,
    )
    # Parts are no cells of the job, and a census that is there needs none.
    assert len(run.manifest()) == 11
    again = sweeper.run_job(story_job(store=cut.store, census={"parts": 2}), quiet())
    assert statuses(again)["census_part"] == 3


def test_parts_that_are_there_are_not_computed_again(story_job, monkeypatch):
    job = story_job(census={"parts": 3})
    begun = []
    original = worker.Worker._census

    def second_stops(self, *arguments):
        begun.append(arguments)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return original(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(worker.Worker, "_census", second_stops)
        with pytest.raises(KeyboardInterrupt):
            sweeper.run_job(job, quiet())
    assert Counter(Store(job.store).table("cells").to_pandas()["kind"])["census_part"] == 1
    run = sweeper.run_job(job, quiet())
    assert run.complete
    cells = run.store.table("cells").to_pandas()
    assert Counter(cells["kind"])["census_part"] == 3
    assert len(run.store.files.names("commits")) == len(set(cells["attempt"])) + sets_of(run)


def sets_of(run: sweeper.Run) -> int:
    """Commits that hold neuron sets alone."""
    return sum("conditions" in name for name in run.store.files.names("commits"))


def test_plan_counts_matches_and_groups(matched_job):
    job = matched_job(condition=MATCHED | {"top": zero(kind="top", fraction=0.05)})
    sweep = prepare(job)
    (checkpoint,) = sweep.checkpoints
    work = expected_work(sweep, checkpoint)
    assert [part.cells for part in work] == [1, 1, 10, 10]
    assert work[1].cost > work[2].cost > 0
    sweeper.run_job(job, quiet())
    work = expected_work(sweep, checkpoint, done_work(sweep, checkpoint, Store(job.store)))
    assert [part.done for part in work] == [1, 1, 10, 10]
    out = quiet()
    commands.plan(job, False, out, quiet())
    assert "22" in out.file.getvalue()


def test_plan_on_an_unusable_store_is_an_error(story_job, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match=r"^store: .* cannot be used: .* is not a folder$"):
        commands.plan(story_job(store=str(file)), False, quiet(), quiet())
    commands.plan(story_job(store=str(tmp_path / "none yet")), False, quiet(), quiet())
    assert not (tmp_path / "none yet").exists()
