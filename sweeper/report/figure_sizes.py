"""Figure of WD by relative depth and size of the model: several checkpoints in one chart."""

import altair as alt
import pandas as pd

from sweeper.report.data import (
    CHECKPOINT,
    ReportData,
    checkpoint_name,
    complete,
    first_checkpoints,
    of_checkpoints,
)
from sweeper.report.figure import Figure
from sweeper.report.figure_census import layer_quantiles
from sweeper.report.numbers import parameters
from sweeper.report.theme import TARGET_COLOURS, Chart, Palette

LINES = {"median": "median", "high": "99 % quantile"}
"""Quantiles that are drawn by depth, with their names."""


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """WD by depth and size, where there are two checkpoints or more."""
    del palette  # colours tell checkpoints here, not conditions
    neurons = complete(data.neurons, [*CHECKPOINT, "layer", "neuron", "wd"])
    shown, note = first_checkpoints(neurons.dropna(subset=["wd"]))
    chart = size_chart(of_checkpoints(neurons, shown), data.checkpoints)
    if chart is None:
        return []
    caption = (
        "Left: median and 99 % quantile of a layer's neurons by relative depth (0: first layer, "
        "1: last). Right: all neurons of a checkpoint; pale bar: 1 to 99 %, darker bar: quartiles, "
        f"line: median. Checkpoints from the smallest to the largest.{note}"
    )
    title = "Wasserstein distance by depth and size of the model"
    return [Figure(name="wd_by_size", title=title, caption=caption, chart=chart)]


def size_chart(neurons: pd.DataFrame, checkpoints: pd.DataFrame) -> Chart | None:
    """Distribution of WD by depth, and over all neurons, of several checkpoints.

    Args:
        neurons: model, revision, layer, wd.
        checkpoints: model, revision, num_parameters; may be empty.

    Returns:
        The chart; None with fewer than two checkpoints that have WD.
    """
    known = neurons.dropna(subset=["wd"])
    names = _names(known, complete(checkpoints, [*CHECKPOINT, "num_parameters"]))
    if len(names) < 2:
        return None
    frames = {
        name: known[(known["model"] == model) & (known["revision"] == revision)]
        for (model, revision), name in names.items()
    }
    depths = pd.concat([_by_depth(frame).assign(name=name) for name, frame in frames.items()])
    wholes = pd.concat(
        [layer_quantiles(frame.assign(layer=0)).assign(name=name) for name, frame in frames.items()]
    )
    order = list(names.values())
    colour = alt.Scale(domain=order, range=list(TARGET_COLOURS[: len(order)]))
    return alt.hconcat(_lines(depths, colour), _boxes(wholes, order, colour), spacing=30)


def _names(neurons: pd.DataFrame, checkpoints: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Checkpoint -> its name with its size, from the smallest to the largest."""
    pairs = list(neurons[CHECKPOINT].drop_duplicates().itertuples(index=False, name=None))
    keys = zip(checkpoints["model"], checkpoints["revision"], strict=True)
    sizes = dict(zip(keys, checkpoints["num_parameters"].fillna(0).astype(int), strict=True))
    ordered = sorted(pairs, key=lambda pair: sizes.get(pair, 0))

    def name(pair: tuple[str, str]) -> str:
        size = sizes.get(pair, 0)
        return checkpoint_name(*pair) + (f" ({parameters(size)})" if size else "")

    return {(str(pair[0]), str(pair[1])): name(pair) for pair in ordered}


def _by_depth(neurons: pd.DataFrame) -> pd.DataFrame:
    table = layer_quantiles(neurons)
    last = max(int(table["layer"].max()), 1)
    table["depth"] = table["layer"] / last
    return table.melt(["layer", "depth"], list(LINES), "line", "wd").replace({"line": LINES})


def _lines(depths: pd.DataFrame, colour: alt.Scale) -> Chart:
    dashes = alt.Scale(domain=list(LINES.values()), range=[[1, 0], [5, 3]])
    lines: Chart = (
        alt.Chart(depths)
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("depth:Q", title="relative depth", scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("wd:Q", title="Wasserstein distance to the Gaussian"),
            color=alt.Color(
                "name:N", scale=colour, legend=alt.Legend(title=None, columns=1, labelLimit=400)
            ),
            strokeDash=alt.StrokeDash(
                "line:N", scale=dashes, legend=alt.Legend(title=None, columns=1)
            ),
        )
        .properties(width=460, height=300, title="By depth")
    )
    return lines


def _boxes(wholes: pd.DataFrame, order: list[str], colour: alt.Scale) -> Chart:
    y = alt.Y("name:N", sort=order, title=None, axis=alt.Axis(labelLimit=400))
    tint = alt.Color("name:N", scale=colour, legend=None)

    def bar(low: str, high: str, opacity: float) -> alt.Chart:
        x = alt.X(f"{low}:Q", title="Wasserstein distance to the Gaussian")
        marks: alt.Chart = alt.Chart(wholes).mark_bar(size=16, opacity=opacity)
        return marks.encode(x=x, x2=f"{high}:Q", y=y, color=tint)

    middle = alt.Chart(wholes).mark_tick(color="#222222", thickness=2, size=18)
    layers = [bar("low", "high", 0.3), bar("first", "third", 0.9), middle.encode(x="median:Q", y=y)]
    return alt.layer(*layers).properties(width=260, height=alt.Step(34), title="All neurons")
