"""Figures of routing by layer: phases with their neurons, other thresholds, what is linear."""

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
from sweeper.report.over_layers import layer_axis
from sweeper.report.routing_data import PHASES, routing_rows
from sweeper.report.theme import INK, TARGET_COLOURS, TARGET_SHAPES, Chart, Palette

PHASE_COLOURS = ("#A9CCE8", "#ECECEC", "#F2B880")
"""Of ``PHASES``: pale, for there are words on them."""
WORDS = ("handler", "consensus", "gateway")
PANELS_IN_A_ROW = 3
MANY_LAYERS = 40
"""From so many layers on rows are low."""


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """Phases, phases under other thresholds, and the linear share, checkpoints side by side."""
    del palette  # colours tell phases and checkpoints here, not conditions
    layers = routing_rows(data, "routing_layers")
    shown, note = first_checkpoints(layers)
    if not shown:
        return []
    parts = {checkpoint_name(*pair): of_checkpoints(layers, [pair]) for pair in shown}
    phases = Figure(
        name="routing_phases",
        title="Phases of the layers",
        caption="Scaffold: the layer has a gateway and no quorum; decision: it has a quorum, an "
        "exception handler and consensus neurons; diffuse: it has neither. Written in: the "
        f"handler's number, how many consensus neurons, the gateway's number.{note}",
        chart=_side_by_side([phase_chart(rows, name) for name, rows in parts.items()]),
    )
    linear = Figure(
        name="routing_linear_share",
        title="What an affine map explains of each layer",
        caption="1 - (sum of |delta|²) / (sum of |output - its mean|²): delta is what the best "
        f"affine map of the MLP's inputs leaves of its output.{note}",
        chart=linear_chart(parts),
    )
    return [phases, *_thresholds(data, shown, note), linear]


def _thresholds(data: ReportData, shown: list[tuple[str, str]], note: str) -> list[Figure]:
    rows = routing_rows(data, "routing_thresholds")
    own = (data.job.get("routing") or {}).get("threshold")
    found = [(checkpoint_name(*pair), of_checkpoints(rows, [pair])) for pair in shown]
    charts = [threshold_chart(part, name, own) for name, part in found if not part.empty]
    if not charts:
        return []
    caption = (
        "Roles sought again where a neuron counts as firing above another threshold. Written in: "
        "number of consensus neurons, and the range of the exception rate over consensus levels "
        f"in percentage points. Bold: the job's own threshold.{note}"
    )
    title = "Phases under other thresholds"
    chart = _side_by_side(charts)
    return [Figure(name="routing_thresholds", title=title, caption=caption, chart=chart)]


def _side_by_side(panels: list[Chart]) -> Chart:
    joined: Chart = alt.concat(*panels, columns=PANELS_IN_A_ROW, spacing={"row": 30, "column": 40})
    return joined


def phase_words(layers: pd.DataFrame) -> pd.DataFrame:
    """One row per layer and word: layer, phase, ``what`` (of ``WORDS``) and ``text``.

    Args:
        layers: of ``routing_layers``, of one checkpoint.
    """

    def words(row: pd.Series) -> list[str]:
        number = int(row["num_consensus"])
        named = [numbers.index(row[role]) for role in ("handler", "gateway")]
        handler, gateway = ("" if name == numbers.DASH else name for name in named)
        return [handler, str(number) if number else "", gateway]

    rows = [
        {"layer": int(row["layer"]), "phase": str(row["phase"]), "what": what, "text": text}
        for _, row in layers.iterrows()
        for what, text in zip(WORDS, words(row), strict=True)
    ]
    return pd.DataFrame(rows, columns=["layer", "phase", "what", "text"])


