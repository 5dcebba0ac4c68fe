"""Figure of the job's contrasts: a double dissociation, or a difference, with all its parts."""

from collections.abc import Iterator

import altair as alt
import pandas as pd

from sweeper.report.data import (
    CHECKPOINT,
    CONTRAST_COLUMNS,
    ReportData,
    checkpoint_name,
    complete,
    first_checkpoints,
    layers_name,
    of_checkpoints,
)
from sweeper.report.figure import Figure
from sweeper.report.figure_effects import effect_title
from sweeper.report.numbers import on_axis
from sweeper.report.theme import TARGET_COLOURS, Chart, Palette

TARGET_COLOUR, CONTROL_COLOUR = TARGET_COLOURS[:2]
MAIN = ("interaction", "difference")
"""Parts that a contrast is about."""
SIDES = {
    "target_on_grammar": ("target", "grammar"),
    "target_on_other": ("target", "other"),
    "control_on_grammar": ("control", "grammar"),
    "control_on_other": ("control", "other"),
}
"""Part of a dissociation -> whose effect it is, and on which tasks."""
PLACES = {"grammar": 0, "other": 1}
"""Where the kinds of task stand on the axis of the crossing lines."""
BESIDE = {"target": -0.04, "control": 0.04}
"""Target and control stand side by side, so that no interval covers the other one."""


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """Every contrast of each of the first checkpoints, in one figure."""
    del palette  # colours tell target and control here
    contrasts = complete(data.contrasts, CONTRAST_COLUMNS)
    shown, note = first_checkpoints(contrasts)
    chart = contrast_chart(of_checkpoints(contrasts, shown))
    if chart is None:
        return []
    caption = (
        f"Lines: {data.percent} intervals over the clusters of the tasks, and over seeds where the "
        "control is drawn at random. Left: the effects that a dissociation is "
        "made of; lines that cross tell that target and control do different harm. Right: the "
        "parts of the contrast; the interaction is the target's effect minus the control's on "
        f"grammar, minus the same on the other tasks. Dashed: no effect.{note}"
    )
    return [Figure(name="contrasts", title="Contrasts", caption=caption, chart=chart)]


def contrast_chart(contrasts: pd.DataFrame) -> Chart | None:
    """One row of panels per checkpoint and contrast; one panel for all groups of layers of one.

    Args:
        contrasts: ``CONTRAST_COLUMNS``.

    Returns:
        The chart; None without contrasts.
    """
    rows = complete(contrasts, CONTRAST_COLUMNS)
    panels = [
        _by_layers(of_contrast, title)
        if of_contrast["first_layer"].notna().any()
        else _row(of_contrast, title)
        for of_contrast, title in _titled(rows)
    ]
    if not panels:
        return None
    joined = alt.vconcat(*panels, spacing=30)
    # Contrasts differ in who their target and control are.
    separate: Chart = joined.resolve_scale(color="independent", shape="independent")
    return separate


def _titled(rows: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, str]]:
    for (model, revision, name), found in rows.groupby([*CHECKPOINT, "contrast"], sort=False):
        yield found, f"{name}: {checkpoint_name(str(model), str(revision))}"


def _row(rows: pd.DataFrame, title: str) -> Chart:
    metric = str(rows["metric"].iloc[0])
    marks = _marks(rows, metric)
    # Of a difference every task has the same parts.
    several = rows["part"].duplicated().any()
    names = [
        f"{part_name(part)}, {tasks}" if several else part_name(part)
        for part, tasks in rows[["part", "tasks"]].itertuples(index=False)
    ]
    parts = _parts(marks.assign(label=names), metric, set(rows.loc[_is_main(rows), "part"]))
    sides = marks[marks["part"].isin(list(SIDES))]
    drawn = parts if sides.empty else alt.hconcat(_crossing(sides, metric), parts, spacing=40)
    return drawn.properties(title=title)


