"""Figure of what a layer with a quorum does for the next token, by consensus level."""

import altair as alt
import pandas as pd

from sweeper.report.data import (
    ReportData,
    checkpoint_name,
    first_checkpoints,
    of_checkpoints,
)
from sweeper.report.figure import Figure
from sweeper.report.over_steps import TICK_WORDS
from sweeper.report.routing_data import (
    INTERVENTIONS,
    SWITCHED,
    percent_change,
    quorum_layers,
    routing_rows,
    widest,
)
from sweeper.report.theme import INK, TARGET_COLOURS, Chart, Palette

EVERY = "all"
"""Name of the place of all tokens together."""
LABELS = 38
"""Room for the labels of vertical axes in pixels, so that panels stand below each other."""
LOG_ABOVE = 1000.0
"""Changes in % beyond which an axis is logarithmic."""


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """Change of perplexity by consensus level, of each of the first checkpoints."""
    del palette  # panels tell interventions here, not colours
    rows, quorums = routing_rows(data, "removal"), quorum_layers(data)
    shown, note = first_checkpoints(rows)
    found = []
    for number, pair in enumerate(shown):
        drawn, more = widest(of_checkpoints(quorums, [pair]))
        chart = removal_chart(of_checkpoints(rows, [pair]), drawn)
        if chart is None:
            continue
        caption = (
            "Change of perplexity at the tokens that follow those of a consensus level (levels "
            "are those of the model as it is), with the 95 % cluster-robust t interval over "
            f"documents. {SWITCHED} Diamonds: all tokens. Dashed: no change. Scales differ from "
            f"panel to panel.{more}{note}"
        )
        figure = Figure(
            name=f"routing_removal_{number + 1}",
            title=f"Perplexity without a layer's MLP or handler: {checkpoint_name(*pair)}",
            caption=caption,
            chart=chart,
        )
        found.append(figure)
    return found


def changes(rows: pd.DataFrame) -> pd.DataFrame:
    """Level (``EVERY`` for all tokens), ``value``, ``low`` and ``high``, in % of perplexity.

    Args:
        rows: of ``removal``, of one layer and intervention.
    """
    ordered = rows.sort_values("level", na_position="last", kind="stable")
    names = [EVERY if pd.isna(level) else str(int(level)) for level in ordered["level"]]
    ends = {"value": "change", "low": "low", "high": "high"}
    values = {end: list(map(percent_change, ordered[column])) for end, column in ends.items()}
    return pd.DataFrame({"level": names, **values})


def removal_chart(rows: pd.DataFrame, layers: list[int]) -> Chart | None:
    """Change of perplexity by level: a row for each layer, a column for each intervention.

    Args:
        rows: of ``removal``, of one checkpoint.
        layers: those to draw, in order.

    Returns:
        The chart; None without rows of these layers.
    """
    drawn = []
    for layer in layers:
        of_layer = rows[rows["layer"] == layer]
        panels = [
            _panel(changes(of_layer[of_layer["intervention"] == intervention]), name)
            for intervention, name in INTERVENTIONS.items()
            if (of_layer["intervention"] == intervention).any()
        ]
        if panels:
            drawn.append(alt.hconcat(*panels, spacing=34).properties(title=f"layer {layer}"))
    if not drawn:
        return None
    joined: Chart = alt.vconcat(*drawn, spacing=26)
    return joined


def _panel(marks: pd.DataFrame, name: str) -> Chart:
    marks = marks.assign(reference=0.0, kind=marks["level"] == EVERY)
    order = marks["level"].tolist()
    colour = alt.condition("datum.kind", alt.value(INK), alt.value(TARGET_COLOURS[0]))
    form = alt.condition("datum.kind", alt.value("diamond"), alt.value("circle"))
    scale, axis = _axis(marks)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", title="change of perplexity (%)", scale=scale, axis=axis)

    x = alt.X("level:N", sort=order, title="consensus level", axis=alt.Axis(labelAngle=0))
    base = alt.Chart(marks).encode(x=x, color=colour)
    zero = alt.Chart(marks).mark_rule(strokeDash=[4, 3], color="#555555")
    return alt.layer(
        zero.encode(y=y("mean(reference)")),
        base.mark_rule(strokeWidth=1.5).encode(y=y("low"), y2="high:Q"),
        base.mark_point(size=55, filled=True, opacity=1).encode(y=y("value"), shape=form),
    ).properties(width=250, height=170, title=alt.Title(name, fontSize=12, fontWeight="normal"))


def _axis(marks: pd.DataFrame) -> tuple[alt.Scale, alt.Axis]:
    """Linear, or logarithmic around 0 where changes differ by powers of ten."""
    reach = float(marks["value"].max())
    if not reach > LOG_ABOVE:
        return alt.Scale(), alt.Axis(tickCount=5, minExtent=LABELS)
    powers = [10.0**power for power in range(1, 9) if 10.0**power < 10 * reach]
    least = float(marks[["value", "low"]].min().min())
    below = [-10.0] if least < -1 else []
    scale = alt.Scale(type="symlog", constant=10)
    values = [*below, 0.0, *powers]
    axis = alt.Axis(values=values, tickCount=len(values), labelExpr=TICK_WORDS, minExtent=LABELS)
    return scale, axis
