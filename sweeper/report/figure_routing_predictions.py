"""Figure of what tells nonlinearity: firing or values, trees, polynomials, branches."""

import altair as alt
import pandas as pd

from sweeper.report import numbers
from sweeper.report.data import (
    ReportData,
    checkpoint_name,
    first_checkpoints,
    of_checkpoints,
)
from sweeper.report.figure import Figure
from sweeper.report.figure_routing import MANY_LAYERS
from sweeper.report.over_layers import layer_axis
from sweeper.report.routing_data import routing_rows
from sweeper.report.theme import INK, TARGET_COLOURS, TARGET_SHAPES, Chart, Palette

SERIES = {
    "most nonlinear quarter of the tokens": {
        ("firing", "binary", "accuracy"): "firing or not",
        ("firing", "continuous", "accuracy"): "activation values",
        ("tree", "binary", "accuracy"): "tree of depth 3 on firing",
    },
    "norm of the MLP's output": {
        ("firing", "binary", "r2"): "firing or not",
        ("firing", "continuous", "r2"): "activation values",
    },
    "fifth of |delta|": {("tree", "quintiles", "accuracy"): "tree of depth 5 on firing"},
}
"""What is predicted -> analysis, setting and metric -> name."""
NAMES = (
    "firing or not",
    "activation values",
    "tree of depth 3 on firing",
    "tree of depth 5 on firing",
)
"""In the order of colours."""
STEPS = {
    "polynomial": "degree",
    "branches": "number of clusters",
    "branches_spectral": "number of clusters",
}
"""Analyses that are repeated for a number, and what it is."""
TITLES = {
    "polynomial": "delta by polynomials",
    "branches": "delta by a cubic per k-means cluster",
    "branches_spectral": "delta by a cubic per spectral cluster",
}
RAMP = ("#F7F7F7", "#8DB4D6")
WIDTH, HEIGHT = 290, 200


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """Held-out accuracy and R² by layer, of each of the first checkpoints."""
    del palette  # colours tell predictors here, not conditions
    rows = routing_rows(data, "routing_predictions")
    rows = rows[rows["value"].notna()]
    shown, note = first_checkpoints(rows)
    caption = (
        "Held out, from the routing neurons (consensus neurons and handler; without a quorum the "
        "candidates of a gateway): accuracy of finding the quarter, or the fifth, of the tokens by "
        "|delta|, and R² of |MLP output|. Dashed: always saying the commonest class. delta by "
        "polynomials: R² at the tenth of the tokens with the largest |delta|, from powers of the "
        "input's principal components, without products of several; by a cubic per cluster: the "
        "same with those tokens cut into clusters, of k-means or spectral. Below 0: worse than "
        f"their mean.{note}"
    )
    return [
        Figure(
            name=f"routing_predictions_{number + 1}",
            title=f"What predicts nonlinearity: {checkpoint_name(*pair)}",
            caption=caption,
            chart=prediction_chart(of_checkpoints(rows, [pair])),
        )
        for number, pair in enumerate(shown)
    ]


def prediction_chart(rows: pd.DataFrame) -> Chart:
    """Accuracy, R² of the norm, polynomials and branches by layer: those that there are.

    Args:
        rows: of ``routing_predictions``, of one checkpoint, with values.
    """
    panels = []
    for predicted in SERIES:
        series = series_rows(rows, predicted)
        if not series.empty:
            panels.append(_line_panel(series, predicted))
    for analysis in STEPS:
        part = rows[rows["analysis"] == analysis]
        if not part.empty:
            panels.append(_heat_panel(part, analysis))
    joined = alt.concat(*panels, columns=3, spacing={"row": 30, "column": 30})
    separate: Chart = joined.resolve_scale(color="independent", shape="independent")
    return separate


def series_rows(rows: pd.DataFrame, predicted: str) -> pd.DataFrame:
    """What is drawn of a prediction: layer, ``series``, value, reference and ``unit``.

    Accuracy is in %.

    Args:
        rows: of ``routing_predictions``, of one checkpoint.
        predicted: of ``SERIES``.
    """
    keys = zip(rows["analysis"], rows["setting"], rows["metric"], strict=True)
    named = rows.assign(series=[SERIES[predicted].get(key, "") for key in keys])
    kept = named[named["series"] != ""]
    scale = (kept["metric"] == "accuracy").map({True: 100.0, False: 1.0})
    units = kept["metric"].map({"accuracy": "accuracy (%)", "r2": "R²"})
    values = {name: scale * kept[name].astype(float) for name in ("value", "reference")}
    return kept[["layer", "series"]].assign(**values, unit=units)


def _line_panel(rows: pd.DataFrame, title: str) -> Chart:
    order = [name for name in NAMES if name in set(rows["series"])]
    places = [NAMES.index(name) for name in order]
    colours = alt.Scale(domain=order, range=[TARGET_COLOURS[place] for place in places])
    shapes = alt.Scale(domain=order, range=[TARGET_SHAPES[place] for place in places])
    legend = alt.Legend(title=None, columns=1, symbolOpacity=1)
    tint = alt.Color("series:N", scale=colours, legend=legend)
    form = alt.Shape("series:N", scale=shapes, legend=legend)
    axis = layer_axis(rows["layer"])

    def y(field: str) -> alt.Y:
        return alt.Y(
            f"{field}:Q", title=rows["unit"].iloc[0], scale=alt.Scale(zero=False, padding=6)
        )

    base = alt.Chart(rows).encode(x=axis, color=tint)
    layers = [
        base.mark_line(strokeWidth=1.8).encode(y=y("value")),
        base.mark_point(size=40, filled=True, opacity=1).encode(y=y("value"), shape=form),
    ]
    if rows["reference"].notna().any():
        by_layer = rows.dropna(subset=["reference"]).drop_duplicates("layer")
        line = alt.Chart(by_layer).mark_line(strokeDash=[4, 3], strokeWidth=1.2, color="#555555")
        layers.insert(0, line.encode(x=axis, y=y("reference")))
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=title)


def _heat_panel(rows: pd.DataFrame, analysis: str) -> Chart:
    marks = rows[["layer", "setting"]].assign(value=rows["value"].astype(float))
    marks["text"] = [r2_words(value) for value in marks["value"]]
    order = sorted(set(marks["setting"]), key=int)
    highest = max(float(marks["value"].max()), 0.01)
    scale = alt.Scale(domain=[0, highest], range=list(RAMP), clamp=True)
    is_deep = marks["layer"].nunique() > MANY_LAYERS
    x = alt.X("setting:N", sort=order, title=STEPS[analysis], axis=alt.Axis(labelAngle=0))
    base = alt.Chart(marks).encode(x=x, y=alt.Y("layer:O", title="layer"))
    tint = alt.Color("value:Q", scale=scale, legend=None)
    words = base.mark_text(fontSize=9 if is_deep else 11, color=INK)
    size = {"width": alt.Step(56), "height": alt.Step(13 if is_deep else 19)}
    return alt.layer(
        base.mark_rect(stroke="#FFFFFF").encode(color=tint), words.encode(text="text:N")
    ).properties(**size, title=f"{TITLES[analysis]} (R²)")


def r2_words(value: float) -> str:
    """R² in the few letters that a cell has room for; it has no lower bound."""
    if value <= -1e4:
        digit, power = f"{-value:.0e}".split("e")
        return f"{numbers.MINUS}{digit}e{int(power)}"
    return numbers.fixed(value, 2 if value > -10 else 0)
