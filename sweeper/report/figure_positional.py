"""Figures of positional neurons: where they are, and how often they are active at a position."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from sweeper.aggregate.firing import chance_information
from sweeper.records import ALL_CORPORA
from sweeper.report import numbers
from sweeper.report.data import (
    ReportData,
    checkpoint_name,
    first_checkpoints,
    of_checkpoints,
)
from sweeper.report.figure import Figure
from sweeper.report.over_layers import layer_axis
from sweeper.report.theme import TARGET_COLOURS, TARGET_SHAPES, Chart, Palette

TYPES = {
    "oscillatory": "oscillatory",
    "both_extremes": "both extremes",
    "one_extreme": "one extreme",
    "other": "other",
}
"""Types of curves, in the order in which they are looked for, for people."""
KINDS = {
    kind: (colour, colour if kind.endswith("strong") else "#FFFFFF", shape)
    for name, colour, shape in zip(TYPES.values(), TARGET_COLOURS, TARGET_SHAPES, strict=False)
    for kind in ((name,) if name == "other" else (f"{name}, strong", f"{name}, weak"))
}
"""Types with their strength -> colours of the line and of the inside, and the shape."""
LEAST_INFORMATION = 0.05
"""Nats beyond chance from which on a neuron counts as positional."""
MAX_MARKED = 1000
"""Most neurons drawn one by one; a figure of more is slow and says nothing more."""
MAX_PLACES = 256
"""Most points of a curve."""
GOLDEN = 0.6180339887498949
"""Its multiples spread evenly over (0, 1), which makes jitter that is the same every time."""


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """Circles over layers, and curves of the most informative neurons, of the first checkpoints."""
    del palette  # colours tell types here, not conditions
    positional, curves = data.firing.positional, data.firing.curves
    shown, note = first_checkpoints(positional)
    found = []
    for number, pair in enumerate(shown):
        rows, name = of_checkpoints(positional, [pair]), checkpoint_name(*pair)
        layers = of_checkpoints(data.firing.by_layer, [pair])
        left_out = ""
        if len(rows) > MAX_MARKED:
            left_out = f" {MAX_MARKED:,} of {len(rows):,} neurons drawn, evenly thinned."
        caption = (
            "Every mark is a neuron whose activity and position in the window share more than "
            f"{LEAST_INFORMATION} nats (dotted) beyond chance.{chance_note(layers)} Filled: "
            "strong, the share of windows in which it is active reaches exactly the 0 or 1 that "
            "make its type. Hollow: weak, it comes close to them. Sideways inside a layer marks "
            "are spread to be told "
            f"apart.{left_out}{note}"
        )
        figure = Figure(
            name=f"positional_{number + 1}",
            title=f"Positional neurons by layer: {name}",
            caption=caption,
            chart=circle_chart(rows, layers),
        )
        found.append(figure)
        chosen = of_checkpoints(curves, [pair])
        if chosen.empty:
            continue
        caption = (
            "Up: share of the windows in which a neuron is active at the position. Along: "
            "position in the window. A row for each type: its neurons with the most mutual "
            "information (I, nats)."
            f"{_means(chosen)}{note}"
        )
        figure = Figure(
            name=f"positional_curves_{number + 1}",
            title=f"Activation frequency by position: {name}",
            caption=caption,
            chart=curve_chart(chosen),
        )
        found.append(figure)
    return found


def kinds_of(rows: pd.DataFrame) -> list[str]:
    """The type and strength of each row, for people; curves of no extreme have no strength."""
    return [
        TYPES[kind] if kind == "other" else f"{TYPES[kind]}, {'strong' if strong else 'weak'}"
        for kind, strong in zip(rows["type"], rows["strong"], strict=True)
    ]


def chance_note(by_layer: pd.DataFrame) -> str:
    """What windows show by chance, where their number is known."""
    together = by_layer[by_layer["corpus"] == ALL_CORPORA]
    windows = 0 if together.empty else int(together["num_windows"].max())
    if not windows:
        return ""
    expected = numbers.fixed(chance_information(windows), 4)
    return f" Chance alone gives about {expected} in {windows:,} windows."


def _means(curves: pd.DataFrame) -> str:
    block = max(-(-len(frequency) // MAX_PLACES) for frequency in curves["frequency"])
    return "" if block == 1 else f" A point is the mean of {block} positions side by side."


def circle_chart(neurons: pd.DataFrame, by_layer: pd.DataFrame) -> Chart:
    """Mutual information by layer, a circle for each neuron.

    Args:
        neurons: of ``FiringData.positional``, of one checkpoint.
        by_layer: of ``FiringData.by_layer``; it tells all layers.
    """
    marks = _thinned(neurons)
    spread = (marks["neuron"].astype(float) * GOLDEN) % 1
    marks = marks.assign(
        place=marks["layer"].astype(float) + (spread - 0.5) * 0.7, kind=kinds_of(marks)
    )
    layers = by_layer["layer"] if len(by_layer) else marks["layer"]
    names = [name for name in KINDS if name in set(marks["kind"])]
    legend = alt.Legend(title=None, columns=4, symbolStrokeWidth=1.6)
    y_title = "mutual information with position (nats)"
    y_scale = alt.Scale(domainMin=0, zero=True)
    stroke, fill, form = (
        alt.Scale(domain=names, range=[KINDS[name][part] for name in names]) for part in range(3)
    )
    points = (
        alt.Chart(marks[["place", "information", "kind"]])
        .mark_point(size=38, strokeWidth=1.3, opacity=0.9, aria=False)
        .encode(
            x=layer_axis(layers, "place"),
            y=alt.Y("information:Q", title=y_title, scale=y_scale),
            stroke=alt.Stroke("kind:N", sort=names, scale=stroke, legend=legend),
            fill=alt.Fill("kind:N", sort=names, scale=fill, legend=legend),
            shape=alt.Shape("kind:N", sort=names, scale=form, legend=legend),
        )
    )
    least = alt.Chart(pd.DataFrame({"least": [LEAST_INFORMATION]}))
    line = least.mark_rule(strokeDash=[2, 3], color="#555555").encode(
        y=alt.Y("least:Q", title=y_title, scale=y_scale)
    )
    width = min(max(28 * int(layers.max() + 1), 480), 840)
    return alt.layer(line, points).properties(width=width, height=300)


def _thinned(neurons: pd.DataFrame) -> pd.DataFrame:
    """At most ``MAX_MARKED``, evenly along type, layer and information."""
    ordered = neurons.sort_values(["type", "layer", "information"], ignore_index=True)
    if len(ordered) <= MAX_MARKED:
        return ordered
    kept = np.linspace(0, len(ordered) - 1, MAX_MARKED).round().astype(int)
    return ordered.iloc[kept].reset_index(drop=True)


def curve_chart(curves: pd.DataFrame) -> Chart:
    """Activation frequency by position, a row of small panels for each type.

    Args:
        curves: of ``FiringData.curves``, of one checkpoint.
    """
    rows = []
    named = curves.assign(kind=kinds_of(curves))
    for kind in TYPES:
        of_type = named[named["type"] == kind].sort_values("rank")
        panels = [_curve(row) for row in of_type.to_dict("records")]
        if panels:
            rows.append(alt.hconcat(*panels, spacing=14))
    joined: Chart = alt.vconcat(*rows, spacing=14)
    return joined


def _curve(row: dict[Any, Any]) -> Chart:
    frequency = np.asarray(row["frequency"], np.float64)
    colour, _, _ = KINDS[row["kind"]]
    title = alt.TitleParams(
        f"layer {row['layer']}, neuron {row['neuron']}",
        subtitle=f"{row['kind']}, I = {numbers.fixed(row['information'], 2)}",
        fontSize=11,
        subtitleFontSize=11,
        offset=4,
    )
    x = alt.X(
        "position:Q",
        title=None,
        axis=alt.Axis(format="d", grid=False, tickCount=3),
        scale=alt.Scale(domain=[0, len(frequency)], nice=False),
    )
    y = alt.Y(
        "frequency:Q",
        title=None,
        axis=alt.Axis(values=[0, 0.5, 1], format=".1f"),
        scale=alt.Scale(domain=[0, 1]),
    )
    line = alt.Chart(thinned_curve(frequency)).mark_line(strokeWidth=1.3, color=colour)
    panel: Chart = line.encode(x=x, y=y).properties(width=180, height=80, title=title)
    return panel


def thinned_curve(frequency: np.ndarray) -> pd.DataFrame:
    """Means of positions side by side, of as few as leave ``MAX_PLACES`` points.

    Args:
        frequency: (T,), activation frequency by position.

    Returns:
        ``position`` (the middle of those that a point stands for) and ``frequency``.
    """
    block = max(-(-len(frequency) // MAX_PLACES), 1)
    starts = np.arange(0, len(frequency), block)
    sizes = np.diff(np.append(starts, len(frequency)))
    means = np.add.reduceat(frequency, starts) / sizes
    return pd.DataFrame(
        {"position": starts + (sizes - 1) / 2, "frequency": np.round(means, 4)},
    )
