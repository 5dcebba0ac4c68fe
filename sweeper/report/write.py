"""Write a whole report into a folder."""

import os
from dataclasses import dataclass
from pathlib import Path

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
    _replace(csv, estimates.to_csv(index=False))
    _replace(markdown, markdown_table(effect_rows(estimates)))
    _replace(html, render(data, drawn))
    return ReportPaths(html=html, csv=csv, markdown=markdown, figures=tuple(paths))


def _replace(path: Path, text: str) -> None:
    """Write aside, then rename: readers see the old file or the new one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
