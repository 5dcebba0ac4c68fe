"""Figure of the firing census over training: dead neurons, detectors, and positional ones."""

import altair as alt
import pandas as pd

from sweeper.records import ALL_CORPORA
from sweeper.report.data import CHECKPOINT, ReportData, complete
from sweeper.report.figure import Figure, side_by_side
from sweeper.report.figure_positional import TYPES
from sweeper.report.firing_data import N_NAMES, FiringData
from sweeper.report.over_layers import count_axis
from sweeper.report.over_steps import (
    HEIGHT,
    MAX_PANELS,
    MAX_POINTS,
    WIDTH,
    drawn,
    note_of,
    step_axis,
)
from sweeper.report.theme import TARGET_COLOURS, TARGET_SHAPES, Chart, Palette

Y_TITLES = {
    "dead": "dead neurons (% of all)",
    "detectors": "detectors",
    "positional": "positional neurons",
}
"""What is counted -> the title of its axis."""


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """Dead, detecting and positional neurons of every model with several revisions over steps."""
    del palette  # colours tell kinds of neurons here, not conditions
    if data.firing.by_layer.empty:
        return []
    rows = kinds_over_steps(data)
    several = rows.groupby("model")["revision"].transform("nunique") > 1
    rows = rows[several]
    if rows.empty:
        return []
    panels = [
        (str(model), str(quantity), of_panel)
        for (model, quantity), of_panel in rows.groupby(["model", "quantity"], sort=False)
        if quantity == "dead" or of_panel["number"].sum()
    ]
    charts = [_panel(of_panel, model, quantity) for model, quantity, of_panel in panels]
    caption = (
        "Dead: never active in any corpus, in % of all neurons. Detectors of tokens, bigrams and "
        "trigrams, and positional neurons by the type of their curve, in all layers together."
        f"{note_of(len(charts))}"
    )
    chart = side_by_side(charts[:MAX_PANELS])
    title = "Dead, detecting and positional neurons over training"
    return [Figure(name="firing_over_steps", title=title, caption=caption, chart=chart)]


def kinds_over_steps(data: ReportData) -> pd.DataFrame:
    """Numbers of neurons of each kind at every checkpoint.

    Returns:
        model, revision, place (in the job's order), step, ``quantity`` (``dead``, ``detectors``,
        ``positional``), ``kind`` and ``number`` (of dead ones: percent). Kinds that no neuron is of
        are 0 where they were looked for.
    """
    firing = data.firing
    known = complete(data.checkpoints, [*CHECKPOINT, "step"])[[*CHECKPOINT, "step"]]
    together = firing.by_layer[firing.by_layer["corpus"] == ALL_CORPORA]
    places = together[CHECKPOINT].drop_duplicates().merge(known, on=CHECKPOINT, how="left")
    order = known.assign(place=range(len(known)))[[*CHECKPOINT, "place"]]
    places = places.merge(order, on=CHECKPOINT, how="left")
    sums = together.groupby(CHECKPOINT, sort=False)[["dead", "num_neurons"]].sum().reset_index()
    dead = sums[CHECKPOINT].assign(
        quantity="dead", kind="dead", number=100 * sums["dead"] / sums["num_neurons"]
    )
    frames = [dead, *_detectors(firing.detectors_by_layer), _types(sums, firing)]
    rows = pd.concat(frames, ignore_index=True).merge(places, on=CHECKPOINT)
    return rows.sort_values(["place", "revision"], kind="stable", ignore_index=True)


def _detectors(rows: pd.DataFrame) -> list[pd.DataFrame]:
    if rows.empty:
        return []
    sums = rows.groupby([*CHECKPOINT, "n"], sort=False)["num_detectors"].sum().reset_index()
    kinds = [f"{N_NAMES[int(n)]}s" for n in sums["n"]]
    return [sums[CHECKPOINT].assign(quantity="detectors", kind=kinds, number=sums["num_detectors"])]


def _types(checkpoints: pd.DataFrame, firing: FiringData) -> pd.DataFrame:
    """Positional neurons of each type at every checkpoint whose firing is known, also of none."""
    found = firing.positional_by_layer
    sums = found.groupby([*CHECKPOINT, "type"])["num_neurons"].sum().rename("number").reset_index()
    kinds = pd.DataFrame({"type": list(TYPES)})
    every = checkpoints[CHECKPOINT].merge(kinds, how="cross")
    counted = every.merge(sums, on=[*CHECKPOINT, "type"], how="left")
    return counted[CHECKPOINT].assign(
        quantity="positional",
        kind=counted["type"].map(TYPES),
        number=counted["number"].astype(float).fillna(0.0),
    )


def _panel(rows: pd.DataFrame, model: str, quantity: str) -> Chart:
    names = list(dict.fromkeys(rows["kind"]))
    marks = drawn(rows, ["kind", "number"])
    highest = float(marks["number"].max())
    y = (
        alt.Y("number:Q", title=Y_TITLES[quantity], scale=alt.Scale(zero=True))
        if quantity == "dead"
        else count_axis(highest, "number", Y_TITLES[quantity])
    )
    colour, shape = (
        alt.Scale(domain=names, range=list(values[: len(names)]))
        for values in (TARGET_COLOURS, TARGET_SHAPES)
    )
    legend = alt.Legend(title=None, columns=4, symbolOpacity=1) if len(names) > 1 else None
    base = alt.Chart(marks).encode(
        x=step_axis(marks), y=y, color=alt.Color("kind:N", scale=colour, legend=legend)
    )
    layers = [base.mark_line(strokeWidth=1.8)]
    if marks["revision"].nunique() <= MAX_POINTS:
        points = base.mark_point(size=40, filled=True, opacity=1)
        layers.append(points.encode(shape=alt.Shape("kind:N", scale=shape, legend=legend)))
    title = f"{model}: {quantity}"
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=title)
