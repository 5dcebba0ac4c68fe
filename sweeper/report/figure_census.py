"""Figure of the census: how the Wasserstein distance is distributed in each layer."""

import altair as alt
import numpy as np
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
from sweeper.report.theme import RIBBON, Chart, Palette

MAX_MARKED = 1000
"""Most selected neurons drawn one by one; a figure of more is slow and says nothing more."""
QUANTILES = {"low": 0.01, "first": 0.25, "median": 0.5, "third": 0.75, "high": 0.99}
GOLDEN = 0.6180339887498949
"""Its multiples spread evenly over (0, 1), which makes jitter that is the same every time."""


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """WD by layer of each of the first checkpoints."""
    neurons = complete(data.neurons, [*CHECKPOINT, "layer", "neuron", "wd"])
    selected = complete(data.selected, [*CHECKPOINT, "condition", "layer", "neuron"])
    shown, left_out = first_checkpoints(neurons)
    found = []
    for number, pair in enumerate(shown):
        name = checkpoint_name(*pair)
        rows = of_checkpoints(neurons, [pair])
        chart, note = census_chart(rows, of_checkpoints(selected, [pair]), name, palette)
        if chart is None:
            continue
        caption = (
            f"Census of {len(rows):,} neurons. Pale bar: 1 to 99 % of a "
            f"layer's neurons. Darker bar: quartiles. Line: median. Points: neurons selected by a "
            f"condition. {note}{left_out}"
        )
        figure = Figure(
            name=f"wd_by_layer_{number + 1}",
            title=f"Wasserstein distance by layer: {name}",
            caption=caption.strip(),
            chart=chart,
        )
        found.append(figure)
    return found


def layer_quantiles(neurons: pd.DataFrame) -> pd.DataFrame:
    """Quantiles of WD per layer (``low first median third high``: 1, 25, 50, 75, 99 %)."""
    known = neurons.dropna(subset=["wd"])
    table = known.groupby("layer")["wd"].quantile(np.array(list(QUANTILES.values()))).unstack()
    table.columns = pd.Index(list(QUANTILES))
    return table.reset_index()


def marked_neurons(neurons: pd.DataFrame, selected: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The selected neurons to draw, and how many there are in all.

    Above ``MAX_MARKED`` they are thinned evenly along layer and WD, in every condition alike.

    Returns:
        Frame with condition, layer, neuron, wd; number of selected neurons with a WD.
    """
    if selected.empty:
        return pd.DataFrame(columns=["condition", "layer", "neuron", "wd"]), 0
    chosen = selected[["condition", "layer", "neuron"]].drop_duplicates()
    # Neurons that come out of a list column are Python objects, which do not join or plot well.
    chosen = chosen.astype({"layer": "int64", "neuron": "int64"})
    found = chosen.merge(neurons[["layer", "neuron", "wd"]], on=["layer", "neuron"])
    found = found.dropna(subset=["wd"])
    ordered = found.sort_values(["condition", "layer", "wd"], ignore_index=True)
    if len(ordered) <= MAX_MARKED:
        return ordered, len(ordered)
    kept = np.linspace(0, len(ordered) - 1, MAX_MARKED).round().astype(int)
    return ordered.iloc[kept].reset_index(drop=True), len(ordered)


def census_chart(
    neurons: pd.DataFrame, selected: pd.DataFrame, title: str, palette: Palette
) -> tuple[Chart | None, str]:
    """WD distribution by layer of one checkpoint, with the selected neurons marked.

    Args:
        neurons: layer, neuron, wd of one model and revision.
        selected: condition, layer, neuron of its sets that are not random.
        title: above the chart.
        palette: of all conditions of the report.

    Returns:
        The chart (None without any WD) and a note of what it leaves out ("" if nothing).
    """
    known = 0 if neurons.empty else int(neurons["wd"].notna().sum())
    if known == 0:
        return None, "No neuron has a Wasserstein distance."
    points, total = marked_neurons(neurons, selected)
    notes = []
    if len(neurons) > known:
        notes.append(f"Neurons left out for want of a distance: {len(neurons) - known:,}.")
    if total > len(points):
        notes.append(f"{len(points):,} of {total:,} selected neurons drawn, evenly thinned.")
    layers = [*_ribbons(layer_quantiles(neurons)), *_points(points, palette)]
    width = min(max(28 * neurons["layer"].nunique(), 480), 840)
    chart = alt.layer(*layers).properties(width=width, height=300, title=title)
    return chart, " ".join(notes)


def _ribbons(table: pd.DataFrame) -> list[alt.Chart]:
    table = table.assign(
        left=table["layer"] - 0.42,
        right=table["layer"] + 0.42,
        whole="1 to 99 %",
        half="quartiles",
    )
    base = alt.Chart(table).encode(x=_layer_axis("left", table), x2="right:Q")
    y_title = "Wasserstein distance to the Gaussian"

    def box(low: str, high: str, opacity: float) -> alt.Chart:
        y = alt.Y(f"{low}:Q", title=y_title, scale=alt.Scale(zero=False))
        marks: alt.Chart = base.mark_rect(color=RIBBON, opacity=opacity)
        return marks.encode(y=y, y2=f"{high}:Q")

    middle = base.mark_rule(color="#1F3A55", strokeWidth=2).encode(
        y=alt.Y("median:Q", title=y_title)
    )
    return [box("low", "high", 0.45), box("first", "third", 1.0), middle]


def _layer_axis(field: str, table: pd.DataFrame) -> alt.X:
    first, last = int(table["layer"].min()), int(table["layer"].max())
    step = 1 if last - first < 20 else 2 if last - first < 40 else 5
    axis = alt.Axis(values=list(range(first, last + 1, step)), format="d", grid=False)
    scale = alt.Scale(domain=[first - 0.6, last + 0.6], nice=False)
    return alt.X(f"{field}:Q", title="layer", axis=axis, scale=scale)


def _points(points: pd.DataFrame, palette: Palette) -> list[alt.Chart]:
    if points.empty:
        return []
    colour, shape = palette.scales(palette.order(points["condition"]))
    spread = (points["neuron"] * GOLDEN) % 1
    placed = points.assign(place=points["layer"] + (spread - 0.5) * 0.7)
    legend = alt.Legend(title="selected neurons")
    marks = alt.Chart(placed).mark_point(size=14, filled=True, opacity=0.7)
    return [
        marks.encode(
            x=alt.X("place:Q", title="layer"),
            y="wd:Q",
            color=alt.Color("condition:N", scale=colour, legend=legend),
            shape=alt.Shape("condition:N", scale=shape, legend=legend),
        )
    ]
