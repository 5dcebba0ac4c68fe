"""Figures and tables of levels over training."""

import json
from dataclasses import asdict, replace
from io import StringIO
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from sweeper.aggregate import StepChange, StepLevel
from sweeper.report import figure_trajectory
from sweeper.report.data import ReportData
from sweeper.report.figure_trajectory import by_size, level_rows
from sweeper.report.figures import save, specification
from sweeper.report.step_tables import step_summary, step_tables
from sweeper.report.theme import Palette
from sweeper.store.dynamics import TrajectoryPoint

STEPS = (0, 1, 8, 64, 512, 1000, 4000, 143000)
PALETTE = Palette((), frozenset())


def levels(models: tuple[str, ...], tasks: tuple[str, ...] = ("blimp", "piqa")) -> pd.DataFrame:
    metrics = {"lambada": ("ppl",)}
    return pd.DataFrame(
        [
            asdict(level(model, step, task, metric, place, number))
            for place, model in enumerate(models)
            for task in tasks
            for metric in metrics.get(task, ("accuracy", "acc_norm"))
            for number, step in enumerate(STEPS)
        ]
    ).astype({"step": "Int64", "num_items": "Int64"})


def level(model: str, step: int, task: str, metric: str, place: int, number: int) -> StepLevel:
    value = 0.5 + 0.04 * number + 0.01 * place + 0.002 * len(task)
    if metric == "ppl":
        value = 900 / (1 + number)
    made = task == "blimp"
    return StepLevel(
        model=model,
        revision=f"step{step}",
        step=step,
        task=task,
        metric=metric,
        group="all",
        value=value,
        low=value * 0.9,
        high=value * 1.1,
        num_items=None if metric == "ppl" else 1000,
        num_clusters=67 if made else 1000,
        interval="clusters" if made else "wilson",
        source="parts" if made else "aggregates",
    )


def data_of(frame: pd.DataFrame, **more: Any) -> ReportData:
    empty = pd.DataFrame()
    fields = dict.fromkeys(
        ("estimates", "levels", "neurons", "selected", "cells", "manifest"), empty
    )
    return ReportData(**fields, job={"kind": "import"}, step_levels=frame, **more)


def marks_of(chart: Any) -> pd.DataFrame:
    frames = [pd.DataFrame(rows) for rows in specification(chart)["datasets"].values()]
    return pd.concat(frames, ignore_index=True)


def test_few_models_share_panels_by_task() -> None:
    frame = levels(("pythia-70m", "pythia-1b"))
    (figure,) = figure_trajectory.figures(data_of(frame), PALETTE)
    assert figure.name == "levels_over_steps"
    marks = marks_of(figure.chart)
    told = frame[frame["metric"] == "accuracy"]
    assert len(marks) == len(told)
    assert sorted(marks["value"]) == pytest.approx(sorted(100 * told["value"]))
    assert sorted(marks["low"]) == pytest.approx(sorted(100 * told["low"]))
    panels = specification(figure.chart)["concat"]
    assert [panel["title"] for panel in panels] == ["blimp: accuracy", "piqa: accuracy"]
    scale = panels[0]["layer"][0]["encoding"]["x"]["scale"]
    assert (scale["type"], scale["constant"], scale["domain"]) == ("symlog", 1, [0, 143000])


def test_many_models_have_a_panel_each() -> None:
    models = tuple(f"pythia-{size}" for size in ("12b", "70m", "1.4b", "160m", "1b", "410m", "14m"))
    figures = figure_trajectory.figures(data_of(levels(models)), PALETTE)
    assert [figure.name for figure in figures] == ["levels_over_steps_1", "levels_over_steps_2"]
    assert figures[0].title == "Levels over training: blimp, accuracy"
    panels = specification(figures[0].chart)["concat"]
    titles = ["14m", "70m", "160m", "410m", "1b", "1.4b", "12b"]
    assert [panel["title"] for panel in panels] == [f"pythia-{size}" for size in titles]
    domains = {json.dumps(p["layer"][0]["encoding"]["y"]["scale"]["domain"]) for p in panels}
    assert len(domains) == 1


def test_sizes_in_names() -> None:
    names = ["opt-1.3b", "m", "pythia-70m-deduped", "EleutherAI/pythia-70m", "stories260K"]
    assert sorted(names, key=by_size) == [
        "m",
        "stories260K",
        "EleutherAI/pythia-70m",
        "pythia-70m-deduped",
        "opt-1.3b",
    ]


