"""Figures and tables over training."""

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import vl_convert

from sweeper.report import (
    figure_drift,
    figure_emergence,
    figure_steps,
    figure_wd_accuracy,
    over_steps,
    words,
)
from sweeper.report.all_tables import all_tables
from sweeper.report.data import ReportData, first_checkpoints
from sweeper.report.figure import Figure
from sweeper.report.figure_wd_accuracy import joined
from sweeper.report.figures import all_figures, specification
from sweeper.report.html import render
from sweeper.report.text_table import TextTable
from sweeper.report.theme import Palette
from sweeper.store.dynamics import CohortPoint, Correlation, TrajectoryPoint

STEPS = (0, 1, 16, 256, 1000, 8000, 64000, 143000)
MODELS = ("pythia-70m", "pythia-1b")
TASKS = {"blimp": "accuracy", "wikitext": "nll"}
NAMES = ["emergence", "drift", "steps", "wd_accuracy"]


def make_trajectories(steps: tuple[int, ...] = STEPS) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    rows = []
    for model in MODELS:
        for task, metric in TASKS.items():
            for place, step in enumerate(steps):
                grown = np.log1p(step) / np.log1p(143000)
                level = {"accuracy": 0.5 + 0.35 * grown, "nll": 10 - 7 * grown}[metric]
                sizes = {"accuracy": -0.15, "nll": 2.0}
                for condition, share in (("baseline", 0.0), ("wd_top", 1.0), ("random", 0.05)):
                    value = level if condition == "baseline" else sizes[metric] * share * grown
                    value += float(rng.normal(0, 0.004))
                    half = 0.02 if metric == "accuracy" else 0.1
                    point = TrajectoryPoint(
                        model=model,
                        revision=f"step{step}",
                        step=step,
                        place=place,
                        task=task,
                        metric=metric,
                        group="all",
                        condition=condition,
                        operation=None if condition == "baseline" else "negative_clamp",
                        family=condition,
                        first_layer=None,
                        last_layer=None,
                        quantity="level" if condition == "baseline" else "effect",
                        num_revisions=len(steps),
                        num_seeds=10 if condition == "random" else 0,
                        num_items=67000,
                        num_clusters=67,
                        num_neurons=12.0,
                        value=value,
                        low=value - half,
                        high=value + half,
                        band_low=value - 1.5 * half,
                        band_high=value + 1.5 * half,
                    )
                    rows.append(asdict(point))
    return pd.DataFrame(rows).astype({"step": "Int64"})


def make_cohorts(steps: tuple[int, ...] = STEPS) -> pd.DataFrame:
    rows = []
    for model in MODELS:
        for place, step in enumerate(steps):
            grown = np.log1p(step) / np.log1p(143000)
            for part, extent in (("cohort", 0.4), ("rest", 0.05)):
                for statistic in ("wd", "drift", "relative_drift"):
                    if statistic != "wd" and place == 0:
                        continue
                    scale = {"wd": extent * grown, "drift": 0.01, "relative_drift": 1.0}[statistic]
                    mean = 0.02 + scale * (1 + (extent if statistic != "wd" else 0))
                    mean *= 1 + 0.1 * MODELS.index(model)
                    point = CohortPoint(
                        model=model,
                        revision=f"step{step}",
                        step=step,
                        place=place,
                        cohort="wd_top",
                        part=part,
                        statistic=statistic,
                        previous=None if statistic == "wd" else f"step{steps[place - 1]}",
                        num_neurons=12 if part == "cohort" else 2036,
                        mean=float(mean),
                        first=float(0.8 * mean),
                        median=float(0.97 * mean),
                        third=float(1.2 * mean),
                    )
                    rows.append(asdict(point))
    return pd.DataFrame(rows).astype({"step": "Int64"})


def make_correlations() -> pd.DataFrame:
    rows = [
        Correlation(
            model=model,
            cohort="wd_top",
            task=task,
            metric=metric,
            group="all",
            num_revisions=len(STEPS),
            num_items=67000,
            num_clusters=67,
            pearson=0.9512,
            pearson_low=0.9011,
            pearson_high=0.9793,
            spearman=0.99,
            spearman_low=0.93,
            spearman_high=1.0,
        )
        for model in MODELS
        for task, metric in TASKS.items()
    ]
    return pd.DataFrame([asdict(row) for row in rows])


@pytest.fixture(scope="module")
def dynamics(data: ReportData) -> ReportData:
    return replace(
        data,
        trajectories=make_trajectories(),
        cohorts=make_cohorts(),
        correlations=make_correlations(),
    )


def draw(data: ReportData) -> dict[str, Figure]:
    """The figures over training alone."""
    makers = (figure_emergence, figure_drift, figure_steps, figure_wd_accuracy)
    palette = Palette(("wd_top", "random"), frozenset({"random"}))
    return {figure.name: figure for make in makers for figure in make.figures(data, palette)}


@pytest.fixture(scope="module")
def figures(dynamics: ReportData) -> dict[str, Figure]:
    return draw(dynamics)


