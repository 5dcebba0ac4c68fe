"""Profiles of neurons in whole sweeps on a real model."""

import io
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

import sweeper
from sweeper import commands
from sweeper.errors import UserError
from sweeper.report.collect import collect
from sweeper.run import worker
from sweeper.run.expected import done_work, expected_cells, expected_work
from sweeper.run.sweep import prepare
from sweeper.store import Store

PROFILES = {"neurons": 5, "windows": 6, "pairs": 80}


def quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture
def profile_job(story_job):
    """A quick sweep with profiles."""

    def build(**changes):
        few = {"grammar": {"limit": 1}}
        return story_job(**{"profiles": PROFILES, "suite": few, "seeds": 1, **changes})

    return build


def kinds(run: sweeper.Run) -> Counter:
    cells = run.store.table("cells").to_pandas()
    return Counter(cells.loc[cells["status"] == "done", "kind"])


def fail(*_):
    raise ArithmeticError("no such number")


def test_the_most_extreme_neurons_are_profiled(profile_job, stories):
    job = profile_job()
    run = sweeper.run_job(job, quiet())
    assert run.complete
    assert kinds(run) == {"census": 1, "profile": 1, "score": 6}
    manifest, pairs, tokens = run.manifest(), run.table("neuron_pairs"), run.table("neuron_tokens")
    assert len(manifest) == expected_cells(prepare(job)) == 8
    (named,) = manifest[manifest["kind"] == "profile"].to_dict("records")
    assert (named["condition"], named["task"], named["task_kind"]) == ("profile", "text", "profile")
    census = run.table("neurons").sort_values("wd", ascending=False)
    best = set(map(tuple, census[["layer", "neuron"]].head(5).to_numpy()))
    for table in (pairs, tokens):
        assert set(map(tuple, table[["layer", "neuron"]].drop_duplicates().to_numpy())) == best
        assert set(table["cell_key"]) == {named["cell_key"]}
    cells = run.table("cells").set_index("kind").loc["profile"]
    assert (cells["num_items"], cells["num_tokens"]) == (5, 6 * 64)
    check_tokens(job, stories, tokens)
    drawn = pairs[~pairs["similar"]]
    assert set(drawn.groupby(["layer", "neuron"]).size()) == {80}
    assert (pairs.loc[pairs["similar"], "token_i"] != pairs.loc[pairs["similar"], "token_j"]).all()


def check_tokens(job, stories, tokens: pd.DataFrame) -> None:
    """Means of a neuron by token, from plain windows that do not overlap."""
    with open(job.corpus["text"].path) as file:
        ids = stories.tokenizer(file.read())["input_ids"]
    windows = torch.tensor([ids[start : start + 64] for start in range(0, 6 * 64, 64)])
    layer, neuron = tokens[["layer", "neuron"]].iloc[0]
    seen = []
    gate = stories.model.model.layers[layer].mlp.gate_proj
    handle = gate.register_forward_hook(lambda _m, _i, output: seen.append(output[..., neuron]))
    with torch.inference_mode():
        stories.model(windows)
    handle.remove()
    plain = pd.DataFrame({"token": windows.flatten(), "value": torch.cat(seen).flatten().double()})
    expected = plain.groupby("token")["value"].agg(["count", "mean"])
    found = tokens[(tokens["layer"] == layer) & (tokens["neuron"] == neuron)].set_index("token")
    expected = expected.loc[found.index]
    assert found["count"].tolist() == expected["count"].tolist()
    np.testing.assert_allclose(found["mean"], expected["mean"], atol=1e-4)


def test_nothing_is_profiled_twice(profile_job, monkeypatch):
    sweeper.run_job(profile_job(), quiet())
    monkeypatch.setattr(worker, "profiles_of", fail)
    again = sweeper.run_job(profile_job(name="again"), quiet())
    assert again.complete
    assert again.folder.read_progress()["cells_reused"] == 8
    assert not again.table("neuron_pairs").empty
    # More neurons are another profile, of the same census.
    monkeypatch.undo()
    run = sweeper.run_job(profile_job(profiles={**PROFILES, "neurons": 6}), quiet())
    assert kinds(run) == {"census": 1, "profile": 2, "score": 6}


