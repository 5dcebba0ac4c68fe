"""Figures of n-grams: how many explain a neuron, detectors by layer, and what those suppress."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from sweeper.aggregate.proportions import wilson
from sweeper.report import numbers
from sweeper.report.data import (
    CHECKPOINT,
    ReportData,
    checkpoint_name,
    first_checkpoints,
    of_checkpoints,
)
from sweeper.report.figure import Figure
from sweeper.report.firing_data import N_NAMES
from sweeper.report.over_layers import count_axis, layer_axis, middle, points_of
from sweeper.report.theme import RANDOM_COLOURS, TARGET_COLOURS, TARGET_SHAPES, Chart, Palette

BIN_COLOURS = ("#08306B", "#2B7BBA", "#7FB8DA")
"""Darker where fewer n-grams are enough."""
DETECTORS = {"num_detectors": "detectors"}
NEW = {
    "covered": "detected in the layer",
    "new": "in none of the layers before",
    "new_to_previous": "not in the layer before",
}
SO_FAR = {"cumulative": "in this layer or one before"}
"""Columns of ``FiringData.detectors_by_layer`` -> the names of their lines, panel by panel."""
HALVES = " Dashed: between the first half of the layers and the second."


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """N-grams and detectors of each of the first checkpoints, and suppression of all of those."""
    del palette  # colours tell n-grams here, not conditions
    explained, detectors = data.firing.explained, data.firing.detectors_by_layer
    shown, note = first_checkpoints(detectors)
    found = []
    for number, pair in enumerate(shown):
        name = checkpoint_name(*pair)
        caption = (
            "Alive neurons by how many n-grams make up 95 % of their activations. Neurons that no "
            "few n-grams explain are grey."
        )
        figure = Figure(
            name=f"ngrams_{number + 1}",
            title=f"How many n-grams explain a neuron: {name}",
            caption=f"{caption}{HALVES}{note}",
            chart=explained_chart(of_checkpoints(explained, [pair])),
        )
        found.append(figure)
        rows = of_checkpoints(detectors, [pair])
        if not rows["num_detectors"].sum():
            continue
        caption = (
            "A detector is active for few n-grams only (tokens: up to 5, longer ones: up to 50), "
            "and at 95 % or more of the places at which they occur. What is detected are the "
            "n-grams that a layer's detectors cover together, each counted once."
            f"{least_note(data.job)}"
        )
        figure = Figure(
            name=f"detectors_{number + 1}",
            title=f"Detectors by layer: {name}",
            caption=f"{caption}{HALVES}{note}",
            chart=detector_chart(rows),
        )
        found.append(figure)
    return [*found, *_suppression(data, of_checkpoints(detectors, shown), note)]


def _suppression(data: ReportData, detectors: pd.DataFrame, note: str) -> list[Figure]:
    rows = suppressing(detectors, data.confidence)
    known = rows.groupby(CHECKPOINT, sort=False)["num_told"].transform("sum") > 0
    rows = rows[known]
    if rows.empty:
        return []
    caption = (
        "Share of a layer's token detectors whose output weights, read through the output "
        "embedding, lower the logits of the tokens that they detect; in gated MLPs with the mean "
        f"factor of the activations on those.{least_note(data.job)} Vertical lines: Wilson's "
        f"{data.percent} interval for independent neurons. Layers without detectors have none. "
        f"Dotted: half of them.{note}"
    )
    title = "Token detectors that suppress their trigger"
    chart = suppression_chart(rows)
    return [Figure(name="suppression", title=title, caption=caption, chart=chart)]


def least_note(job: Mapping[str, Any]) -> str:
    """How often a detector is active at least, where the job asks for more than once."""
    least = int((job.get("firing") or {}).get("least_activations", 1))
    return f" A neuron that is active fewer than {least:,} times is no detector." * (least > 1)


def suppressing(detectors: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Share of token detectors that suppress what they detect, with Wilson's interval.

    Args:
        detectors: of ``FiringData.detectors_by_layer``.
        confidence: of the interval.

    Returns:
        The rows of tokens with share, low and high (0 to 1), NaN in layers without detectors.
    """
    rows = detectors[detectors["n"] == 1]
    told = rows["num_told"].to_numpy(np.float64)
    shares = rows["num_suppressing"].to_numpy(np.float64) / np.where(told > 0, told, np.nan)
    low, high = wilson(shares, told, confidence)
    return rows.assign(share=shares, low=low, high=high)


