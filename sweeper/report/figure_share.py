"""Figure of perplexity against the share of neurons that are clamped."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from sweeper.report.data import (
    ALL_ITEMS,
    CHECKPOINT,
    LEVEL_COLUMNS,
    ReportData,
    checkpoint_name,
    complete,
    first_checkpoints,
    of_checkpoints,
    unswept,
    with_family,
)
from sweeper.report.figure import Figure
from sweeper.report.figure_effects import LOG_ABOVE
from sweeper.report.numbers import on_axis
from sweeper.report.theme import TARGET_COLOURS, TARGET_SHAPES, Chart, Palette
from sweeper.report.words import LABELS, OPERATION_NAMES

KIND_COLOURS = {
    "top": "#0072B2",
    "bottom": "#D55E00",
    "matched": "#009E73",
    "explicit": "#E69F00",
    "all": "#56B4E9",
    "random": "#767676",
}
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
"""Shares in percent that the axis names."""
DASHES = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [3, 5], [10, 5], [1, 3], [12, 2])


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """Perplexity by share clamped, where the job has two shares or more."""
    del palette  # colours tell kinds of sets here, not conditions
    rows = clamped_shares(data)
    shown, note = first_checkpoints(rows)
    chart = share_chart(of_checkpoints(rows, shown))
    if chart is None:
        return []
    caption = (
        "Perplexity against the share of all MLP neurons that are clamped (logarithmic). Lines "
        "join sets of one kind under one operation; random sets: mean over seeds. Vertical lines: "
        f"cluster-robust {data.percent} interval of the value itself. Dashed: baseline.{note}"
    )
    title = "Perplexity by share of clamped neurons"
    return [Figure(name="perplexity_by_share", title=title, caption=caption, chart=chart)]


def clamped_shares(data: ReportData) -> pd.DataFrame:
    """Perplexity and share clamped of every condition of the perplexity tasks.

    Returns:
        model, revision, task, condition, kind, set, operation, share (0 to 1), and in units of
        perplexity value, low, high and baseline. Conditions that are repeated for groups of layers
        are left out, and models whose number of neurons is not known.
    """
    levels = with_family(unswept(complete(data.levels, LEVEL_COLUMNS)))
    tasks = [name for name, task in data.job.get("suite", {}).items() if _is_perplexity(task)]
    whole = levels[
        (levels["metric"] == "nll") & (levels["group"] == ALL_ITEMS) & levels["task"].isin(tasks)
    ]
    rows = whole.merge(total_neurons(data), on=CHECKPOINT)
    rows["share"] = rows["num_neurons"].astype(float) / rows["total"].astype(float)
    for column, source in (("value", "value"), ("low", "cluster_low"), ("high", "cluster_high")):
        rows[column] = on_axis(rows[source], "nll")
    is_baseline = rows["is_baseline"].astype(bool)
    base = rows.loc[is_baseline, [*CHECKPOINT, "task", "value"]]
    base = base.rename(columns={"value": "baseline"})
    clamped = rows[~is_baseline & (rows["share"] > 0)].merge(base, on=[*CHECKPOINT, "task"])
    specs = data.job.get("condition", {})
    sets = [_set_of(specs.get(name) or {}) for name in clamped["family"]]
    clamped["kind"] = [kind for kind, _ in sets]
    clamped["set"] = [label for _, label in sets]
    names = (str(name) for name in clamped["operation"])
    clamped["operation"] = [OPERATION_NAMES.get(name, name) for name in names]
    columns = ["task", "condition", "kind", "set", "operation", "share", "value", "low", "high"]
    found: pd.DataFrame = clamped[[*CHECKPOINT, *columns, "baseline"]]
    return found


def _is_perplexity(task: Mapping[str, Any]) -> bool:
    return task.get("kind") == "perplexity"


def total_neurons(data: ReportData) -> pd.DataFrame:
    """``total`` MLP neurons of each model and revision: by its shape, else by its census."""
    shapes = complete(data.checkpoints, [*CHECKPOINT, "num_layers", "num_neurons"])
    known = shapes[CHECKPOINT].assign(total=shapes["num_layers"] * shapes["num_neurons"])
    census = complete(data.neurons, [*CHECKPOINT, "neuron"])
    counted = census.groupby(CHECKPOINT, sort=False).size().rename("total").reset_index()
    some = [frame for frame in (known, counted) if not frame.empty]
    return pd.concat(some).drop_duplicates(CHECKPOINT) if some else known


def _set_of(spec: Mapping[str, Any]) -> tuple[str, str]:
    """Kind of a condition's set, and a label that tells by what it is chosen."""
    neurons = spec.get("neurons") or {}
    kind = str(neurons.get("kind", "other"))
    if kind in ("top", "bottom"):
        return kind, f"{kind} by {neurons.get('statistic')}"
    if kind == "matched":
        return kind, f"matched by {neurons.get('by')}"
    if kind == "labelled":
        return kind, LABELS[neurons["label"]]
    return kind, {"explicit": "named", "all": "whole layers"}.get(kind, kind)


