"""Figure of single neurons: the tokens at both ends of their range."""

import altair as alt
import pandas as pd

from sweeper.report.data import (
    CHECKPOINT,
    ReportData,
    checkpoint_name,
    complete,
    first_checkpoints,
    of_checkpoints,
)
from sweeper.report.figure import Figure
from sweeper.report.figure_neurons import MAX_NEURONS, first_neurons, neuron_name
from sweeper.report.neurons import MIN_COUNT, NUM_TOKENS, TOKEN_COLUMNS, separated_tokens
from sweeper.report.theme import SIGN_COLOURS, Chart, Palette

MAX_CHARACTERS = 24
"""Longest token that is written out."""


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """The tokens that each of the first checkpoints' neurons separate."""
    del palette  # colours tell signs here, not conditions
    tokens = complete(data.neuron_tokens, TOKEN_COLUMNS)
    shown, note = first_checkpoints(tokens)
    found = []
    for number, pair in enumerate(shown):
        rows = first_neurons(of_checkpoints(tokens, [pair]), data.neurons)
        chart = token_chart(rows)
        if chart is None:
            continue
        caption = (
            f"The {NUM_TOKENS} tokens with the lowest and the {NUM_TOKENS} with the highest mean "
            f"pre-activation among those that occur {MIN_COUNT} times or more. Lines: mean ± one "
            "standard deviation over the occurrences. Blue: below 0. At most "
            f"{MAX_NEURONS} neurons, those with the largest Wasserstein distance.{note}"
        )
        figure = Figure(
            name=f"neuron_tokens_{number + 1}",
            title=f"Tokens that neurons separate: {checkpoint_name(*pair)}",
            caption=caption,
            chart=chart,
        )
        found.append(figure)
    return found


def token_chart(tokens: pd.DataFrame) -> Chart | None:
    """Mean pre-activation of the tokens at both ends, one panel per neuron.

    Args:
        tokens: of one checkpoint, in the order of the panels.

    Returns:
        The chart; None without tokens.
    """
    order = tokens[[*CHECKPOINT, "layer", "neuron"]].drop_duplicates()
    rows = order.merge(separated_tokens(tokens), on=list(order.columns))
    panels = [_panel(group) for _, group in rows.groupby(list(order.columns), sort=False)]
    return alt.concat(*panels, columns=3, spacing=24) if panels else None


def readable(token: str) -> str:
    """A token with its blanks and line ends made visible, cut where it is long."""
    shown = token.replace(" ", "·").replace("\n", "\\n").replace("\t", "\\t")
    return shown if len(shown) <= MAX_CHARACTERS else shown[: MAX_CHARACTERS - 1] + "…"


def _panel(rows: pd.DataFrame) -> Chart:
    first = rows.iloc[0]
    names = [readable(str(text)) for text in rows["text"]]
    # Two tokens may read alike; each keeps a line of its own.
    repeated = {name for name in names if names.count(name) > 1}
    labels = [
        f"{name} #{token}" if name in repeated else name
        for name, token in zip(names, rows["token"], strict=True)
    ]
    marks = pd.DataFrame(
        {
            "label": labels,
            "mean": rows["mean"],
            "low": rows["mean"] - rows["sd"],
            "high": rows["mean"] + rows["sd"],
            "reference": 0.0,
        }
    )
    below = alt.condition(
        alt.datum.mean < 0,
        alt.value(SIGN_COLOURS["negative-negative"]),
        alt.value(SIGN_COLOURS["positive-positive"]),
    )
    base = alt.Chart(marks).encode(
        y=alt.Y("label:N", sort=labels, title=None, axis=alt.Axis(grid=True, labelLimit=150))
    )
    zero = alt.Chart(marks).mark_rule(strokeDash=[4, 3], color="#555555")

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", title="pre-activation", axis=alt.Axis(tickCount=5))

    return alt.layer(
        zero.encode(x=x("mean(reference)")),
        base.mark_rule(strokeWidth=1.5).encode(x=x("low"), x2="high:Q", color=below),
        base.mark_point(size=40, filled=True, opacity=1).encode(x=x("mean"), color=below),
    ).properties(width=190, height=alt.Step(15), title=neuron_name(first["layer"], first["neuron"]))