@pytest.fixture(scope="module")
def tables(dynamics: ReportData) -> dict[str, TextTable]:
    return {table.name: table for table in all_tables(dynamics)}


def rows_of(chart: Any) -> pd.DataFrame:
    frames = [pd.DataFrame(rows) for rows in specification(chart)["datasets"].values()]
    return pd.concat(frames, ignore_index=True)


def axes(chart: Any, name: str = "x") -> list[dict[str, Any]]:
    """Every encoding of a chart on an axis."""
    found: list[dict[str, Any]] = []

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            if name in part.get("encoding", {}):
                found.append(part["encoding"][name])
            for inner in part.values():
                walk(inner)
        elif isinstance(part, list):
            for inner in part:
                walk(inner)

    walk(specification(chart))
    return found


def test_all_four_are_registered_and_can_be_drawn(
    dynamics: ReportData, figures: dict[str, Figure]
) -> None:
    order = [figure.name for figure in all_figures(dynamics) if figure.name in NAMES]
    assert order == ["steps", "emergence", "drift", "wd_accuracy"]
    for name in NAMES:
        svg = vl_convert.vegalite_to_svg(specification(figures[name].chart), allowed_base_urls=[])
        assert "training step" in svg or "mean WD of wd_top" in svg


@pytest.mark.parametrize("name", ["emergence", "drift", "steps"])
def test_the_axis_is_the_logarithm_of_one_plus_the_step(
    figures: dict[str, Figure], name: str
) -> None:
    found = axes(figures[name].chart)
    first = 1 if name == "drift" else 0
    assert found
    for axis in found:
        assert axis["field"] == "step"
        scale = {"type": "symlog", "constant": 1, "domain": [first, 143000], "nice": False}
        assert axis["scale"] == {**scale, "padding": 8}
        ticks = [0, 1, 10, 100, 1000, 10000, 100000]
        assert axis["axis"]["values"] == ticks[first:]


def test_without_steps_the_axis_names_the_revisions_in_order(dynamics: ReportData) -> None:
    unknown = {"step": pd.NA}
    without = replace(
        dynamics,
        trajectories=dynamics.trajectories.assign(**unknown),
        cohorts=dynamics.cohorts.assign(**unknown),
    )
    figures = draw(without)
    for axis in axes(figures["steps"].chart):
        assert axis["field"] == "revision"
        assert axis["sort"] == [f"step{step}" for step in STEPS]
    assert set(NAMES) <= set(figures)


def test_emergence_shows_cohort_and_rest(dynamics: ReportData, figures: dict[str, Figure]) -> None:
    rows = rows_of(figures["emergence"].chart)
    assert set(rows["part"]) == {"cohort", "rest of its layers"}
    wd = dynamics.cohorts[dynamics.cohorts["statistic"] == "wd"]
    assert sorted(rows["mean"]) == pytest.approx(sorted(wd["mean"]))
    assert len(specification(figures["emergence"].chart)["concat"]) == 2


def test_drift_is_relative_to_the_layer(dynamics: ReportData, figures: dict[str, Figure]) -> None:
    rows = rows_of(figures["drift"].chart)
    relative = dynamics.cohorts[dynamics.cohorts["statistic"] == "relative_drift"]
    assert sorted(rows["mean"]) == pytest.approx(sorted(relative["mean"]))
    assert set(rows["reference"]) == {1.0}
    assert 0 not in set(rows["step"])


def test_effects_have_interval_and_band_in_the_units_of_the_axis(
    dynamics: ReportData, figures: dict[str, Figure]
) -> None:
    rows = rows_of(figures["steps"].chart)
    assert set(rows["condition"]) == {"wd_top", "random"}
    effects = dynamics.trajectories[dynamics.trajectories["quantity"] == "effect"]
    points = effects[effects["metric"] == "accuracy"]
    factors = effects[effects["metric"] == "nll"]
    for column in ("value", "low", "high", "band_low", "band_high"):
        wanted = [*(100 * points[column]), *np.exp(factors[column])]
        assert sorted(rows[column]) == pytest.approx(sorted(wanted))
    assert sorted(set(rows["reference"])) == [0.0, 1.0]


def test_a_large_factor_on_perplexity_asks_for_a_logarithmic_axis(
    figures: dict[str, Figure],
) -> None:
    panels = specification(figures["steps"].chart)["concat"]
    kinds = {
        panel["title"]: {
            layer["encoding"]["y"]["scale"].get("type", "linear") for layer in panel["layer"]
        }
        for panel in panels
    }
    assert kinds["pythia-70m: blimp, accuracy"] == {"linear"}
    assert kinds["pythia-70m: wikitext, perplexity"] == {"log"}


