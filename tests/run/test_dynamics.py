"""Whole sweeps over four revisions of a tiny model, in this process."""

import io
import random
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from safetensors.numpy import load_file, save_file
from scipy import stats
from tiny_models import build_tiny

import sweeper
from sweeper import commands
from sweeper.errors import UserError
from sweeper.report.collect import collect
from sweeper.run import worker
from sweeper.run.expected import done_work, expected_cells, expected_work
from sweeper.run.sweep import prepare
from sweeper.spec.job import JobSpec
from sweeper.store import Store

STEPS = (0, 1, 64, 1000)
WORDS = [
    *("the", "cat", "sees", "dogs", "that", "old", "man", "feeds", "every", "morning"),
    *("near", "river", "bank", "small", "house"),
]
WEIGHT = "gpt_neox.layers.{}.mlp.dense_h_to_4h.weight"
COHORT = {"kind": "top", "statistic": "wd", "fraction": 0.1, "revision": "last"}


def quiet():
    return Console(file=io.StringIO())


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A folder with four revisions; every one's weights have moved a little from those before."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    rng = np.random.default_rng(0)
    weights = load_file(build_tiny("gpt_neox", folder / "step0") / "model.safetensors")
    for step in STEPS[1:]:
        here = folder / f"step{step}"
        shutil.copytree(folder / "step0", here)
        weights = {
            name: (value + 0.05 * rng.normal(size=value.shape)).astype(np.float32)
            for name, value in weights.items()
        }
        save_file(weights, here / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A text, and pairs of sentences of six kinds."""
    folder, chosen = tmp_path_factory.mktemp("data"), random.Random(0)
    (folder / "text.txt").write_text(" ".join(chosen.choices(WORDS, k=2000)))
    rows = ["sentence_good,sentence_bad,UID,linguistics_term,pair_id"]
    for number in range(36):
        good, bad = (" ".join(chosen.sample(WORDS, 5)) for _ in range(2))
        rows.append(f"{good},{bad},kind{number % 6},{'ab'[number % 2]},{number}")
    (folder / "pairs.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture
def job(model, data, tmp_path):
    """A sweep over the revisions that takes a few seconds."""

    def build(**changes):
        plain = {
            "name": "dynamics",
            "store": str(tmp_path / "store"),
            "model": {"tiny": {"path": str(model), "revisions": "step*"}},
            "corpus": {"text": {"kind": "file", "path": str(data / "text.txt")}},
            "census": {"corpus": "text", "length": 32, "overlap": 0.0, "windows": 16, "pairs": 0},
            "drift": {"every": 1},
            "suite": {
                "pairs": {
                    "kind": "minimal_pairs",
                    "source": {"kind": "file", "path": str(data / "pairs.csv")},
                },
            },
            "condition": {
                "baseline": {"operation": None},
                "cohort": {"operation": "negative_clamp", "neurons": COHORT},
                "random": {
                    "operation": "negative_clamp",
                    "neurons": {"kind": "random", "match": "cohort"},
                },
            },
            "seeds": 2,
            "statistics": {"resamples": 200},
            "cluster": {"executor": "in_process"},
        }
        return JobSpec.model_validate({**plain, **changes})

    return build


BARE = {"condition": {"baseline": {"operation": None}}, "census": None}
"""Changes to the job that leave it little beside its drift."""


def done_kinds(run):
    cells = run.store.table("cells").to_pandas()
    return Counter(cells.loc[cells["status"] == "done", "kind"])


def fail(*_):
    raise ArithmeticError("no such number")


def numbers_by_hand(model, before, after, layer):
    """1 - cosine of the rows, by numpy on the files."""
    one, two = (
        load_file(model / f"step{step}" / "model.safetensors")[WEIGHT.format(layer)].astype(float)
        for step in (before, after)
    )
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    return 1 - (one * two).sum(axis=1) / lengths


def test_a_sweep_over_revisions(job, model, tmp_path):
    asked = job()
    run = sweeper.run_job(asked, quiet())
    assert run.complete
    assert done_kinds(run) == {"census": 4, "drift": 3, "score": 4 * 4}
    manifest = run.manifest()
    assert len(manifest) == expected_cells(prepare(asked)) == 4 + 3 + 16
    check_sets(run, manifest)
    check_drift(run, manifest, model)
    check_results(run)
    check_report(run, tmp_path / "report")
    check_plan_and_status(asked)
    # Nothing is left to do.
    again = sweeper.run_job(asked, quiet())
    assert again.complete
    assert again.folder.read_progress()["cells_reused"] == 23
    assert len(again.store.table("cells")) == 23


def check_plan_and_status(asked):
    sweep = prepare(asked)
    work = [expected_work(sweep, place) for place in sweep.checkpoints]
    assert [[part.cells for part in parts] for parts in work] == [[1, 4]] + [[1, 1, 4]] * 3
    store, last = Store(asked.store), sweep.checkpoints[-1]
    work = expected_work(sweep, last, done_work(sweep, last, store))
    assert [part.done for part in work] == [1, 1, 4]
    out = quiet()
    commands.status("dynamics", asked.store, out)
    assert "drift since step64" in out.file.getvalue()


def check_sets(run, manifest):
    """One cohort, chosen by the last census, and controls that are the same everywhere."""
    scored = manifest[manifest["kind"] == "score"]
    keys = scored.groupby(["condition", "seed"], dropna=False)["condition_key"].nunique()
    assert keys.tolist() == [1, 1, 1, 1]
    assert set(scored["revision"]) == {f"step{step}" for step in STEPS}
    last = manifest[(manifest["kind"] == "census") & (manifest["revision"] == "step1000")]
    census = run.table("neurons")
    census = census[census["cell_key"] == last["cell_key"].item()]
    line = census.groupby("layer")["wd"].transform(lambda wd: wd.quantile(0.9))
    chosen = census[census["wd"] > line].groupby("layer")["neuron"].apply(list).to_dict()
    sets = run.table("conditions").set_index("condition_key")
    cohort = sets.loc[scored[scored["condition"] == "cohort"]["condition_key"].iloc[0]]
    assert {row.layer: list(row.neurons) for row in cohort.itertuples()} == chosen
    for key in scored[scored["condition"] == "random"]["condition_key"].unique():
        drawn = sets.loc[key].set_index("layer")["neurons"]
        assert {layer: len(row) for layer, row in drawn.items()} == dict.fromkeys(range(3), 5)


def check_drift(run, manifest, model):
    rows = run.table("drift").merge(manifest[["cell_key", "revision", "task"]], on="cell_key")
    assert (rows["previous"] == rows["task"]).all()
    pairs = set(zip(rows["previous"], rows["revision"], strict=True))
    assert pairs == {("step0", "step1"), ("step1", "step64"), ("step64", "step1000")}
    for (before, after, layer), mine in rows.groupby(["previous", "revision", "layer"]):
        plain = numbers_by_hand(model, before[4:], after[4:], layer)
        mine = mine.sort_values("neuron")
        assert mine["neuron"].tolist() == list(range(48))
        np.testing.assert_allclose(mine["dissimilarity"], plain, rtol=1e-9, atol=1e-13)
        np.testing.assert_allclose(mine["relative"], plain / plain.mean(), rtol=1e-9)


def check_results(run):
    """Trajectories are the estimates, cohorts the census, and correlations scipy's."""
    found, estimates, levels = run.dynamics(), run.estimates(), run.levels()
    points = found["trajectories"]
    place = ["revision", "task", "metric", "group", "condition"]
    effects = points[points["quantity"] == "effect"].set_index(place)
    assert len(effects) == len(estimates) == 4 * 2 * 2 * 3
    assert (effects["num_revisions"] == 4).all()
    wanted = estimates.set_index(place).loc[effects.index]
    for column, other in (("value", "effect"), ("low", "cluster_low"), ("high", "cluster_high")):
        np.testing.assert_allclose(effects[column], wanted[other], atol=1e-12)
    base = points[points["quantity"] == "level"].set_index(place)
    np.testing.assert_allclose(base["value"], levels.set_index(place).loc[base.index]["value"])
    assert effects["step"].dropna().unique().tolist() == list(STEPS)
    check_cohorts(run, found["cohorts"])
    (row,) = (
        found["correlations"].query("group == 'all' and metric == 'accuracy'").to_dict("records")
    )
    wd = found["cohorts"].query("statistic == 'wd' and part == 'cohort'").set_index("revision")
    accuracy = base.query("metric == 'accuracy' and group == 'all'").droplevel([1, 2, 3, 4])[
        "value"
    ]
    together = wd["mean"].loc[accuracy.index]
    assert row["num_revisions"] == 4
    assert row["pearson"] == pytest.approx(stats.pearsonr(together, accuracy).statistic)
    assert row["spearman"] == pytest.approx(stats.spearmanr(together, accuracy).statistic)


def check_cohorts(run, points):
    manifest = run.manifest()
    assert set(points["cohort"]) == {"cohort"}
    census = run.table("neurons").merge(manifest[["cell_key", "revision"]], on="cell_key")
    key = manifest[manifest["condition"] == "cohort"]["condition_key"].iloc[0]
    sets = run.table("conditions")
    sets = sets[sets["condition_key"] == key]
    members = {(row.layer, neuron) for row in sets.itertuples() for neuron in row.neurons}
    inside = [pair in members for pair in zip(census["layer"], census["neuron"], strict=True)]
    names = np.where(inside, "cohort", "rest")
    plain = census.groupby(["revision", names])["wd"].describe()
    wd = points[points["statistic"] == "wd"].set_index(["revision", "part"])
    assert wd["num_neurons"].tolist() == plain.loc[wd.index]["count"].tolist()
    for column, other in (("mean", "mean"), ("first", "25%"), ("median", "50%"), ("third", "75%")):
        np.testing.assert_allclose(wd[column], plain.loc[wd.index][other])
    drift = points[points["statistic"] == "relative_drift"]
    assert set(drift["previous"]) == {"step0", "step1", "step64"}
    weights = drift.groupby("revision")[["mean", "num_neurons"]].apply(
        lambda rows: np.average(rows["mean"], weights=rows["num_neurons"])
    )
    assert weights.tolist() == pytest.approx([1.0] * 3)


def check_report(run, folder):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sweeper.report.data.MAX_CHECKPOINTS", 2)
        nothing = pd.DataFrame()
        few = collect(run.store, run.folder, nothing, nothing, nothing)
    assert set(few.neurons["revision"]) == {"step0", "step1000"}
    page = run.write_report(folder).read_text(encoding="utf-8")
    figures = {path.stem for path in (folder / "figures").iterdir()}
    assert {"steps", "emergence", "drift", "wd_accuracy"} <= figures
    tables = {path.stem for path in (folder / "tables").iterdir()}
    assert {"trajectories", "cohorts", "correlations"} <= tables
    assert "Over training" in page
    for name, rows in run.dynamics().items():
        kept = run.folder.read_dynamics(name)
        assert len(kept) == len(rows) > 0
        assert list(kept) == list(rows)


def test_followers_wait_for_the_census_that_chooses_the_cohort(job, monkeypatch):
    """Each revision is loaded once: nothing of the others begins before the last one's census."""
    loads = []
    original = worker.Worker._hold

    def hold(self, unit):
        loads.append((unit.checkpoint.revision, unit.cells[0].kind))
        return original(self, unit)

    monkeypatch.setattr(worker.Worker, "_hold", hold)
    assert sweeper.run_job(job(drift=None, seeds=1), quiet()).complete
    assert loads[0] == ("step1000", "census")
    order = [revision for revision, _ in loads]
    assert sum(one != two for one, two in pairwise(order)) == 3


def test_a_killed_sweep_goes_on_where_it_was(job, monkeypatch):
    begun = []
    original = worker.drift_rows

    def second_stops(unit):
        begun.append(unit)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return original(unit)

    with monkeypatch.context() as patched:
        patched.setattr(worker, "drift_rows", second_stops)
        with pytest.raises(KeyboardInterrupt):
            sweeper.run_job(job(**BARE), quiet())
    before = Store(job(**BARE).store).done_keys()
    run = sweeper.run_job(job(**BARE), quiet())
    assert run.complete
    cells = run.table("cells")
    assert not cells["cell_key"].duplicated().any()
    assert before & set(cells["cell_key"])
    assert done_kinds(run) == {"drift": 3, "score": 4}
    assert len(run.table("drift")) == 3 * 3 * 48


def test_without_the_census_of_the_cohort_the_rest_still_goes_on(job, monkeypatch):
    original = worker.Worker._census

    def last_fails(self, held, unit, cell, rows):
        if unit.checkpoint.revision == "step1000":
            fail()
        original(self, held, unit, cell, rows)

    with monkeypatch.context() as patched:
        patched.setattr(worker.Worker, "_census", last_fails)
        run = sweeper.run_job(job(), quiet())
    assert [(item.cell.kind, item.cell.revision) for item in run.failed] == [("census", "step1000")]
    assert done_kinds(run) == {"census": 3, "drift": 3, "score": 4}
    assert run.blocked == 4 * 3
    assert sweeper.run_job(job(), quiet()).complete


def test_a_drift_that_fails_is_listed_and_nothing_else(job, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(worker, "drift_rows", fail)
        run = sweeper.run_job(job(**BARE), quiet())
    assert {item.cell.kind for item in run.failed} == {"drift"}
    assert run.blocked == 0
    assert done_kinds(run) == {"score": 4}
    mended = sweeper.run_job(job(**BARE), quiet())
    assert mended.complete
    assert mended.folder.read_progress()["cells_reused"] == 4


def test_every_second_revision(job, model):
    run = sweeper.run_job(job(drift={"every": 2}, **BARE), quiet())
    assert run.complete
    rows = run.table("drift")
    assert len(rows) == 3 * 48
    plain = np.concatenate([numbers_by_hand(model, 0, 64, layer) for layer in range(3)])
    ordered = rows.sort_values(["layer", "neuron"])
    np.testing.assert_allclose(ordered["dissimilarity"], plain, rtol=1e-9, atol=1e-13)


def test_a_matched_control_of_a_cohort_is_matched_once(job, data):
    perplexity = {"kind": "perplexity", "corpus": "text", "length": 32, "limit": 8}
    zero = {"operation": "zero"}
    matched = {"kind": "matched", "match": "cohort", "by": "perplexity", "task": "text"}
    asked = job(
        suite={"text": perplexity},
        drift=None,
        condition={
            "baseline": {"operation": None},
            "cohort": {**zero, "neurons": COHORT},
            "as_bad": {**zero, "neurons": {**matched, "tolerance": 0.9}},
            "draws": {**zero, "neurons": {"kind": "random", "match": "as_bad"}},
        },
    )
    sweep = prepare(asked)
    assert [len(expected_work(sweep, place)) for place in sweep.checkpoints] == [2, 2, 2, 3]
    run = sweeper.run_job(asked, quiet())
    manifest = run.manifest()
    assert (manifest["kind"] == "match").sum() == 1
    assert manifest[manifest["kind"] == "match"]["revision"].tolist() == ["step1000"]
    if run.complete:
        found = manifest[manifest["condition"] == "as_bad"].query("kind == 'score'")
        assert len(found) == 4
        assert found["condition_key"].nunique() == 1
        assert len(manifest) == expected_cells(sweep)
    else:  # nothing matches at the last revision: then it is lacking at all of them
        lacking = {(item.revision, item.condition, item.num_cells) for item in run.unavailable}
        names = (("as_bad", 1), ("draws", 2))
        assert lacking == {(f"step{s}", name, n) for s in STEPS for name, n in names}
        assert run.blocked == 0


def test_a_revision_that_is_not_there_is_one_line(job):
    cohort = {"operation": "zero", "neurons": {**COHORT, "revision": "step63"}}
    base = {"baseline": {"operation": None}}
    asked = job(condition={**base, "cohort": cohort})
    with pytest.raises(UserError) as caught:
        sweeper.run_job(asked, quiet())
    assert str(caught.value) == (
        "condition.cohort.neurons.revision: 'step63' is no revision of model 'tiny' in this job; "
        "allowed: first, last and the 4 revisions step0 to step1000; did you mean step64?"
    )


def test_one_revision_has_no_dynamics(job, model):
    one = {"tiny": {"path": str(model / "step64")}}
    run = sweeper.run_job(job(model=one, drift=None), quiet())
    assert run.complete
    assert {name: len(rows) for name, rows in run.dynamics().items()} == {
        "trajectories": 0,
        "cohorts": 0,
        "correlations": 0,
    }
    assert isinstance(run.dynamics()["trajectories"], pd.DataFrame)
