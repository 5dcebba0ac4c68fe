"""What figures over layers share: the axis of layers, an axis of counts, the middle of a model."""

import altair as alt
import pandas as pd

from sweeper.report.over_steps import TICK_WORDS

COUNTS = (0, *(10**power for power in range(8)))
"""Numbers that an axis of counts names."""
FINE_COUNTS = (0, 1, 3, 10, 30, 100, 300, 1000)
"""The same where they reach no further."""
MAX_MARKED = 32
"""Most layers of a line that have a mark."""


def layer_axis(layers: pd.Series, field: str = "layer") -> alt.X:
    """The horizontal axis with whole layers, a little wider than the first and the last.

    Args:
        layers: all that the panel draws.
        field: what holds the place.
    """
    first, last = int(layers.min()), int(layers.max())
    step = 1 if last - first < 13 else 2 if last - first < 26 else 5 if last - first < 60 else 10
    values = list(range(first, last + 1, step))
    # With fewer in mind Vega leaves out labels.
    axis = alt.Axis(values=values, tickCount=len(values), format="d", grid=False)
    scale = alt.Scale(domain=[first - 0.6, last + 0.6], nice=False, zero=False)
    return alt.X(f"{field}:Q", title="layer", axis=axis, scale=scale)


def count_axis(highest: float, field: str, title: str) -> alt.Y:
    """A vertical axis of log(1 + number), which shows 0 and thousands alike.

    Args:
        highest: number that the panel draws.
        field: what holds the numbers.
        title: what is counted.
    """
    top = max(highest, 1)
    ticks = FINE_COUNTS if top < FINE_COUNTS[-1] else COUNTS
    values = [tick for tick in ticks if tick <= top]
    axis = alt.Axis(values=values, tickCount=len(values), labelExpr=TICK_WORDS)
    scale = alt.Scale(type="symlog", constant=1, domain=[0, 1.3 * top], nice=False)
    return alt.Y(f"{field}:Q", title=f"{title}, log(1 + number)", axis=axis, scale=scale)


def points_of(rows: pd.DataFrame) -> alt.Chart:
    """Marks on lines, at most ``MAX_MARKED`` layers of them: side by side they hide the line."""
    step = -(-int(rows["layer"].max() + 1) // MAX_MARKED)
    marked = rows[rows["layer"].astype(int) % step == 0]
    points: alt.Chart = alt.Chart(marked).mark_point(size=34, filled=True, opacity=1)
    return points


def middle(layers: pd.Series) -> alt.Chart:
    """A dashed line between the first half of the layers and the second."""
    place = pd.DataFrame({"middle": [(float(layers.min()) + float(layers.max())) / 2]})
    rule = alt.Chart(place).mark_rule(strokeDash=[4, 3], color="#555555")
    line: alt.Chart = rule.encode(x=layer_axis(layers, "middle"))
    return line
