"""What a figure is: a chart with what a reader must know to read it."""

from dataclasses import dataclass

from sweeper.report.theme import Chart


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart with what a reader must know to read it."""

    name: str
    """Stem of its files."""
    title: str
    caption: str
    chart: Chart
