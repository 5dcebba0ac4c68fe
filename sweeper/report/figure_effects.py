"""Figures of effects: by condition, and by phenomenon."""

from collections.abc import Collection, Sequence

import altair as alt
import pandas as pd

from sweeper.report.data import (
    ALL_ITEMS,
    CHECKPOINT,
    ESTIMATE_COLUMNS,
    SEED_COLUMNS,
    checkpoint_name,
    complete,
)
from sweeper.report.numbers import exponential, metric_name
from sweeper.report.theme import Chart, Palette

ENDS = ("cluster_low", "cluster_high", "seed_low", "seed_high")
UNITS = {
    "accuracy": "effect on accuracy (percentage points)",
    "nll": "perplexity relative to the baseline (factor)",
    "margin": "effect on the margin (nats)",
}
LOG_ABOVE = 5.0
"""A factor on perplexity beyond this asks for a logarithmic axis."""


def effect_chart(
    estimates: pd.DataFrame, seed_effects: pd.DataFrame, palette: Palette
) -> Chart | None:
    """Effect with intervals by condition over all items, one panel per task and metric.

    Args:
        estimates: columns are the fields of :class:`sweeper.records.Estimate`.
        seed_effects: effect of every seed, shown as small dots (``SEED_COLUMNS``); may be empty.
        palette: of all conditions of the report.

    Returns:
        The chart; None when there is nothing to draw.
    """
    frame = complete(estimates, ESTIMATE_COLUMNS)
    whole = frame[frame["group"] == ALL_ITEMS]
    if whole.empty:
        return None
    seeds = complete(seed_effects, SEED_COLUMNS)
    seeds = seeds[seeds["group"] == ALL_ITEMS]
    panels = []
    for (task, metric), rows in whole.groupby(["task", "metric"], sort=False):
        dots = seeds[(seeds["task"] == task) & (seeds["metric"] == metric)]
        marks = _marks(rows, dots, str(metric))
        panels.append(_effect_panel(marks, (str(task), str(metric)), palette))
    return alt.concat(*panels, columns=2, spacing={"row": 30, "column": 30})


def _shown(values: pd.Series, metric: str) -> list[float]:
    """Effects in the unit of the axis: points, factor, or the metric's own."""
    numbers = [float(value) for value in values.astype(float)]
    if metric == "nll":
        return [exponential(value) for value in numbers]
    return [100 * value for value in numbers] if metric == "accuracy" else numbers


