"""Figure of surprisal by part of speech."""

import altair as alt
import pandas as pd

from sweeper.report.data import (
    ALL_ITEMS,
    ESTIMATE_COLUMNS,
    ReportData,
    checkpoint_name,
    complete,
    first_checkpoints,
    of_checkpoints,
    unswept,
)
from sweeper.report.figure import Figure
from sweeper.report.figure_effects import INTERVALS, with_interval
from sweeper.report.figure_groups import grouped_chart, sorted_groups
from sweeper.report.theme import Chart, Palette

PANELS = {
    "shifted": ("minus the change over all tokens", "change minus overall change (nats per token)"),
    "nll": ("change of surprisal", "change (nats per token)"),
}
"""Metric -> title of its panel and of its axis."""


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """Surprisal by part of speech of each of the first checkpoints and each such task."""
    estimates = unswept(complete(data.estimates, ESTIMATE_COLUMNS))
    tasks = estimates.loc[estimates["metric"] == "shifted", "task"].unique()
    by_word = estimates[estimates["task"].isin(tasks)]
    shown, note = first_checkpoints(by_word)
    found: list[Figure] = []
    for pair in shown:
        for task, rows in of_checkpoints(by_word, [pair]).groupby("task", sort=False):
            chart = pos_chart(rows, palette)
            if chart is None:
                continue
            caption = (
                "Left: change of the mean surprisal of a part of speech under the clamp, minus "
                "the change over all tokens. Right: the change itself. "
                f"{INTERVALS.format(percent=data.percent)}. Sorted by the left side of the first "
                f"condition that is not random, the largest excess on top.{note}"
            )
            figure = Figure(
                name=f"parts_of_speech_{len(found) + 1}",
                title=f"Surprisal by part of speech: {task}, {checkpoint_name(*pair)}",
                caption=caption,
                chart=chart,
            )
            found.append(figure)
    return found


def pos_chart(estimates: pd.DataFrame, palette: Palette) -> Chart | None:
    """Effect on surprisal by part of speech, shifted by the overall effect and as it is.

    Args:
        estimates: of one model, revision and task, fields of :class:`sweeper.records.Estimate`.
        palette: of all conditions of the report.

    Returns:
        The chart; None without parts of speech.
    """
    grouped = with_interval(estimates[estimates["group"] != ALL_ITEMS]).assign(reference=0.0)
    metrics = [metric for metric in PANELS if (grouped["metric"] == metric).any()]
    if not metrics:
        return None
    names = palette.order(grouped["condition"])
    lead = grouped[grouped["metric"] == metrics[0]]
    order = sorted_groups(lead, palette.order(lead["condition"]), palette.random, descending=True)
    frames = {metric: grouped[grouped["metric"] == metric] for metric in metrics}
    panels = [_panel(rows, metric, order, names, palette) for metric, rows in frames.items()]
    return alt.hconcat(*panels, spacing=30)


def _panel(
    rows: pd.DataFrame, metric: str, order: list[str], names: list[str], palette: Palette
) -> Chart:
    title, unit = PANELS[metric]
    columns = ["group", "condition", "effect", "low", "high", "reference"]

    def axis(field: str) -> alt.X:
        return alt.X(f"{field}:Q", title=unit, scale=alt.Scale(zero=False))

    chart = grouped_chart(rows[columns], order, names, palette, axis)
    return chart.properties(width=340, title=title)
