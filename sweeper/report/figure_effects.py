"""Figures of effects: by condition, and by phenomenon."""

import altair as alt
import numpy as np
import pandas as pd

from sweeper.report.data import (
    ALL_ITEMS,
    CHECKPOINT,
    ESTIMATE_COLUMNS,
    SEED_COLUMNS,
    ReportData,
    checkpoint_name,
    complete,
    first_checkpoints,
    of_checkpoints,
    unswept,
)
from sweeper.report.figure import Figure, side_by_side
from sweeper.report.figure_groups import grouped_chart, sorted_groups
from sweeper.report.numbers import metric_name, on_axis
from sweeper.report.theme import Chart, Palette

ENDS = ("low", "high", "seed_low", "seed_high")
UNITS = {
    "accuracy": "effect on accuracy (percentage points)",
    "nll": "perplexity relative to the baseline (factor)",
    "margin": "effect on the margin (nats)",
}
LOG_ABOVE = 5.0
"""A factor on perplexity beyond this asks for a logarithmic axis."""
INTERVALS = (
    "Line: {percent} interval, cluster-robust over items; for random controls with two or more "
    "seeds over items and seeds"
)


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """Effects by condition over all items, and by phenomenon for each of the first checkpoints.

    Conditions that are repeated for groups of layers have figures of their own.
    """
    estimates = unswept(complete(data.estimates, ESTIMATE_COLUMNS))
    shown, note = first_checkpoints(estimates)
    drawn = of_checkpoints(estimates, shown)
    return [*_effects(data, drawn, shown, note, palette), *_phenomena(data, drawn, note, palette)]


def _effects(
    data: ReportData,
    estimates: pd.DataFrame,
    checkpoints: list[tuple[str, str]],
    note: str,
    palette: Palette,
) -> list[Figure]:
    seeds = of_checkpoints(complete(data.seed_effects, SEED_COLUMNS), checkpoints)
    seeds = seeds[seeds["condition"].isin(estimates["condition"])]
    chart = effect_chart(estimates, seeds, palette)
    if chart is None:
        return []
    dots = "" if seeds.empty else " Small dots: single seeds."
    caption = (
        f"Effect against the baseline of the same model, all items. "
        f"{INTERVALS.format(percent=data.percent)}. Wide pale bar: {data.percent} t interval over "
        f"the seeds alone.{dots} Grey: random controls. Dashed: no effect.{note}"
    )
    title = "Effect by condition"
    return [Figure(name="effects", title=title, caption=caption, chart=chart)]


def _phenomena(
    data: ReportData, estimates: pd.DataFrame, note: str, palette: Palette
) -> list[Figure]:
    found = []
    for number, pair in enumerate(first_checkpoints(estimates)[0]):
        chart = phenomenon_chart(of_checkpoints(estimates, [pair]), palette)
        if chart is None:
            continue
        caption = (
            f"Points: effect against the baseline. {INTERVALS.format(percent=data.percent)}; a "
            "phenomenon with one cluster has none. Sorted by the first condition that is not "
            f"random.{note}"
        )
        figure = Figure(
            name=f"phenomena_{number + 1}",
            title=f"Effect by phenomenon: {checkpoint_name(*pair)}",
            caption=caption,
            chart=chart,
        )
        found.append(figure)
    return found


def with_interval(rows: pd.DataFrame) -> pd.DataFrame:
    """Add ``low`` and ``high``: over seeds and clusters where both vary, else over clusters."""
    both = rows[["two_way_low", "two_way_high"]].astype(float)
    alone = rows[["cluster_low", "cluster_high"]].astype(float)
    varies = (rows["num_seeds"].astype(float) > 1) & both.notna().all(axis=1)
    ends = np.where(varies.to_numpy()[:, None], both.to_numpy(), alone.to_numpy())
    return rows.assign(low=ends[:, 0], high=ends[:, 1])


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
    return side_by_side(panels)


def effect_title(metric: str) -> str:
    """Title of an axis of effects."""
    return UNITS.get(metric, f"effect on {metric_name(metric)}")


def _marks(rows: pd.DataFrame, dots: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per thing to draw: ``mark`` is "mean" (with interval ends) or "seed"."""
    means = rows[[*CHECKPOINT, "condition", "group"]].assign(mark="mean")
    rows = with_interval(rows)
    for column in ("effect", *ENDS):
        means[column] = on_axis(rows[column], metric)
    seeds = dots[[*CHECKPOINT, "condition", "group"]].assign(mark="seed")
    seeds["effect"] = on_axis(dots["effect"], metric)
    both = pd.concat([means, seeds], ignore_index=True) if len(seeds) else means
    both["checkpoint"] = [
        checkpoint_name(model, revision)
        for model, revision in both[CHECKPOINT].itertuples(index=False)
    ]
    both["reference"] = 1.0 if metric == "nll" else 0.0
    return both


def _x(field: str, metric: str, marks: pd.DataFrame) -> alt.X:
    title = effect_title(metric)
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
            x=_x(low, metric, marks), x2=f"{high}:Q", color=tint
        )
        for low, high, width, opacity in (
            ("seed_low", "seed_high", 7.0, 0.3),
            ("low", "high", 2.0, 1.0),
        )
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
    accuracy shows that alone, others every metric; parts of speech are left to their own figure.

    Args:
        estimates: of one model and revision, fields of :class:`sweeper.records.Estimate`.
        palette: of all conditions of the report.

    Returns:
        The chart; None where no task has groups.
    """
    frame = complete(estimates, ESTIMATE_COLUMNS)
    grouped = frame[frame["group"] != ALL_ITEMS]
    shown = [
        ((str(task), str(metric)), rows)
        for task, of_task in grouped.groupby("task", sort=False)
        if of_task["group"].nunique() > 1
        for metric, rows in of_task.groupby("metric", sort=False)
        if metric == "accuracy" or not {"accuracy", "shifted"} & set(of_task["metric"])
    ]
    if not shown:
        return None
    width = 520 if len(shown) == 1 else 320
    names = palette.order(pd.concat([rows for _, rows in shown])["condition"])
    panels = [_phenomenon_panel(rows, panel, palette, names, width) for panel, rows in shown]
    return alt.concat(*panels, columns=2, spacing={"row": 30, "column": 30})


def _phenomenon_panel(
    rows: pd.DataFrame, panel: tuple[str, str], palette: Palette, names: list[str], width: int
) -> Chart:
    task, metric = panel
    marks = _marks(rows, pd.DataFrame(columns=SEED_COLUMNS), metric)
    order = sorted_groups(marks, palette.order(marks["condition"]), palette.random)
    chart = grouped_chart(marks, order, names, palette, lambda field: _x(field, metric, marks))
    return chart.properties(width=width, title=f"{task}: {metric_name(metric)}")
