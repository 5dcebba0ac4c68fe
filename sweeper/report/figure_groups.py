"""The chart of effects by group that phenomena and parts of speech share."""

from collections.abc import Callable, Collection, Sequence

import altair as alt
import pandas as pd

from sweeper.report.theme import Chart, Palette


def grouped_chart(
    marks: pd.DataFrame,
    groups: Sequence[str],
    conditions: Sequence[str],
    palette: Palette,
    axis: Callable[[str], alt.X],
) -> Chart:
    """Point and interval of each condition in each group.

    Args:
        marks: group, condition, effect, low, high and reference in the axis' unit.
        groups: from the top to the bottom.
        conditions: all of the figure, since its panels share colours.
        palette: of all conditions of the report.
        axis: field -> the x axis.
    """
    colour, shape = palette.scales(conditions)
    legend = alt.Legend(title=None, columns=3)
    base = alt.Chart().encode(
        y=alt.Y(
            "group:N",
            sort=list(groups),
            title=None,
            axis=alt.Axis(grid=True, tickBand="extent"),
            scale=alt.Scale(paddingInner=0.1, paddingOuter=0.05),
        ),
        yOffset=alt.YOffset("condition:N", sort=conditions, scale=alt.Scale(domain=conditions)),
        color=alt.Color("condition:N", scale=colour, legend=legend),
    )
    zero = alt.Chart().mark_rule(strokeDash=[4, 3], color="#555555")
    bars = base.mark_rule(strokeWidth=2).encode(x=axis("low"), x2="high:Q")
    points = base.mark_point(size=40, filled=True, opacity=1).encode(
        x=axis("effect"), shape=alt.Shape("condition:N", scale=shape, legend=legend)
    )
    layers = alt.layer(zero.encode(x=axis("mean(reference)")), bars, points, data=marks)
    return layers.properties(height=alt.Step(max(14 - len(conditions), 7)))


def sorted_groups(
    marks: pd.DataFrame,
    conditions: Sequence[str],
    random: Collection[str],
    descending: bool = False,
) -> list[str]:
    """Groups by the effect of the first condition that is not random, unknown ones last."""
    lead = next((name for name in conditions if name not in random), conditions[0])
    groups = [str(name) for name in marks["group"].unique()]
    effects = marks[marks["condition"] == lead].set_index("group")["effect"].astype(float)
    sign = -1 if descending else 1
    known = {str(name): sign * value for name, value in effects.dropna().items()}
    return sorted(groups, key=lambda name: (name not in known, known.get(name, 0.0), name))
