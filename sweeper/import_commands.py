"""What the commands do with imported results of lm-evaluation-harness."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweeper.api import ImportedRun
from sweeper.errors import UserError
from sweeper.ingest import Imported, Request
from sweeper.ingest import import_results as import_files
from sweeper.report.step_tables import step_summary

MAX_NAMED = 5
"""Most files that are named in a line."""


def import_results(request: Request, out: Console, err: Console) -> bool:
    """Import results and say what came in; False where files were left out."""
    found = import_files(request)
    for line in found.problems:
        err.print(f"left out: {line}", style="red", markup=False, soft_wrap=True)
    for line in _words(request, found):
        out.print(line, markup=False, soft_wrap=True)
    return not found.problems


def _words(request: Request, found: Imported) -> list[str]:
    counts = found.counts
    lines = [
        f"{found.files} files with {counts.cells} cells (model, checkpoint, task), {found.new} new "
        f"to the store; run {request.name}: {counts.in_run} cells"
    ]
    if found.passed_over:
        lines.append(f"passed over, no results: {_named(found.passed_over)}")
    if counts.repeated:
        lines.append(
            f"evaluated more than once: {counts.repeated} cells of earlier evaluations are in the "
            "store, and the last ones count"
        )
    if found.groups:
        made = (f"{name} ({size} tasks)" for name, size in found.groups.items())
        lines.append(f"tasks made of others: {', '.join(made)}")
    where = "" if request.store == "results" else f" --store {request.store}"
    lines.append(f"next: sweeper aggregate {request.name}{where}")
    lines.append(f"      sweeper report {request.name}{where}")
    return lines


def _named(files: tuple[str, ...]) -> str:
    more = f" and {len(files) - MAX_NAMED} more" if len(files) > MAX_NAMED else ""
    return ", ".join(files[:MAX_NAMED]) + more


def status(run: ImportedRun, out: Console) -> None:
    """Print what a run of imported results holds."""
    manifest = run.manifest()
    done = run.store.done_keys()
    table = Table()
    for name in ("model", "checkpoints", "tasks", "cells"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for model, rows in manifest.groupby("model", sort=True):
        found = sum(key in done for key in rows["cell_key"])
        counts = (rows["revision"].nunique(), rows["task"].nunique())
        table.add_row(Text(str(model)), *map(str, counts), f"{found} of {len(rows)}")
    out.print(table)
    out.print(f"imported from {len(run.record.sources)} files", markup=False)


def aggregate(run: ImportedRun, csv: Path | None, out: Console) -> None:
    """Print levels at the first and the last checkpoint; all of them go into a CSV file."""
    levels = run.step_levels()
    if csv is not None:
        try:
            levels.to_csv(csv, index=False)
        except OSError as error:
            raise UserError(f"--csv {csv}: cannot be written: {error.strerror}") from error
    out.print(step_summary(levels, run.record.statistics.confidence))
