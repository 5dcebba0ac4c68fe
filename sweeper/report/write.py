"""Write a whole report into a folder."""

from dataclasses import dataclass
from pathlib import Path

from sweeper.atomic import write_atomically
from sweeper.report.data import ESTIMATE_COLUMNS, ReportData, complete
from sweeper.report.figures import Figure, all_figures, save
from sweeper.report.html import render
from sweeper.report.tables import effect_rows, markdown_table


@dataclass(frozen=True, kw_only=True)
class ReportPaths:
    """Where the parts of a report lie."""

    html: Path
    csv: Path
    """Estimates as numbers."""
    markdown: Path
    """Estimates as text for people."""
    figures: tuple[Path, ...]
    """SVG, PNG and PDF of every figure."""


def write_report(folder: Path, data: ReportData) -> ReportPaths:
    """Write page, tables and figures; a page that is being read is replaced in one step.

    Args:
        folder: made if it does not exist.
        data: what is reported.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[tuple[Figure, str]] = []
    paths: list[Path] = []
    for figure in all_figures(data):
        files = save(figure.chart, folder / "figures", figure.name)
        drawn.append((figure, files["svg"].read_text(encoding="utf-8")))
        paths += files.values()
    estimates = complete(data.estimates, ESTIMATE_COLUMNS)
    html, csv, markdown = (folder / f for f in ("report.html", "estimates.csv", "estimates.md"))
    write_atomically(csv, estimates.to_csv(index=False).encode())
    write_atomically(markdown, markdown_table(effect_rows(estimates)).encode())
    write_atomically(html, render(data, drawn).encode())
    return ReportPaths(html=html, csv=csv, markdown=markdown, figures=tuple(paths))