def test_perplexity_is_on_a_logarithmic_axis() -> None:
    (figure,) = figure_trajectory.figures(data_of(levels(("m",), ("lambada",))), PALETTE)
    y = specification(figure.chart)["concat"][0]["layer"][1]["encoding"]["y"]
    assert y["title"] == "ppl, log scale"
    assert y["scale"]["type"] == "log"


def test_what_is_not_drawn() -> None:
    frame = levels(("m",))
    assert figure_trajectory.figures(data_of(frame[frame["step"] == 8]), PALETTE) == []
    assert figure_trajectory.figures(data_of(pd.DataFrame()), PALETTE) == []
    without = frame.assign(step=pd.array([None] * len(frame), dtype="Int64"))
    assert figure_trajectory.figures(data_of(without), PALETTE) == []
    parts = frame.assign(group="part")
    assert level_rows(data_of(parts)).empty


def point(step: int, quantity: str, condition: str) -> TrajectoryPoint:
    return TrajectoryPoint(
        model="tiny",
        revision=f"step{step}",
        step=step,
        place=STEPS.index(step),
        task="grammar",
        metric="accuracy",
        group="all",
        condition=condition,
        operation=None,
        family=condition,
        first_layer=None,
        last_layer=None,
        quantity=quantity,
        num_revisions=len(STEPS),
        num_seeds=0,
        num_items=300,
        num_clusters=30,
        num_neurons=0.0,
        value=0.5 + step / 1e6,
        low=0.4,
        high=0.7,
        band_low=0.3,
        band_high=0.8,
    )


def test_a_run_over_revisions_shows_the_levels_of_its_baseline() -> None:
    rows = [
        asdict(point(step, quantity, condition))
        for step in STEPS
        for quantity, condition in (("level", "baseline"), ("effect", "top1"))
    ]
    data = replace(data_of(pd.DataFrame()), trajectories=pd.DataFrame(rows))
    (figure,) = figure_trajectory.figures(data, PALETTE)
    marks = marks_of(figure.chart)
    assert len(marks) == len(STEPS)
    assert marks["value"].tolist() == pytest.approx([50 + step / 1e4 for step in STEPS])


def test_a_figure_becomes_files(tmp_path) -> None:
    frame = levels(tuple(f"m-{n}b" for n in range(8)), ("blimp",))
    (figure,) = figure_trajectory.figures(data_of(frame), PALETTE)
    files = save(figure.chart, tmp_path, figure.name)
    assert files["png"].read_bytes().startswith(b"\x89PNG")


def test_tables_of_levels_and_changes() -> None:
    change = StepChange(
        model="m",
        task="blimp",
        metric="accuracy",
        group="all",
        from_revision="step0",
        from_step=0,
        revision="step1",
        step=1,
        change=0.04,
        low=0.01,
        high=0.07,
        p=0.0123,
        num_pairs=67,
        paired_by="parts",
    )
    data = data_of(levels(("m",)), step_changes=pd.DataFrame([asdict(change)]))
    first, second = step_tables(data)
    row = first.frame.iloc[0]
    assert (row["value"], row["interval"]) == ("51.00 %", "[45.90, 56.10]")
    assert (row["kind"], row["clusters"]) == ("clusters", "67")
    assert second.frame.iloc[0].to_dict() == {
        "model": "m",
        "task": "blimp",
        "metric": "accuracy",
        "revision": "step0 to step1",
        "change": "+4.00 pp",
        "interval": "[1.00, 7.00]",
        "p": "0.012",
        "pairs": "67 parts",
    }
    assert step_tables(data_of(pd.DataFrame())) == []


def shown(frame: pd.DataFrame) -> str:
    console = Console(width=100, record=True, file=StringIO())
    console.print(step_summary(frame, 0.9))
    return console.export_text()


def test_the_terminal_shows_the_ends() -> None:
    text = shown(levels(("m", "n")))
    assert "value and 90 % interval" in text
    assert "blimp: accuracy" in text
    assert "acc_norm" not in text
    assert "step143000" in text
    assert "All 64 levels: --csv FILE." in text
    assert "No results yet." in shown(levels(("m",)).iloc[:0])
