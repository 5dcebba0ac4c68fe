"""Figures of the firing census: dead neurons by layer, and how often the others are active."""

import altair as alt
import pandas as pd

from sweeper.records import ALL_CORPORA
from sweeper.report.data import (
    ReportData,
    checkpoint_name,
    first_checkpoints,
    of_checkpoints,
)
from sweeper.report.figure import Figure
from sweeper.report.over_layers import layer_axis, middle, points_of
from sweeper.report.theme import INK, TARGET_COLOURS, TARGET_SHAPES, Chart, Palette

TOGETHER = "all corpora together"
NARROW = {"width": 400, "height": 230}


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """Dead neurons and activation frequency by layer, a panel for each of the first checkpoints."""
    del palette  # colours tell corpora here, not conditions
    rows = corpora_by_layer(data.firing.by_layer)
    if rows.empty:
        return []
    shown, note = first_checkpoints(rows)
    drawn = of_checkpoints(rows, shown)
    dead = (
        "A neuron is dead where it is never active over the whole text. Of all corpora together it "
        "is dead where it is so in each of them; a line of one corpus is of that text alone, and "
        "falls with more of it. Dashed: between the first half of the layers and the second."
    )
    alive = (
        "Mean over the neurons that are active at all of the share of tokens at which they are. "
        "Dashed: between the first half of the layers and the second."
    )
    return [
        Figure(
            name="dead_neurons",
            title="Dead neurons by layer",
            caption=f"{dead}{note}",
            chart=by_layer_chart(drawn, shown, "percent_dead", "dead neurons (% of the layer)"),
        ),
        Figure(
            name="activation_frequency",
            title="Activation frequency by layer, dead neurons left out",
            caption=f"{alive}{note}",
            chart=by_layer_chart(drawn, shown, "percent_active", "active at (% of tokens)"),
        ),
    ]


def corpora_by_layer(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows by layer in percent, without those of all corpora where there is only one.

    Args:
        rows: of ``FiringData.by_layer``.
    """
    single = rows.groupby(["model", "revision"])["corpus"].transform("nunique") < 3
    kept = rows[~(single & (rows["corpus"] == ALL_CORPORA))]
    return kept.assign(
        corpus=kept["corpus"].replace(ALL_CORPORA, TOGETHER),
        percent_dead=100 * kept["dead"].astype(float) / kept["num_neurons"].astype(float),
        percent_active=100 * kept["frequency"].astype(float),
    )


def by_layer_chart(
    rows: pd.DataFrame, checkpoints: list[tuple[str, str]], field: str, title: str
) -> Chart:
    """A line for each corpus over layers, one panel per checkpoint.

    Args:
        rows: of :func:`corpora_by_layer`.
        checkpoints: in the order of the panels.
        field: what is drawn.
        title: of the vertical axis.
    """
    # What comes first lies below: that of all corpora hides no other line.
    corpora = sorted(dict.fromkeys(rows["corpus"]), key=TOGETHER.__ne__)
    panels = [_panel(of_checkpoints(rows, [pair]), corpora, field, title) for pair in checkpoints]
    joined: Chart = alt.concat(*panels, columns=2, spacing={"row": 30, "column": 30})
    return joined


def _panel(rows: pd.DataFrame, corpora: list[str], field: str, title: str) -> Chart:
    ordered = rows.sort_values("corpus", key=lambda names: names != TOGETHER, kind="stable")
    marks = ordered[["layer", "corpus", field]]
    colours, shapes = _styles(corpora)
    legend = alt.Legend(title=None, columns=4, symbolOpacity=1)
    colour = alt.Scale(domain=corpora, range=colours)
    form = alt.Scale(domain=corpora, range=shapes)
    x = layer_axis(marks["layer"])
    y = alt.Y(f"{field}:Q", title=title, scale=alt.Scale(zero=True))
    tint = alt.Color("corpus:N", scale=colour, legend=legend)
    shape = alt.Shape("corpus:N", scale=form, legend=legend)
    thick = alt.condition(alt.datum.corpus == TOGETHER, alt.value(2.6), alt.value(1.4))
    layers = [
        middle(marks["layer"]),
        alt.Chart(marks).mark_line().encode(x=x, y=y, color=tint, strokeWidth=thick),
        points_of(marks).encode(x=x, y=y, color=tint, shape=shape),
    ]
    first = rows.iloc[0]
    name = checkpoint_name(str(first["model"]), str(first["revision"]))
    return alt.layer(*layers).properties(**NARROW, title=name)


def _styles(corpora: list[str]) -> tuple[list[str], list[str]]:
    """Colour and shape of each corpus; the pair repeats after 30."""
    single = [name for name in corpora if name != TOGETHER]
    styles = {
        name: (
            TARGET_COLOURS[place % len(TARGET_COLOURS)],
            TARGET_SHAPES[place % len(TARGET_SHAPES)],
        )
        for place, name in enumerate(single)
    } | {TOGETHER: (INK, "triangle-down")}
    return [styles[name][0] for name in corpora], [styles[name][1] for name in corpora]