def test_without_the_key_there_is_none(profile_job):
    run = sweeper.run_job(profile_job(profiles=None), quiet())
    assert run.complete
    assert kinds(run) == {"census": 1, "score": 6}
    assert run.table("neuron_pairs").empty


def test_a_profile_that_fails_is_listed_and_nothing_else(profile_job, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(worker, "profiles_of", fail)
        run = sweeper.run_job(profile_job(), quiet())
    assert not run.complete
    (failed,) = run.failed
    assert (failed.cell.kind, failed.cell.task) == ("profile", "text")
    assert (failed.error.type, failed.error.text) == ("ArithmeticError", "no such number")
    assert run.blocked == 0
    assert set(run.estimates()["condition"]) == {"top", "random"}
    mended = sweeper.run_job(profile_job(), quiet())
    assert mended.complete
    assert mended.folder.read_progress()["cells_reused"] == 7


def test_a_census_that_fails_blocks_the_profile(profile_job, monkeypatch):
    monkeypatch.setattr(worker.Worker, "_census", fail)
    run = sweeper.run_job(profile_job(), quiet())
    assert {item.cell.kind for item in run.failed} == {"census"}
    assert run.blocked == 1 + 2 * 2


def test_plan_and_status_count_it(profile_job):
    job = profile_job()
    sweep = prepare(job)
    (checkpoint,) = sweep.checkpoints
    work = expected_work(sweep, checkpoint)
    assert [part.cells for part in work] == [1, 1, 3, 3]
    assert work[1].cost == 6 * 64
    sweeper.run_job(job, quiet())
    work = expected_work(sweep, checkpoint, done_work(sweep, checkpoint, Store(job.store)))
    assert [part.done for part in work] == [1, 1, 3, 3]
    out = quiet()
    commands.status("story", job.store, out)
    assert "profiles over text" in out.file.getvalue()


def test_a_census_in_parts_is_profiled_as_a_whole_one(profile_job):
    run = sweeper.run_job(profile_job(census={"parts": 2}), quiet())
    assert run.complete
    assert kinds(run) == {"census_part": 2, "census": 1, "profile": 1, "score": 6}


def test_a_statistic_that_the_census_lacks_is_one_line(profile_job, monkeypatch):
    def without_md(self, held, unit, cell, rows):
        census = worker.census_rows(held.model, unit, held.budget, self._store)
        table = census.rows.assign(md=np.nan)
        rows.add({"neurons": table}, worker.cell_row(cell, len(table), 0, 0.0))

    monkeypatch.setattr(worker.Worker, "_census", without_md)
    job = profile_job(profiles={**PROFILES, "statistic": "md"})
    with pytest.raises(UserError, match=r"^profiles\.statistic: no neuron of the census"):
        sweeper.run_job(job, quiet())


def test_the_report_shows_scatter_and_tokens(profile_job, tmp_path):
    run = sweeper.run_job(profile_job(), quiet())
    nothing = pd.DataFrame()
    data = collect(run.store, run.folder, nothing, nothing, nothing)
    assert set(data.neuron_pairs["model"]) == set(data.neuron_tokens["model"]) == {"stories"}
    page = run.write_report(tmp_path / "report").read_text(encoding="utf-8")
    assert "Inputs and outputs of single neurons: stories @ local" in page
    assert "Tokens that neurons separate: stories @ local" in page
    figures = {path.name for path in (tmp_path / "report" / "figures").iterdir()}
    assert {"neuron_pairs_1.svg", "neuron_tokens_1.svg"} <= figures
    table = (tmp_path / "report" / "tables" / "sign_shares.md").read_text()
    layer, neuron = data.neuron_pairs[["layer", "neuron"]].iloc[0]
    own = data.neuron_pairs[data.neuron_pairs[["layer", "neuron"]].eq([layer, neuron]).all(axis=1)]
    similar = own[own["similar"]]
    assert f"| stories | local | {layer} | {neuron} |" in table
    share = ((similar["y_i"] < 0) & (similar["y_j"] < 0)).mean()
    row = next(line for line in table.splitlines() if f"| {layer} | {neuron} |" in line)
    assert f"| {len(similar)} | {100 * share:.3g} % |" in row
