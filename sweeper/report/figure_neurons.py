"""Figure of single neurons: how far apart they push tokens whose inputs are alike."""

import altair as alt
import numpy as np
import pandas as pd

from sweeper.report.data import (
    ReportData,
    checkpoint_name,
    complete,
    first_checkpoints,
    of_checkpoints,
)
from sweeper.report.figure import Figure
from sweeper.report.neurons import NEURON, PAIR_COLUMNS, SIGNS, SIMILAR, normalised
from sweeper.report.theme import SIGN_COLOURS, Chart, Palette

MAX_NEURONS = 6
"""Most neurons drawn for a checkpoint; the tables have all of them."""
KINDS = ("random pair", "similar inputs")
MAX_POINTS = 400
"""Most pairs drawn for a neuron, spread evenly over the distance of inputs."""


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """Input-output scatter of each of the first checkpoints' neurons."""
    del palette  # colours tell signs here, not conditions
    pairs = complete(data.neuron_pairs, PAIR_COLUMNS)
    shown, note = first_checkpoints(pairs)
    found = []
    for number, pair in enumerate(shown):
        rows = first_neurons(of_checkpoints(pairs, [pair]), data.neurons)
        chart = scatter_chart(rows)
        if chart is None:
            continue
        caption = (
            "Every point is a pair of tokens. Along: distance of the layer's inputs over the "
            "largest of random pairs. Up: distance of the neuron's pre-activations over the median "
            "of random pairs. Points high at the left: similar inputs pushed apart. Colour: signs "
            f"of the two pre-activations. {SIMILAR} All of these are left of the dotted line. At "
            f"most {MAX_NEURONS} neurons, those with the largest Wasserstein distance, and "
            f"{MAX_POINTS} pairs each.{note}"
        )
        figure = Figure(
            name=f"neuron_pairs_{number + 1}",
            title=f"Inputs and outputs of single neurons: {checkpoint_name(*pair)}",
            caption=caption,
            chart=chart,
        )
        found.append(figure)
    return found


def first_neurons(rows: pd.DataFrame, census: pd.DataFrame) -> pd.DataFrame:
    """Rows of the ``MAX_NEURONS`` neurons with the largest WD; of unknown WD the first ones."""
    names = rows[NEURON].drop_duplicates().astype({"layer": "int64", "neuron": "int64"})
    known = complete(census, [*NEURON, "wd"])[[*NEURON, "wd"]].drop_duplicates(NEURON)
    ranked = names.merge(known.astype({"layer": "int64", "neuron": "int64"}), on=NEURON, how="left")
    most = ranked.sort_values("wd", ascending=False, kind="stable").head(MAX_NEURONS)
    kept = most.assign(rank=range(len(most)))[[*NEURON, "rank"]]
    chosen = rows.merge(kept, on=NEURON)
    return chosen.sort_values("rank", kind="stable", ignore_index=True)


def neuron_name(layer: object, neuron: object) -> str:
    """A neuron, for people."""
    return f"layer {layer}, neuron {neuron}"


def scatter_chart(pairs: pd.DataFrame) -> Chart | None:
    """Distance of outputs against distance of inputs, one panel per neuron.

    Args:
        pairs: of one checkpoint, in the order of the panels.

    Returns:
        The chart; None without pairs.
    """
    rows = normalised(pairs).dropna(subset=["x", "y"])
    panels = [_panel(group) for _, group in rows.groupby(NEURON, sort=False)]
    return alt.concat(*panels, columns=3, spacing=24) if panels else None


def _panel(rows: pd.DataFrame) -> Chart:
    first = rows.iloc[0]
    edges = rows.loc[rows["similar"], "x"].nlargest(1)
    ordered = rows.sort_values("x", ignore_index=True)
    if len(ordered) > MAX_POINTS:
        kept = np.linspace(0, len(ordered) - 1, MAX_POINTS).round().astype(int)
        ordered = ordered.iloc[kept]
    ordered["inputs"] = ordered["similar"].map({True: KINDS[1], False: KINDS[0]})
    scale = alt.Scale(domain=list(SIGNS), range=[SIGN_COLOURS[sign] for sign in SIGNS])
    shapes = alt.Scale(domain=list(KINDS), range=["circle", "triangle-up"])
    points = (
        alt.Chart(ordered[["x", "y", "signs", "inputs"]])
        .mark_point(size=14, filled=True, opacity=0.6, aria=False)
        .encode(
            x=alt.X("x:Q", title="distance of inputs / largest", scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("y:Q", title="distance of outputs / median"),
            color=alt.Color("signs:N", scale=scale, legend=alt.Legend(title=None)),
            shape=alt.Shape("inputs:N", scale=shapes, legend=alt.Legend(title=None)),
        )
    )
    rule = alt.Chart(pd.DataFrame({"edge": edges})).mark_rule(strokeDash=[2, 3], color="#555555")
    title = neuron_name(first["layer"], first["neuron"])
    return alt.layer(rule.encode(x="edge:Q"), points).properties(width=230, height=200, title=title)
