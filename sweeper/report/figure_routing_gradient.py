"""Figures of the consensus gradient: means by level, and its range against random splits."""

import altair as alt
import numpy as np
import pandas as pd

from sweeper.report import numbers
from sweeper.report.data import (
    ReportData,
    checkpoint_name,
    first_checkpoints,
    of_checkpoints,
)
from sweeper.report.figure import Figure
from sweeper.report.routing_data import quorum_layers, routing_rows, split_p, widest
from sweeper.report.theme import RANDOM_COLOURS, RIBBON, TARGET_COLOURS, Chart, Palette

QUANTITIES = {
    "exception_rate": "exception rate",
    "output_norm": "|MLP output|",
    "residual": "|delta|",
}
"""Columns of ``routing_levels`` that are means, with their names."""
STYLES = {
    "exception rate": (TARGET_COLOURS[1], "square"),
    "|MLP output|": (TARGET_COLOURS[0], "circle"),
    "|delta|": (TARGET_COLOURS[2], "triangle-up"),
}
WAYS = ("token", "document")
BINS = np.linspace(0, 100, 41)
"""Edges of the histogram of ranges, in percentage points."""
PANEL = {"width": 250, "height": 150}


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """Gradient and random splits of each of the first checkpoints that has a quorum."""
    del palette  # colours tell quantities here, not conditions
    quorums = quorum_layers(data)
    levels, splits = (routing_rows(data, name) for name in ("routing_levels", "routing_splits"))
    shown, note = first_checkpoints(quorums)
    found = []
    for number, pair in enumerate(shown):
        name = checkpoint_name(*pair)
        layers = of_checkpoints(quorums, [pair])
        drawn, more = widest(layers)
        layers = layers[layers["layer"].isin(drawn)]
        gradient = gradient_chart(of_checkpoints(levels, [pair]), drawn)
        if gradient is not None:
            caption = (
                "By consensus level, the number of consensus neurons that fire at a token. "
                "Exception rate: share of the level's tokens at which the exception handler fires. "
                "Thick lines: 95 % interval of resampled tokens; thin lines: of resampled "
                "documents (windows), whose tokens are not independent. Neurons and intervals come "
                "from the same tokens. Bars: share of all tokens."
                f"{more}{note}"
            )
            title = f"Consensus gradient: {name}"
            stem = f"routing_gradient_{number + 1}"
            found.append(Figure(name=stem, title=title, caption=caption, chart=gradient))
        histograms = split_chart(layers, of_checkpoints(splits, [pair]))
        if histograms is not None:
            caption = (
                "Range: largest exception rate of a level minus the smallest, of levels with at "
                "least 50 tokens. Bars: ranges of random splits, as many neurons that fire at more "
                "than half of the tokens as there are consensus neurons, and one that fires at 1 "
                "to 10 % of them in the place of the handler. Line: the range found. p = (splits "
                "reaching it + 1) / (splits + 1). Consensus neurons and handler are those that "
                "stand out in the same tokens, split neurons are not chosen by them."
                f"{more}{note}"
            )
            title = f"Range of the exception rate against random splits: {name}"
            stem = f"routing_splits_{number + 1}"
            found.append(Figure(name=stem, title=title, caption=caption, chart=histograms))
    return found


def gradient_chart(levels: pd.DataFrame, layers: list[int]) -> Chart | None:
    """Exception rate, norms and share of the tokens by consensus level, a row for each layer.

    Args:
        levels: of ``routing_levels``, of one checkpoint.
        layers: those to draw, in order.

    Returns:
        The chart; None without rows of these layers.
    """
    parts = [(layer, levels[levels["layer"] == layer]) for layer in layers]
    known = [(layer, part) for layer, part in parts if not part.empty]
    if not known:
        return None
    last = known[-1][0]  # one legend tells the quantities of all rows
    rows = [_gradient_row(part, f"layer {layer}", layer == last) for layer, part in known]
    joined: Chart = alt.vconcat(*rows, spacing=26)
    return joined


