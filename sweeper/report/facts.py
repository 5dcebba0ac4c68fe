"""What happened to the cells of a run: progress, failures, fidelity, versions."""

import json
from typing import Any

import pandas as pd

from sweeper.report import numbers
from sweeper.report.data import CHECKPOINT, ReportData, complete

CELL_COLUMNS = [
    *("cell_key", "status", "error_type", "error_text", "values_changed", "values_seen"),
    *("noise", "seconds", "load_seconds", "device", "dtype", "worker", "versions"),
    *("finished_at", "cell_attempt"),
]
MANIFEST_COLUMNS = [
    *("cell_key", "kind", *CHECKPOINT, "condition", "seed", "condition_key", "operation"),
    *("num_neurons", "control_of", "is_baseline", "task", "task_kind"),
]
NAMES = [*CHECKPOINT, "task", "condition"]


def named_cells(data: ReportData) -> pd.DataFrame:
    """Cells under the names of this run: a cell of a store may be shared by runs.

    A cell that failed and was done later counts as done.
    """
    manifest = complete(data.manifest, MANIFEST_COLUMNS)
    cells = complete(data.cells, CELL_COLUMNS)[CELL_COLUMNS]
    last = cells.sort_values("status", ascending=False, kind="stable")
    return manifest.merge(last.drop_duplicates("cell_key", keep="last"), on="cell_key", how="left")


def progress(named: pd.DataFrame) -> dict[str, int]:
    """Number of cells: ``total``, ``done``, ``failed`` and ``missing``."""
    once = named.drop_duplicates("cell_key")
    done, failed = (int((once["status"] == name).sum()) for name in ("done", "failed"))
    return {
        "total": len(once),
        "done": done,
        "failed": failed,
        "missing": len(once) - done - failed,
    }


def failures(named: pd.DataFrame) -> pd.DataFrame:
    """One row of text per failed cell."""
    failed = named[named["status"] == "failed"]
    rows = [
        {name: str(row[name]) for name in NAMES}
        | {
            "seed": numbers.count(row["seed"]),
            "error": str(row["error_type"]),
            "text": str(row["error_text"]),
            "attempts": numbers.count(row["cell_attempt"]),
        }
        for row in failed.to_dict("records")
    ]
    return pd.DataFrame(rows, columns=[*NAMES, "seed", "error", "text", "attempts"])


def noise(named: pd.DataFrame) -> pd.DataFrame:
    """Noise floor in nats of each checkpoint and task, as text."""
    measured = named[named["noise"].notna()]
    largest = measured.groupby([*CHECKPOINT, "task"], sort=False)["noise"].max().reset_index()
    largest["noise"] = [numbers.tiny(value) for value in largest["noise"]]
    return largest.rename(columns={"noise": "noise floor (nats)"})


def changes(named: pd.DataFrame) -> pd.DataFrame:
    """How many values each clamp changed, of those that it saw, as text (sums over seeds)."""
    scored = named[named["values_changed"].notna() & (named["kind"] == "score")]
    rows = [_change(names, group) for names, group in scored.groupby(NAMES, sort=False)]
    return pd.DataFrame(
        rows, columns=[*NAMES, "cells", "neurons", "values seen", "values changed", "share"]
    )


def _change(names: Any, group: pd.DataFrame) -> dict[str, str]:
    changed = float(group["values_changed"].astype(float).sum())
    seen = float(group["values_seen"].astype(float).sum())
    return dict(zip(NAMES, map(str, names), strict=True)) | {
        "cells": numbers.count(len(group)),
        "neurons": numbers.count(round(float(group["num_neurons"].astype(float).mean()))),
        "values seen": numbers.count(seen),
        "values changed": numbers.count(changed),
        "share": f"{100 * changed / seen:.1f} %" if seen > 0 else numbers.DASH,
    }


def versions(named: pd.DataFrame) -> list[tuple[str, str]]:
    """(package, versions in use) over all cells, by name."""
    found: dict[str, set[str]] = {}
    for text in named["versions"].dropna().unique():
        for package, version in json.loads(text).items():
            found.setdefault(str(package), set()).add(str(version))
    return [(package, ", ".join(sorted(found[package]))) for package in sorted(found)]


def computing(named: pd.DataFrame) -> list[tuple[str, str]]:
    """(what, text) about devices, number formats, workers and time."""
    once = named[named["status"].notna()].drop_duplicates("cell_key")
    if once.empty:
        return []

    def distinct(column: str) -> str:
        return ", ".join(sorted({str(value) for value in once[column].dropna()})) or numbers.DASH

    rows = [
        ("device", distinct("device")),
        ("number format", distinct("dtype")),
        ("workers", numbers.count(once["worker"].nunique())),
        ("time of all cells", numbers.duration(float(once["seconds"].astype(float).sum()))),
    ]
    finished = pd.to_datetime(once["finished_at"], utc=True).dropna()
    if not finished.empty:
        rows.append(("last cell", f"{finished.max():%Y-%m-%d %H:%M} UTC"))
    return rows
