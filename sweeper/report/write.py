"""Write a whole report into a folder."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeper.atomic import write_atomically
from sweeper.report.all_tables import all_tables
from sweeper.report.data import ESTIMATE_COLUMNS, ReportData, complete
from sweeper.report.figure import Figure
from sweeper.report.figures import all_figures, save
from sweeper.report.html import render
from sweeper.report.tables import effect_rows
from sweeper.report.text_table import TextTable, latex, markdown, markdown_table


@dataclass(frozen=True, kw_only=True)
class ReportPaths:
    """Where the parts of a report lie."""

    html: Path
    csv: Path
    """Estimates as numbers."""
    markdown: Path
    """Estimates as text for people."""
    tables: tuple[Path, ...]
    """Markdown and LaTeX of every table."""
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
    _require_folders(folder)
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
    for name, frame in (("step_levels", data.step_levels), ("step_changes", data.step_changes)):
        if not frame.empty:
            write_atomically(folder / f"{name}.csv", frame.to_csv(index=False).encode())
    tables = _write_tables(folder / "tables", all_tables(data))
    write_atomically(html, render(data, drawn).encode())
    return ReportPaths(html=html, csv=csv, markdown=markdown, tables=tables, figures=tuple(paths))


def _require_folders(folder: Path) -> None:
    """A store of somebody else must not send what is written here to another place."""
    for name in ("figures", "tables"):
        if (folder / name).is_symlink():
            raise OSError(errno.ELOOP, f"its {name!r} is a symbolic link")


def _write_tables(folder: Path, tables: Sequence[TextTable]) -> tuple[Path, ...]:
    """Every table as Markdown and as LaTeX."""
    folder.mkdir(exist_ok=True)
    paths = []
    for table in tables:
        for kind, text in (("md", markdown(table)), ("tex", latex(table))):
            paths.append(folder / f"{table.name}.{kind}")
            write_atomically(paths[-1], text.encode())
    return tuple(paths)
