"""Published evaluations of Pythia: BLiMP over training, compared with pandas by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from sweeper.api import ImportedRun, open_run
from sweeper.errors import UserError
from sweeper.ingest import Request, import_results

V0 = ("suite=pythia-v0", "setting=zero-shot", "task=blimp_*")
LAST = {"70m": 0.753, "160m": 0.780, "410m": 0.818, "1b": 0.823, "12b": 0.831}
"""Mean of the 67 paradigms at the last step, as the data's own description has it."""


@pytest.fixture(scope="module")
def table(shared):
    return shared / "data" / "pythia_evals" / "pythia_evals.parquet"


@pytest.fixture(scope="module")
def rows(table) -> pd.DataFrame:
    """BLiMP of the first training runs; an evaluation that was repeated said the same again."""
    frame = pd.read_parquet(table)
    chosen = frame[
        (frame["suite"] == "pythia-v0")
        & (frame["setting"] == "zero-shot")
        & frame["task"].str.startswith("blimp_")
    ]
    return chosen.drop_duplicates(["model", "step", "task"])


def load(table, store, where) -> ImportedRun:
    import_results(Request(paths=(table,), store=str(store), name="pythia", where=where))
    run = open_run("pythia", str(store))
    assert isinstance(run, ImportedRun)
    return run


def check(run: ImportedRun, rows: pd.DataFrame) -> None:
    levels = run.step_levels()
    means = rows.groupby(["model", "step"])["value"].agg(["mean", "std", "size"]).reset_index()
    assert set(means["size"]) == {67}
    whole = levels[levels["group"] == "all"].merge(means, on=["model", "step"])
    assert len(whole) == len(means)
    assert whole["value"].to_numpy() == pytest.approx(whole["mean"].to_numpy(), abs=1e-12)
    half = stats.t.ppf(0.975, 66) * whole["std"] / np.sqrt(67)
    assert whole["low"].to_numpy() == pytest.approx((whole["mean"] - half).to_numpy(), abs=1e-12)
    assert whole["high"].to_numpy() == pytest.approx((whole["mean"] + half).to_numpy(), abs=1e-12)
    assert set(whole["num_items"]) == {67_000}
    parts = levels[levels["group"] != "all"]
    assert len(parts) == len(rows)
    right = (parts["value"] * 1000).round().astype(float)
    low, high = proportion_confint(right, 1000, method="wilson")
    assert parts["low"].to_numpy() == pytest.approx(low.to_numpy(), abs=1e-12)
    assert parts["high"].to_numpy() == pytest.approx(high.to_numpy(), abs=1e-12)
    last = whole.sort_values("step").groupby("model")["value"].last()
    for size in set(LAST) & {name.removeprefix("pythia-") for name in last.index}:
        assert last[f"pythia-{size}"] == pytest.approx(LAST[size], abs=5e-4)
    check_changes(run.step_changes(levels), rows)


def check_changes(changes: pd.DataFrame, rows: pd.DataFrame) -> None:
    for model, of_model in rows.groupby("model"):
        wide = of_model.pivot(index="task", columns="step", values="value")
        mine = changes[changes["model"] == model]
        assert mine["step"].tolist() == list(wide.columns[1:])
        expected = stats.ttest_rel(wide.iloc[:, 1:], wide.iloc[:, :-1])
        assert mine["p"].to_numpy() == pytest.approx(expected.pvalue)
        assert mine["change"].to_numpy() == pytest.approx(wide.diff(axis=1).mean().iloc[1:])


def test_two_models(table, rows, tmp_path):
    run = load(table, tmp_path / "store", (*V0, "model=pythia-70m", "model=pythia-160m"))
    manifest = run.manifest()
    assert len(manifest) == 2 * 15 * 67
    check(run, rows[rows["model"].isin(["pythia-70m", "pythia-160m"])])
    assert run.record.steps[("pythia-160m", "step71500")] == 71500


@pytest.mark.slow
def test_all_sixteen_models_at_fifteen_steps(table, rows, tmp_path):
    run = load(table, tmp_path / "store", V0)
    assert len(run.manifest()) == 16 * 15 * 67
    assert rows.groupby("model")["step"].nunique().tolist() == [15] * 16
    check(run, rows)


def test_suites_must_be_told_apart(table, tmp_path):
    request = Request(
        paths=(table,), store=str(tmp_path / "s"), name="x", where=("model=pythia-1.4b-deduped",)
    )
    with pytest.raises(UserError, match=r"has \d+ values that differ in setting") as stop:
        import_results(request)
    assert "choose with --where setting=" in str(stop.value)
    assert not (tmp_path / "s").exists()
