"""All figures of a report, and writing them to files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from sweeper.report.data import (
    CHECKPOINT,
    ESTIMATE_COLUMNS,
    SEED_COLUMNS,
    ReportData,
    checkpoint_name,
    complete,
    random_conditions,
)
from sweeper.report.figure_census import census_chart
from sweeper.report.figure_effects import effect_chart, phenomenon_chart
from sweeper.report.theme import CONFIG, Chart, Palette

MAX_CHECKPOINTS = 6
"""Most checkpoints in figures; the tables have all of them."""
PNG_SCALE = 2.0


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart with what a reader must know to read it."""

    name: str
    """Stem of its files."""
    title: str
    caption: str
    chart: Chart


def all_figures(data: ReportData) -> list[Figure]:
    """Every figure that the data can carry, in reading order."""
    estimates = complete(data.estimates, ESTIMATE_COLUMNS)
    palette = _palette(data)
    shown, note = _first_checkpoints(estimates)
    return [
        *_effects(data, estimates, shown, note, palette),
        *_phenomena(data, estimates, shown, note, palette),
        *_census(data, palette),
    ]


def _palette(data: ReportData) -> Palette:
    """Every condition that appears anywhere, the job's first."""
    estimates = complete(data.estimates, ESTIMATE_COLUMNS)
    selected = complete(data.selected, ["condition"])
    seen = [*map(str, estimates["condition"].unique()), *map(str, selected["condition"].unique())]
    ordered = dict.fromkeys([*data.job.get("condition", {}), *seen])
    names = tuple(name for name in ordered if name in seen)
    return Palette(names, frozenset(random_conditions(estimates)))


def _first_checkpoints(frame: pd.DataFrame) -> tuple[list[tuple[str, str]], str]:
    """The checkpoints to draw, and a note when there are more."""
    pairs = frame[CHECKPOINT].drop_duplicates().itertuples(index=False)
    found = [(str(model), str(revision)) for model, revision in pairs]
    if len(found) <= MAX_CHECKPOINTS:
        return found, ""
    note = f" The first {MAX_CHECKPOINTS} of {len(found)} checkpoints are drawn; the tables"
    return found[:MAX_CHECKPOINTS], f"{note} have all of them."


def _of(frame: pd.DataFrame, checkpoints: list[tuple[str, str]]) -> pd.DataFrame:
    keep = pd.Series(False, index=frame.index)
    for model, revision in checkpoints:
        keep |= (frame["model"] == model) & (frame["revision"] == revision)
    return frame[keep]


def _effects(
    data: ReportData,
    estimates: pd.DataFrame,
    checkpoints: list[tuple[str, str]],
    note: str,
    palette: Palette,
) -> list[Figure]:
    seeds = _of(complete(data.seed_effects, SEED_COLUMNS), checkpoints)
    chart = effect_chart(_of(estimates, checkpoints), seeds, palette)
    if chart is None:
        return []
    percent = f"{100 * data.confidence:g} %"
    dots = "" if data.seed_effects.empty else " Small dots: single seeds."
    caption = (
        f"Effect against the baseline of the same model, all items. Line: cluster-robust {percent} "
        f"interval over items. Wide pale bar: {percent} t interval over the seeds of a random "
        f"condition.{dots} Grey: random controls. Dashed: no effect.{note}"
    )
    title = "Effect by condition"
    return [Figure(name="effects", title=title, caption=caption, chart=chart)]


def _phenomena(
    data: ReportData,
    estimates: pd.DataFrame,
    checkpoints: list[tuple[str, str]],
    note: str,
    palette: Palette,
) -> list[Figure]:
    figures = []
    for number, pair in enumerate(checkpoints):
        chart = phenomenon_chart(_of(estimates, [pair]), palette)
        if chart is None:
            continue
        caption = (
            f"Points: effect against the baseline. Lines: cluster-robust "
            f"{100 * data.confidence:g} % interval over items; a phenomenon with one cluster has "
            f"none. Sorted by the first condition that is not random.{note}"
        )
        figure = Figure(
            name=f"phenomena_{number + 1}",
            title=f"Effect by phenomenon: {checkpoint_name(*pair)}",
            caption=caption,
            chart=chart,
        )
        figures.append(figure)
    return figures


def _census(data: ReportData, palette: Palette) -> list[Figure]:
    neurons = complete(data.neurons, [*CHECKPOINT, "layer", "neuron", "wd"])
    selected = complete(data.selected, [*CHECKPOINT, "condition", "layer", "neuron"])
    shown, left_out = _first_checkpoints(neurons)
    figures = []
    for number, pair in enumerate(shown):
        name = checkpoint_name(*pair)
        of_pair = _of(neurons, [pair])
        chart, note = census_chart(of_pair, _of(selected, [pair]), name, palette)
        if chart is None:
            continue
        caption = (
            f"Census of {len(of_pair):,} neurons. Pale bar: 1 to 99 % of a "
            f"layer's neurons. Darker bar: quartiles. Line: median. Points: neurons selected by a "
            f"condition. {note}{left_out}"
        )
        figure = Figure(
            name=f"wd_by_layer_{number + 1}",
            title=f"Wasserstein distance by layer: {name}",
            caption=caption.strip(),
            chart=chart,
        )
        figures.append(figure)
    return figures


def specification(chart: Chart) -> dict[str, Any]:
    """The chart as Vega-Lite with the common theme; data of any length are inlined."""
    with alt.data_transformers.disable_max_rows():
        return {**chart.to_dict(), "config": CONFIG}


def save(chart: Chart, folder: Path, name: str) -> dict[str, Path]:
    """Write a chart as SVG, PNG and PDF; nothing is fetched from anywhere.

    Returns:
        Kind of file ("svg", "png", "pdf") -> its path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    svg = vl_convert.vegalite_to_svg(specification(chart), allowed_base_urls=[])
    content: dict[str, bytes] = {
        "svg": svg.encode(),
        "png": vl_convert.svg_to_png(svg, scale=PNG_SCALE),
        "pdf": vl_convert.svg_to_pdf(svg),
    }
    paths = {kind: folder / f"{name}.{kind}" for kind in content}
    for kind, path in paths.items():
        path.write_bytes(content[kind])
    return paths