def share_chart(rows: pd.DataFrame) -> Chart | None:
    """Perplexity by share clamped, one panel per checkpoint and task.

    Args:
        rows: of :func:`clamped_shares`.

    Returns:
        The chart; None with fewer than two different shares.
    """
    if rows["share"].round(12).nunique() < 2:
        return None
    colours, operations = _colours(rows), list(dict.fromkeys(rows["operation"]))
    panels = [
        _panel(
            of_panel, colours, operations, f"{task}: {checkpoint_name(str(model), str(revision))}"
        )
        for (model, revision, task), of_panel in rows.groupby([*CHECKPOINT, "task"], sort=False)
    ]
    return alt.concat(*panels, columns=2, spacing={"row": 30, "column": 30})


def _colours(rows: pd.DataFrame) -> dict[str, str]:
    """Colour of each set: its kind's own, or where two sets are of a kind a free one."""
    colours: dict[str, str] = {}
    for kind, label in rows[["kind", "set"]].drop_duplicates().itertuples(index=False):
        wanted = [KIND_COLOURS.get(kind, TARGET_COLOURS[3]), *reversed(TARGET_COLOURS)]
        taken = set(colours.values())
        colours[label] = next((colour for colour in wanted if colour not in taken), wanted[0])
    return colours


def _panel(
    rows: pd.DataFrame, colours: Mapping[str, str], operations: list[str], title: str
) -> Chart:
    baseline = float(rows["baseline"].iloc[0])
    values = [*rows["value"].astype(float), baseline]
    wide = max(values) > LOG_ABOVE * min(values)
    y_title = "perplexity, log scale" if wide else "perplexity"
    scale = alt.Scale(type="log") if wide else alt.Scale(zero=False)
    shares = rows.assign(percent=100 * rows["share"])
    low, high = float(shares["percent"].min()), float(shares["percent"].max())

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", title=y_title, scale=scale)

    ticks = [value for value in TICKS if 0.4 * low <= value <= 2.5 * high]
    axis = alt.Axis(format="~g", values=ticks, labelOverlap=False)
    base = alt.Chart(shares).encode(
        x=alt.X(
            "percent:Q",
            title="share of all neurons clamped (%), log scale",
            scale=alt.Scale(type="log", domain=[low / 1.3, high * 1.3], nice=False),
            axis=axis,
        ),
        color=alt.Color(
            "set:N",
            scale=alt.Scale(domain=list(colours), range=list(colours.values())),
            legend=alt.Legend(title=None, columns=2),
        ),
    )
    forms = alt.Scale(domain=operations, range=_cycled(TARGET_SHAPES, len(operations)))
    dashes = alt.Scale(domain=operations, range=_cycled(DASHES, len(operations)))
    legend = alt.Legend(title=None, columns=1) if len(operations) > 1 else None
    rule = alt.Chart(pd.DataFrame({"baseline": [baseline]})).mark_rule(
        strokeDash=[4, 3], color="#555555"
    )
    return alt.layer(
        rule.encode(y=y("baseline")),
        base.mark_line(strokeWidth=1.5).encode(
            y=y("value"), strokeDash=alt.StrokeDash("operation:N", scale=dashes, legend=legend)
        ),
        base.mark_rule(strokeWidth=2).encode(y=y("low"), y2="high:Q"),
        base.mark_point(size=70, filled=True, opacity=1).encode(
            y=y("value"), shape=alt.Shape("operation:N", scale=forms, legend=legend)
        ),
    ).properties(width=380, height=280, title=title)


def _cycled(values: Any, count: int) -> list[Any]:
    return [values[place % len(values)] for place in range(count)]
