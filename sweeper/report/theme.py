"""Colours, shapes and fonts that all figures share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

Chart = (
    alt.Chart
    | alt.ConcatChart
    | alt.HConcatChart
    | alt.VConcatChart
    | alt.LayerChart
    | alt.FacetChart
)

# Okabe and Ito's palette, told apart with any colour vision; without the grey, which means random.
TARGET_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
TARGET_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross")
RANDOM_COLOURS = ("#767676", "#A3A3A3")
RANDOM_SHAPES = ("triangle-down", "triangle-left", "triangle-right")
SIGN_COLOURS = {
    "negative-negative": "#0072B2",
    "positive-negative": "#E69F00",
    "positive-positive": "#D55E00",
}
"""Signs of a neuron's pre-activations of two tokens."""
DIVERGING = ("#2A5A8C", "#8DB4D6", "#F5F5F5", "#F0B27A", "#A8500C")
"""Below zero, around it, and above: blue and orange, told apart with any colour vision."""
INK = "#222222"
GRID = "#E4E4E4"
RIBBON = "#9DB7CF"
FONT = "Arial, Helvetica, 'Liberation Sans', sans-serif"

CONFIG: dict[str, Any] = {
    "background": "#FFFFFF",
    "font": FONT,
    "view": {"stroke": None},
    "title": {"fontSize": 14, "anchor": "start", "color": INK, "offset": 10},
    "header": {"labelFontSize": 12, "labelFontWeight": "bold", "labelColor": INK, "title": None},
    "axis": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelColor": INK,
        "titleColor": INK,
        "gridColor": GRID,
        "domainColor": "#888888",
        "tickColor": "#888888",
        "titlePadding": 8,
        "labelLimit": 260,
    },
    "axisX": {"labelFlush": False, "tickCount": 6},
    "legend": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelLimit": 260,
        "orient": "bottom",
        "direction": "horizontal",
        "symbolSize": 90,
    },
}


@dataclass(frozen=True)
class Palette:
    """Colour and shape of every condition, the same in all figures of a report."""

    conditions: tuple[str, ...]
    """All conditions in the job's order, without the baseline."""
    random: frozenset[str]
    """Those drawn at random: they are grey."""
    swept: frozenset[str] = frozenset()
    """Those repeated for groups of layers: in figures of their own, so colours begin again."""

    def order(self, names: Iterable[object]) -> list[str]:
        """The distinct names among the conditions, in the job's order."""
        wanted = {str(name) for name in names}
        return [name for name in self.conditions if name in wanted]

    def scales(self, names: Sequence[str]) -> tuple[alt.Scale, alt.Scale]:
        """Colour and shape scales for these conditions.

        Colours and shapes repeat after 6 and 5, so their pair does so only after 30 targets.
        """
        styles = [self._style(name) for name in names]
        domain = list(names)
        colours, shapes = ([style[part] for style in styles] for part in (0, 1))
        return alt.Scale(domain=domain, range=colours), alt.Scale(domain=domain, range=shapes)

    def _style(self, name: str) -> tuple[str, str]:
        drawn, swept = name in self.random, name in self.swept
        alike = [
            other
            for other in self.conditions
            if (other in self.random) == drawn and (other in self.swept) == swept
        ]
        place = alike.index(name)
        if drawn:
            return RANDOM_COLOURS[place % len(RANDOM_COLOURS)], RANDOM_SHAPES[
                place % len(RANDOM_SHAPES)
            ]
        return TARGET_COLOURS[place % len(TARGET_COLOURS)], TARGET_SHAPES[
            place % len(TARGET_SHAPES)
        ]