def phase_chart(layers: pd.DataFrame, title: str) -> Chart:
    """Phase of every layer by colour, with its neurons.

    Args:
        layers: of ``routing_layers``, of one checkpoint.
        title: above the panel.
    """
    axis = alt.Axis(orient="top", labelAngle=0, domain=False, ticks=False, title=None)
    x = alt.X("what:N", sort=list(WORDS), axis=axis)
    return _matrix(phase_words(layers), x, title, width=66)


def threshold_words(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per layer and threshold: layer, phase, ``threshold`` and ``text``.

    Args:
        rows: of ``routing_thresholds``, of one checkpoint.
    """
    words = [
        f"{int(number)} · {numbers.fixed(100 * spread, 0)}" if number else ""
        for number, spread in rows[["num_consensus", "range"]].itertuples(index=False)
    ]
    names = [f"{threshold:g}" for threshold in rows["threshold"]]
    return rows[["layer", "phase"]].assign(threshold=names, text=words)


def threshold_chart(rows: pd.DataFrame, title: str, own: float | None) -> Chart:
    """Phase of every layer under every threshold, with its consensus neurons and range.

    Args:
        rows: of ``routing_thresholds``, of one checkpoint.
        title: above the panel.
        own: the job's threshold.
    """
    marks = threshold_words(rows)
    order = [f"{threshold:g}" for threshold in sorted(set(rows["threshold"]))]
    is_own = f"datum.value == '{own:g}'" if own is not None else "false"
    weight = alt.condition(is_own, alt.value("bold"), alt.value("normal"))
    axis = alt.Axis(labelAngle=0, labelFontWeight=weight)
    x = alt.X("threshold:N", sort=order, title="fires above", axis=axis)
    return _matrix(marks, x, title, width=58)


def _matrix(marks: pd.DataFrame, x: alt.X, title: str, *, width: int) -> Chart:
    """Layers by columns: phases as colours, words in the cells."""
    is_deep = marks["layer"].nunique() > MANY_LAYERS
    scale = alt.Scale(domain=list(PHASES), range=list(PHASE_COLOURS))
    legend = alt.Legend(title="phase", symbolType="square", symbolOpacity=1)
    base = alt.Chart(marks).encode(x=x, y=alt.Y("layer:O", title="layer"))
    cells = base.mark_rect(stroke="#FFFFFF", strokeWidth=1)
    text = base.mark_text(fontSize=9 if is_deep else 11, color=INK).encode(text="text:N")
    size = {"width": alt.Step(width), "height": alt.Step(13 if is_deep else 19)}
    return alt.layer(
        cells.encode(color=alt.Color("phase:N", scale=scale, legend=legend)), text
    ).properties(**size, title=title)


def linear_chart(parts: dict[str, pd.DataFrame]) -> Chart:
    """Share of a layer's output that an affine map explains, a line for each checkpoint.

    Args:
        parts: name of a checkpoint -> its rows of ``routing_layers``.
    """
    marks = pd.concat(
        [rows[["layer", "linear_share"]].assign(model=name) for name, rows in parts.items()]
    )
    marks["linear"] = 100 * marks["linear_share"].astype(float)
    order = list(parts)
    colours = alt.Scale(domain=order, range=list(TARGET_COLOURS[: len(order)]))
    forms = [TARGET_SHAPES[place % len(TARGET_SHAPES)] for place in range(len(order))]
    legend = alt.Legend(title=None, columns=2, symbolOpacity=1, labelLimit=400)
    tint = alt.Color("model:N", scale=colours, legend=legend)
    form = alt.Shape("model:N", scale=alt.Scale(domain=order, range=forms), legend=legend)
    base = alt.Chart(marks[["layer", "linear", "model"]]).encode(
        x=layer_axis(marks["layer"]),
        y=alt.Y("linear:Q", title="linear share (%)", scale=alt.Scale(zero=False)),
        color=tint,
    )
    points = base.mark_point(size=40, filled=True, opacity=1).encode(shape=form)
    return alt.layer(base.mark_line(strokeWidth=1.8), points).properties(width=560, height=260)