def explained_chart(rows: pd.DataFrame) -> Chart:
    """Number of neurons by layer and by how many n-grams explain them, one panel for each n.

    Args:
        rows: of ``FiringData.explained``, of one checkpoint.
    """
    names = list(dict.fromkeys(rows["bin"]))
    colours = [*BIN_COLOURS[: len(names) - 1], RANDOM_COLOURS[0]]
    shapes = [*TARGET_SHAPES[: len(names) - 1], "triangle-down"]
    highest = float(rows["num_neurons"].max())
    legend = alt.Legend(title="n-grams that explain a neuron", symbolOpacity=1)
    colour, form = (alt.Scale(domain=names, range=styles) for styles in (colours, shapes))
    panels = []
    for n in sorted(set(rows["n"])):
        marks = rows.loc[rows["n"] == n, ["layer", "bin", "num_neurons"]]
        x, y = layer_axis(rows["layer"]), count_axis(highest, "num_neurons", "neurons")
        tint = alt.Color("bin:N", sort=names, scale=colour, legend=legend)
        shape = alt.Shape("bin:N", sort=names, scale=form, legend=legend)
        layers = [
            middle(rows["layer"]),
            alt.Chart(marks).mark_line(strokeWidth=1.6).encode(x=x, y=y, color=tint),
            points_of(marks).encode(x=x, y=y, color=tint, shape=shape),
        ]
        title = f"{N_NAMES[int(n)]}s"
        panels.append(alt.layer(*layers).properties(width=270, height=230, title=title))
    joined: Chart = alt.concat(*panels, columns=3, spacing=24)
    return joined


def detector_chart(rows: pd.DataFrame) -> Chart:
    """Detectors and the n-grams that they cover by layer: a row of three panels for each n.

    Args:
        rows: of ``FiringData.detectors_by_layer``, of one checkpoint.
    """
    found = rows.groupby("n")["num_detectors"].sum()
    panels = [
        panel
        for n in found[found > 0].index
        for panel in (
            _lines(rows[rows["n"] == n], DETECTORS, f"Detectors of {N_NAMES[int(n)]}s"),
            _lines(rows[rows["n"] == n], NEW, f"Detected {N_NAMES[int(n)]}s"),
            _lines(rows[rows["n"] == n], SO_FAR, f"Detected {N_NAMES[int(n)]}s so far"),
        )
    ]
    joined: Chart = alt.concat(*panels, columns=3, spacing={"row": 24, "column": 24})
    return joined


def _lines(rows: pd.DataFrame, lines: Mapping[str, str], title: str) -> Chart:
    """A line for each of some columns, under the same colours in every panel."""
    names = list((DETECTORS | NEW | SO_FAR).values())
    long = rows.melt(id_vars="layer", value_vars=list(lines), var_name="line", value_name="number")
    marks = long.assign(line=long["line"].map(lines))
    legend = alt.Legend(title=None, columns=5, symbolOpacity=1)
    colour = alt.Scale(domain=names, range=list(TARGET_COLOURS[: len(names)]))
    shapes = alt.Scale(domain=names, range=list(TARGET_SHAPES[: len(names)]))
    # Numbers of few things have no ticks between them.
    ticks = min(int(marks["number"].max()) + 1, 6)
    axis = alt.Axis(format=",d", tickMinStep=1, tickCount=ticks)
    x = layer_axis(marks["layer"])
    y = alt.Y("number:Q", title="number", scale=alt.Scale(zero=True), axis=axis)
    tint = alt.Color("line:N", sort=names, scale=colour, legend=legend)
    shape = alt.Shape("line:N", sort=names, scale=shapes, legend=legend)
    layers = [
        middle(marks["layer"]),
        alt.Chart(marks).mark_line(strokeWidth=1.5).encode(x=x, y=y, color=tint),
        points_of(marks).encode(x=x, y=y, color=tint, shape=shape),
    ]
    return alt.layer(*layers).properties(width=270, height=190, title=title)


def suppression_chart(rows: pd.DataFrame) -> Chart:
    """Share of detectors that suppress their trigger by layer, one panel per checkpoint.

    Args:
        rows: of :func:`suppressing`.
    """
    panels = [
        _share_panel(of_panel, checkpoint_name(str(model), str(revision)))
        for (model, revision), of_panel in rows.groupby(CHECKPOINT, sort=False)
    ]
    joined: Chart = alt.concat(*panels, columns=2, spacing={"row": 30, "column": 30})
    return joined


def _share_panel(rows: pd.DataFrame, name: str) -> Chart:
    known = rows[rows["num_told"] > 0]
    percent = {part: 100 * known[part] for part in ("share", "low", "high")}
    marks = known[["layer"]].assign(**percent)

    def y(field: str) -> alt.Y:
        scale = alt.Scale(domain=[0, 100])
        return alt.Y(f"{field}:Q", title="suppress their trigger (%)", scale=scale)

    base = alt.Chart(marks).encode(x=layer_axis(rows["layer"]), color=alt.value(TARGET_COLOURS[0]))
    half = alt.Chart(pd.DataFrame({"half": [50.0]})).mark_rule(strokeDash=[2, 3], color="#555555")
    layers = [
        half.encode(y=y("half")),
        base.mark_rule(strokeWidth=2).encode(y=y("low"), y2="high:Q"),
        base.mark_point(size=50, filled=True, opacity=1).encode(y=y("share")),
    ]
    told, found = int(known["num_told"].sum()), int(known["num_suppressing"].sum())
    title = f"{name}: {numbers.share(found / told)} of {told:,} detectors"
    return alt.layer(*layers).properties(width=400, height=220, title=title)