def level_means(levels: pd.DataFrame) -> pd.DataFrame:
    """One row per level and quantity: level, ``quantity``, ``mean`` and the ends of its intervals.

    Exception rates are in %.

    Args:
        levels: of ``routing_levels``, of one layer.
    """
    frames = []
    for column, name in QUANTITIES.items():
        unit = 100 if column == "exception_rate" else 1
        frame = levels[["level"]].assign(quantity=name, mean=unit * levels[column].astype(float))
        for way in WAYS:
            for end in ("low", "high"):
                frame[f"{way}_{end}"] = unit * levels[f"{column}_{way}_{end}"].astype(float)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _gradient_row(levels: pd.DataFrame, title: str, has_legend: bool) -> Chart:
    means = level_means(levels)
    is_rate = means["quantity"] == "exception rate"
    shares = levels[["level"]].assign(share=100 * levels["share"].astype(float))
    bars = alt.Chart(shares).mark_bar(color=RIBBON, size=18)
    share = bars.encode(x=_level_axis(), y=alt.Y("share:Q", title="share of tokens (%)"))
    rate = _mean_panel(means[is_rate], "exception rate (%)", None)
    norms = _mean_panel(
        means[~is_rate],
        "mean norm",
        alt.Legend(title=None, symbolOpacity=1) if has_legend else None,
    )
    row = alt.hconcat(rate, norms, share.properties(**PANEL), spacing=34)
    separate: Chart = row.resolve_scale(color="independent", shape="independent")
    return separate.properties(title=title)


def _mean_panel(means: pd.DataFrame, y_title: str, legend: alt.Legend | None) -> Chart:
    names = list(dict.fromkeys(means["quantity"]))
    colours, shapes = (
        alt.Scale(domain=names, range=[STYLES[name][part] for name in names]) for part in (0, 1)
    )
    tint = alt.Color("quantity:N", scale=colours, legend=legend)
    form = alt.Shape("quantity:N", scale=shapes, legend=legend)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", title=y_title)

    base = alt.Chart(means).encode(x=_level_axis(), color=tint)
    return alt.layer(
        base.mark_rule(strokeWidth=1.2).encode(y=y("document_low"), y2="document_high:Q"),
        base.mark_rule(strokeWidth=7, opacity=0.35).encode(y=y("token_low"), y2="token_high:Q"),
        base.mark_line(strokeWidth=1.5).encode(y=y("mean")),
        base.mark_point(size=24, filled=True, opacity=1).encode(y=y("mean"), shape=form),
    ).properties(**PANEL)


def _level_axis() -> alt.X:
    return alt.X("level:O", title="consensus level", axis=alt.Axis(labelAngle=0))


def split_bins(ranges: pd.Series) -> pd.DataFrame:
    """Histogram of ranges: ``low`` and ``high`` of each bin in percentage points, ``splits``.

    Bins without any are left out.
    """
    known = 100 * ranges.dropna().astype(float)
    counts, edges = np.histogram(known, BINS)
    bins = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "splits": counts})
    return bins[bins["splits"] > 0]


def split_words(row: pd.Series) -> str:
    """How many random splits reach a layer's range, and the p that this gives."""
    reaching, splits = row["splits_reaching"], row["num_splits"]
    p = numbers.probability(split_p(reaching, splits))
    return f"{numbers.count(reaching)} of {numbers.count(splits)} splits reach it: p = {p}"


def split_chart(layers: pd.DataFrame, splits: pd.DataFrame) -> Chart | None:
    """Ranges of random splits with the range that was found, one panel for each layer.

    Args:
        layers: of ``routing_layers``, of one checkpoint: those to draw.
        splits: of ``routing_splits``, of that checkpoint.

    Returns:
        The chart; None where no layer has random splits.
    """
    panels = []
    for _, row in layers.iterrows():
        ranges = splits.loc[splits["layer"] == row["layer"], "range"].dropna()
        if not ranges.empty and not numbers.is_missing(row["range"]):
            panels.append(_split_panel(row, split_bins(ranges)))
    if not panels:
        return None
    joined: Chart = alt.concat(*panels, columns=3, spacing={"row": 26, "column": 30})
    return joined


def _split_panel(row: pd.Series, bins: pd.DataFrame) -> Chart:
    observed = 100 * float(row["range"])
    scale = alt.Scale(domain=[0, 100], nice=False)
    x_title = "range (percentage points)"
    bars = alt.Chart(bins).mark_bar(color=RANDOM_COLOURS[1], stroke="#FFFFFF", strokeWidth=0.5)
    place = alt.Chart(pd.DataFrame({"observed": [observed], "text": [f"{observed:.1f}"]}))
    near_end = observed > 85
    label = place.mark_text(
        align="right" if near_end else "left", dx=-5 if near_end else 5, y=8, fontSize=12
    )
    mark = alt.value(TARGET_COLOURS[1])
    layers = [
        bars.encode(
            x=alt.X("low:Q", bin="binned", scale=scale, title=x_title),
            x2="high:Q",
            y=alt.Y("splits:Q", title="random splits", axis=alt.Axis(tickMinStep=1)),
        ),
        place.mark_rule(strokeWidth=2).encode(x="observed:Q", color=mark),
        label.encode(x="observed:Q", text="text:N", color=mark),
    ]
    title = alt.Title(f"layer {int(row['layer'])}", subtitle=split_words(row), subtitleFontSize=12)
    return alt.layer(*layers).properties(width=260, height=150, title=title)
