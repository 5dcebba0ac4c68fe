"""What a figure is: a chart with what a reader must know to read it."""

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from sweeper.report.theme import Chart


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart with what a reader must know to read it."""

    name: str
    """Stem of its files."""
    title: str
    caption: str
    chart: Chart


def side_by_side(panels: Sequence[Chart]) -> Chart:
    """Panels in two columns, each with colours and shapes of its own.

    A shared scale would give the conditions of one panel the colours of another's.
    """
    joined = alt.concat(*panels, columns=2, spacing={"row": 30, "column": 30})
    separate: Chart = joined.resolve_scale(color="independent", shape="independent")
    return separate