def _by_layers(rows: pd.DataFrame, title: str) -> Chart:
    """What a contrast is about, for each group of layers."""
    metric = str(rows["metric"].iloc[0])
    main = rows[_is_main(rows)].sort_values(["last_layer", "first_layer"], kind="stable")
    several = main["kind"].iloc[0] == "difference" and main["tasks"].nunique() > 1
    names = [
        f"layers {layers_name(int(first), int(last))}" + (f", {tasks}" if several else "")
        for first, last, tasks in main[["first_layer", "last_layer", "tasks"]].itertuples(
            index=False
        )
    ]
    chart = _parts(_marks(main, metric).assign(label=names), metric, set())
    return chart.properties(title=f"{title}, {part_name(str(main['part'].iloc[0]))} by layers")


def _is_main(rows: pd.DataFrame) -> pd.Series:
    """Rows of what a contrast is about, not of what it is made of."""
    return rows["part"].isin(MAIN)


def _marks(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    marks = rows[["part", "target", "control"]].copy()
    for column, source in (("effect", "estimate"), ("low", "low"), ("high", "high")):
        marks[column] = on_axis(rows[source], metric)
    marks["reference"] = 1.0 if metric == "nll" else 0.0
    return marks


def part_name(part: str) -> str:
    """A part of a contrast, for people."""
    return part.replace("_", " ").replace("target minus control", "target − control")


def _crossing(marks: pd.DataFrame, metric: str) -> Chart:
    """The four effects of a dissociation: kinds of task along, one line for target and control."""
    names = {"target": str(marks["target"].iloc[0]), "control": str(marks["control"].iloc[0])}
    sides = [SIDES[part] for part in marks["part"]]
    marks = marks.assign(
        who=[names[who] for who, _ in sides],
        tasks=[where for _, where in sides],
        place=[PLACES[where] + BESIDE[who] for who, where in sides],
    )
    scale = alt.Scale(domain=list(names.values()), range=[TARGET_COLOUR, CONTROL_COLOUR])
    shapes = alt.Scale(domain=list(names.values()), range=["circle", "square"])

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", title=effect_title(metric), scale=alt.Scale(zero=False))

    legend = alt.Legend(title=None, columns=1)
    base = alt.Chart(marks).encode(
        x=alt.X("place:Q", title="tasks", axis=_places(), scale=alt.Scale(domain=[-0.5, 1.5])),
        color=alt.Color("who:N", scale=scale, legend=legend),
    )
    zero = alt.Chart(marks).mark_rule(strokeDash=[4, 3], color="#555555")
    return alt.layer(
        zero.encode(y=y("mean(reference)")),
        base.mark_line(strokeWidth=1.8).encode(y=y("effect")),
        base.mark_rule(strokeWidth=2).encode(y=y("low"), y2="high:Q"),
        base.mark_point(size=80, filled=True, opacity=1).encode(
            y=y("effect"), shape=alt.Shape("who:N", scale=shapes, legend=legend)
        ),
    ).properties(width=220, height=220)


def _places() -> alt.Axis:
    """An axis with the names of the kinds of task in the place of numbers."""
    names = " : ".join(f"datum.value == {place} ? '{name}'" for name, place in PLACES.items())
    return alt.Axis(values=list(PLACES.values()), labelExpr=f"{names} : ''", grid=False)


def _parts(marks: pd.DataFrame, metric: str, main: set[str]) -> Chart:
    """Estimate with interval of each row, in its order; main parts as diamonds."""
    marks = marks.assign(main=marks["part"].isin(list(main)))
    order = list(marks["label"])
    base = alt.Chart(marks).encode(
        y=alt.Y("label:N", sort=order, title=None, axis=alt.Axis(grid=True, labelLimit=320))
    )

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", title=effect_title(metric), scale=alt.Scale(zero=False))

    zero = alt.Chart(marks).mark_rule(strokeDash=[4, 3], color="#555555")
    return alt.layer(
        zero.encode(x=x("mean(reference)")),
        base.mark_rule(strokeWidth=2, color="#222222").encode(x=x("low"), x2="high:Q"),
        base.mark_point(filled=True, opacity=1, color="#222222").encode(
            x=x("effect"),
            size=alt.condition("datum.main", alt.value(130), alt.value(60)),
            shape=alt.condition("datum.main", alt.value("diamond"), alt.value("circle")),
        ),
    ).properties(width=360, height=alt.Step(28))