def _marks(rows: pd.DataFrame, dots: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per thing to draw: ``mark`` is "mean" (with interval ends) or "seed"."""
    means = rows[[*CHECKPOINT, "condition", "group"]].assign(mark="mean")
    for column in ("effect", *ENDS):
        means[column] = _shown(rows[column], metric)
    seeds = dots[[*CHECKPOINT, "condition", "group"]].assign(mark="seed")
    seeds["effect"] = _shown(dots["effect"], metric)
    both = pd.concat([means, seeds], ignore_index=True) if len(seeds) else means
    both["checkpoint"] = [
        checkpoint_name(model, revision)
        for model, revision in both[CHECKPOINT].itertuples(index=False)
    ]
    both["reference"] = 1.0 if metric == "nll" else 0.0
    return both


def _x(field: str, metric: str, marks: pd.DataFrame) -> alt.X:
    title = UNITS.get(metric, f"effect on {metric_name(metric)}")
    if metric != "nll":
        return alt.X(f"{field}:Q", title=title, scale=alt.Scale(zero=False))
    # Vega-Lite takes one axis type for all layers, so every layer must decide alike.
    if (marks["effect"].astype(float) > LOG_ABOVE).any():
        return alt.X(f"{field}:Q", title=f"{title}, log scale", scale=alt.Scale(type="log"))
    return alt.X(f"{field}:Q", title=title, scale=alt.Scale(zero=False))


def _effect_panel(marks: pd.DataFrame, panel: tuple[str, str], palette: Palette) -> alt.FacetChart:
    task, metric = panel
    conditions = palette.order(marks["condition"])
    colour, shape = palette.scales(conditions)
    y = alt.Y("condition:N", sort=conditions, title=None, scale=alt.Scale(domain=conditions))
    tint = alt.Color("condition:N", scale=colour, legend=None)
    form = alt.Shape("condition:N", scale=shape, legend=None)
    base = alt.Chart().encode(y=y)
    mean = base.transform_filter("datum.mark == 'mean'")
    bars = [
        mean.mark_rule(strokeWidth=width, opacity=opacity).encode(
            x=_x(f"{kind}_low", metric, marks), x2=f"{kind}_high:Q", color=tint
        )
        for kind, width, opacity in (("seed", 7.0, 0.3), ("cluster", 2.0, 1.0))
    ]
    zero = alt.Chart().mark_rule(strokeDash=[4, 3], color="#555555")
    layers = [
        zero.encode(x=_x("mean(reference)", metric, marks)),
        *bars,
        mean.mark_point(size=80, filled=True, opacity=1).encode(
            x=_x("effect", metric, marks), color=tint, shape=form
        ),
    ]
    if (marks["mark"] == "seed").any():
        dots = base.transform_filter("datum.mark == 'seed'").mark_point(
            size=22, opacity=0.75, strokeWidth=1, yOffset=11
        )
        layers.append(dots.encode(x=_x("effect", metric, marks), color=tint))
    names = list(marks["checkpoint"].unique())
    header = alt.Header(labelOrient="top", labelAnchor="start", title=None)
    return (
        alt.layer(*layers, data=marks)
        .properties(width=310, height=alt.Step(34))
        .facet(row=alt.Row("checkpoint:N", sort=names, header=header), spacing=18)
        .properties(title=f"{task}: {metric_name(metric)}")
    )


def phenomenon_chart(estimates: pd.DataFrame, palette: Palette) -> Chart | None:
    """Effect by phenomenon for the conditions of one checkpoint, one panel per task.

    Phenomena are sorted by the effect of the first condition that is not random. A task that has
    accuracy shows that alone, others every metric.

    Args:
        estimates: of one model and revision, fields of :class:`sweeper.records.Estimate`.
        palette: of all conditions of the report.

    Returns:
        The chart; None where no task has groups.
    """
    frame = complete(estimates, ESTIMATE_COLUMNS)
    grouped = frame[frame["group"] != ALL_ITEMS]
    if grouped.empty:
        return None
    shown = [
        ((str(task), str(metric)), rows)
        for task, of_task in grouped.groupby("task", sort=False)
        for metric, rows in of_task.groupby("metric", sort=False)
        if metric == "accuracy" or "accuracy" not in set(of_task["metric"])
    ]
    width = 520 if len(shown) == 1 else 320
    panels = [_phenomenon_panel(rows, panel, palette, width) for panel, rows in shown]
    return alt.concat(*panels, columns=2, spacing={"row": 30, "column": 30})


def _phenomenon_panel(
    rows: pd.DataFrame, panel: tuple[str, str], palette: Palette, width: int
) -> Chart:
    task, metric = panel
    conditions = palette.order(rows["condition"])
    colour, shape = palette.scales(conditions)
    marks = _marks(rows, pd.DataFrame(columns=SEED_COLUMNS), metric)
    order = _sorted_groups(marks, conditions, palette.random)
    legend = alt.Legend(title=None)
    tint = alt.Color("condition:N", scale=colour, legend=legend)
    base = alt.Chart().encode(
        y=alt.Y("group:N", sort=order, title=None, axis=alt.Axis(grid=True, tickBand="extent")),
        yOffset=alt.YOffset("condition:N", sort=conditions, scale=alt.Scale(domain=conditions)),
        color=tint,
    )
    zero = alt.Chart().mark_rule(strokeDash=[4, 3], color="#555555")
    bars = base.mark_rule(strokeWidth=2).encode(
        x=_x("cluster_low", metric, marks), x2="cluster_high:Q"
    )
    points = base.mark_point(size=45, filled=True, opacity=1).encode(
        x=_x("effect", metric, marks),
        shape=alt.Shape("condition:N", scale=shape, legend=legend),
    )
    return alt.layer(
        zero.encode(x=_x("mean(reference)", metric, marks)), bars, points, data=marks
    ).properties(
        width=width,
        height=alt.Step(13),
        title=f"{task}: {metric_name(metric)}",
    )


def _sorted_groups(
    marks: pd.DataFrame, conditions: Sequence[str], random: Collection[str]
) -> list[str]:
    lead = next((name for name in conditions if name not in random), conditions[0])
    groups = [str(name) for name in marks["group"].unique()]
    effects = marks[marks["condition"] == lead].set_index("group")["effect"].astype(float)
    known = {str(name): value for name, value in effects.dropna().items()}
    return sorted(groups, key=lambda name: (name not in known, known.get(name, 0.0), name))
