"""What holds after any fault: the same rows as of a run that nothing happened to, each once."""

import pandas as pd
import pyarrow as pa

import sweeper
from sweeper.store import Store
from sweeper.store.schemas import TABLES

PER_ATTEMPT = {
    *("attempt", "run", "unit", "worker", "device", "versions", "finished_at"),
    *("seconds", "load_seconds", "cell_attempt", "noise"),
}
"""Columns that tell of how a cell came about. The noise floor is an extreme of rounding errors."""


def assert_undisturbed(run: sweeper.Run, reference: Store, *, tolerance: float = 0.0) -> None:
    """A complete run says, row for row, what another store says of the same cells.

    Args:
        run: the run that something happened to.
        reference: results of undisturbed runs; may hold further cells.
        tolerance: how much numbers may differ; 0 asks for equal bits, which the same packing gives.
    """
    manifest = run.manifest()
    assert set(manifest["cell_key"]) <= run.store.done_keys(), "cells lost"
    progress = run.folder.read_progress()
    assert (progress["state"], progress["cells_done"]) == ("finished", len(manifest))
    assert_same_rows(run.store, reference, keys_of(manifest), tolerance=tolerance)
    cells = run.table("cells")
    assert (cells["status"] == "done").all()
    assert sorted(cells["cell_key"]) == sorted(set(manifest["cell_key"]))


def keys_of(manifest: pd.DataFrame) -> set[str]:
    """Keys of a run's cells and of their neuron sets."""
    return {*manifest["cell_key"], *manifest["condition_key"].dropna()}


def assert_same_rows(
    found: Store, reference: Store, keys: set[str], *, tolerance: float = 0.0
) -> None:
    """Two stores hold the same rows of some cells in all tables, none of them twice."""
    counts = {}
    for name in TABLES:
        rows, expected = (_comparable(store, name, keys) for store in (found, reference))
        assert not rows.duplicated(_identity(rows)).any(), f"{name}: rows doubled"
        exact = {"check_exact": True} if tolerance == 0 else {"rtol": 0.0, "atol": tolerance}
        pd.testing.assert_frame_equal(rows, expected, obj=f"table {name}", **exact)
        counts[name] = len(rows)
    # By the other way to read, which does without a single line of the first one.
    chosen = ", ".join(f"'{key}'" for key in sorted(keys))
    filled = [name for name, count in counts.items() if count]
    query = " union all ".join(
        f"select '{name}' as name, count(*) as n from {name} where cell_key in ({chosen})"
        for name in filled
    )
    assert found.sql(query).set_index("name")["n"].to_dict() == {n: counts[n] for n in filled}


def _comparable(store: Store, name: str, keys: set[str]) -> pd.DataFrame:
    table = store.table(name, keys)
    table = table.drop_columns([column for column in table.column_names if column in PER_ATTEMPT])
    frame = table.to_pandas()
    for field in table.schema:
        if pa.types.is_list(field.type):
            frame[field.name] = [None if row is None else tuple(row) for row in frame[field.name]]
    return frame.sort_values(_identity(frame)).reset_index(drop=True)


def _identity(frame: pd.DataFrame) -> list[str]:
    """Columns that tell rows apart: all but measured numbers and sets."""
    return [
        name
        for name, kind in frame.dtypes.items()
        if not pd.api.types.is_float_dtype(kind)
        and not pd.api.types.is_bool_dtype(kind)
        and name not in ("correct", "neurons", "values", "state", "values_changed", "values_seen")
    ]