def test_wd_meets_the_level_of_the_same_revision(
    dynamics: ReportData, figures: dict[str, Figure]
) -> None:
    rows = joined(dynamics)
    assert len(rows) == len(MODELS) * len(TASKS) * len(STEPS)
    wd = dynamics.cohorts.query("statistic == 'wd' and part == 'cohort'")
    wd = wd.set_index(["model", "revision"])["mean"]
    pairs = list(zip(rows["model"], rows["revision"], strict=True))
    assert rows["wd"].tolist() == pytest.approx(wd.loc[pairs].tolist())
    first = rows[(rows["model"] == "pythia-70m") & (rows["task"] == "blimp")]
    assert first["step"].tolist() == list(STEPS)
    text = json.dumps(specification(figures["wd_accuracy"].chart))
    assert "r = 0.95 [0.90, 0.98], 8 revisions" in text
    accuracy = dynamics.trajectories.query("quantity == 'level' and metric == 'accuracy'")
    assert set((100 * accuracy["value"]).round(9)) <= set(
        rows_of(figures["wd_accuracy"].chart)["value"].round(9)
    )


def test_many_panels_are_cut_and_said_so(
    dynamics: ReportData, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("figure_emergence", "figure_steps", "over_steps"):
        monkeypatch.setattr(f"sweeper.report.{module}.MAX_PANELS", 1)
    figures = draw(dynamics)
    assert "The first 1 of 2 panels" in figures["emergence"].caption
    assert "The first 1 of 4 panels" in figures["steps"].caption
    assert over_steps.note_of(1) == ""


def test_a_run_of_single_revisions_has_none_of_them(data: ReportData, empty: ReportData) -> None:
    for one in (data, empty):
        assert not draw(one)
        assert not {"trajectories", "cohorts", "correlations"} & {t.name for t in all_tables(one)}


def test_tables_say_the_numbers_with_their_units(tables: dict[str, TextTable]) -> None:
    correlations = tables["correlations"].frame.iloc[0]
    assert correlations["Pearson"] == "0.951"
    assert correlations["Pearson interval"] == "[0.901, 0.979]"
    assert correlations["revisions"] == "8"
    cohorts = tables["cohorts"].frame
    assert len(cohorts) == len(MODELS) * (3 * len(STEPS) - 2)
    first = cohorts[cohorts["statistic"] == "WD"].iloc[0]
    assert (first["step"], first["compared with"]) == ("0", "–")
    assert first["mean of cohort"] == "0.0200 [0.0160, 0.0240]"
    trajectories = tables["trajectories"].frame
    assert len(trajectories) == len(MODELS) * len(TASKS) * len(STEPS) * 3
    effect = trajectories.query("quantity == 'effect' and metric == 'accuracy'").iloc[0]
    assert effect["value"].endswith(" pp")
    level = trajectories.query("quantity == 'level' and metric == 'accuracy'").iloc[0]
    assert level["value"].endswith(" %")


def test_a_correlation_without_interval_is_a_dash(dynamics: ReportData) -> None:
    nothing = dict.fromkeys(("pearson", "pearson_low", "pearson_high"), float("nan"))
    without = replace(dynamics, correlations=dynamics.correlations.assign(**nothing))
    (table,) = [table for table in all_tables(without) if table.name == "correlations"]
    assert set(table.frame["Pearson"]) == set(table.frame["Pearson interval"]) == {"–"}
    assert "r = " not in json.dumps(specification(draw(without)["wd_accuracy"].chart))


def test_a_cohort_in_words() -> None:
    top = {"kind": "top", "statistic": "wd", "fraction": 0.01, "layers": "all"}
    free = {"kind": "random", "match": None, "fraction": 0.01, "layers": "all"}
    conditions = {
        "last": {**top, "revision": "last"},
        "named": {**free, "revision": "step512"},
        "own": top,
    }
    job = {"condition": {n: {"operation": "zero", "neurons": s} for n, s in conditions.items()}}
    text = {name: sentence.partition(": ")[2] for name, sentence in words.conditions(job)}
    assert "revision" not in text["own"]
    assert text["last"] == f"{text['own']}, chosen at the last revision and the same at all of them"
    assert "chosen at revision step512 and the same at all of them, one draw" in text["named"]


def test_of_many_revisions_the_last_and_some_before_are_drawn_in_other_figures() -> None:
    many = [("a", f"step{step}") for step in range(12)]
    frame = pd.DataFrame(sorted(many), columns=["model", "revision"])
    shown, note = first_checkpoints(frame)
    assert shown == [("a", f"step{step}") for step in (0, 2, 4, 7, 9, 11)]
    assert note == " 6 of 12 checkpoints are drawn; the tables have all of them."
    both = pd.concat([frame, frame.assign(model="b").head(1)])
    assert first_checkpoints(both)[0][-1] == ("b", "step0")
    assert first_checkpoints(both)[0][2] == ("a", "step11")
    models = pd.concat([frame.assign(model=name) for name in "abcdefgh"])
    assert first_checkpoints(models)[0] == [(name, "step11") for name in "abcdef"]
    few = [("a", "step9"), ("a", "step10"), ("b", "main")]
    ordered = pd.DataFrame(sorted(few), columns=["model", "revision"])
    assert first_checkpoints(ordered) == (few, "")


def test_the_page_has_the_tables(dynamics: ReportData, data: ReportData) -> None:
    page = render(dynamics, [])
    assert "Over training" in page
    assert "Correlation of WD with what the model can do — pythia-70m" in page
    assert "Over training" not in render(data, [])
