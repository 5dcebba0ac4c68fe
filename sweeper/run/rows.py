"""The rows of a unit on their way to the store."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import pandas as pd
import pyarrow as pa

from sweeper.records import Cell, CellError, CellStatus, Unit
from sweeper.store import Writer
from sweeper.store.schemas import TABLES


@lru_cache(maxsize=1)
def _packages() -> dict[str, str]:
    found = {name: version(name) for name in ("sweeper", "torch", "transformers", "numpy")}
    return {"python": platform.python_version(), **found}


def versions(further: Mapping[str, str] | None = None) -> str:
    """What computes: versions of Python and of the packages that can change a number, as JSON.

    Args:
        further: what a task used besides.
    """
    return json.dumps({**_packages(), **(further or {})})


def cell_row(cell: Cell, num_items: int, num_tokens: int, seconds: float) -> dict[str, Any]:
    """What a worker knows of a cell that it has computed."""
    return {
        "cell_key": cell.key,
        "status": "done",
        "num_items": num_items,
        "num_tokens": num_tokens,
        "seconds": seconds,
    }


@dataclass(slots=True, kw_only=True)
class Rows:
    """Collects the tables of a unit and commits them together."""

    unit: Unit
    attempt: str
    run: str
    worker: str
    load_seconds: float = 0.0
    done: list[str] = field(default_factory=list)
    num_tokens: int = 0
    _tables: dict[str, list[pa.Table]] = field(default_factory=dict)
    _cells: list[dict[str, Any]] = field(default_factory=list)

    def add(self, tables: Mapping[str, pd.DataFrame], facts: Mapping[str, Any]) -> None:
        """Take a computed cell's rows by table, and its row of the table ``cells``."""
        key = facts["cell_key"]
        # Converted at once: Arrow rows are smaller, and a frame that does not fit fails alone.
        fitting = {
            name: arrow(frame.assign(cell_key=key), TABLES[name]) for name, frame in tables.items()
        }
        for name, table in fitting.items():
            self._tables.setdefault(name, []).append(table)
        self._cells.append(dict(facts))
        self.num_tokens += facts["num_tokens"]
        self.done.append(key)

    def fail(self, error: CellError, attempts: int) -> None:
        """Take a cell that is given up."""
        self._cells.append(
            {
                "cell_key": error.key,
                "status": "failed",
                "error_type": error.type,
                "error_text": error.text,
                "cell_attempt": attempts,
            }
        )

    def commit(self, writer: Writer) -> None:
        """Write all tables, then the marker that makes them visible."""
        tables = {name: pa.concat_tables(parts) for name, parts in self._tables.items()}
        cells = pd.DataFrame([self._described(row) for row in self._cells])
        tables["cells"] = arrow(cells, TABLES["cells"])
        status: dict[str, CellStatus] = {row["cell_key"]: row["status"] for row in self._cells}
        writer.commit(self.attempt, self.unit.id, self.run, tables, status)

    def _described(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Add what is known of a cell without computing it."""
        cell = next(cell for cell in self.unit.cells if cell.key == row["cell_key"])
        first = row is self._cells[0]
        return {
            "run": self.run,
            "unit": self.unit.id,
            "kind": cell.kind,
            "model": cell.model,
            "revision": cell.revision,
            "task": cell.task,
            "condition": cell.condition,
            "seed": cell.seed,
            "condition_key": cell.condition_key,
            "device": self.unit.checkpoint.device,
            "dtype": self.unit.checkpoint.dtype,
            "worker": self.worker,
            "versions": versions(),
            "finished_at": datetime.now(UTC),
            # The unit loads the model once; its first cell carries the time.
            "load_seconds": self.load_seconds if first else 0.0,
            "num_items": 0,
            "num_tokens": 0,
            "seconds": 0.0,
            "cell_attempt": self.unit.attempt,
            **row,
        }


def arrow(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """A frame as a table of the schema without ``attempt``, which is the writer's to fill.

    Columns that the frame lacks are null. NaN stays NaN where the schema wants a value ("the
    statistic is undefined") and is null where it may be absent.
    """
    fields = [field for field in schema if field.name != "attempt"]
    if not len(frame):  # pandas does not know what the values of no rows would be
        return pa.schema(fields).empty_table()
    full = frame.reindex(columns=[field.name for field in fields])
    # Lists are objects to pandas, which takes a column that is not there for one of numbers.
    lists = [field.name for field in fields if pa.types.is_list(field.type)]
    full = full.astype(dict.fromkeys(lists, object))
    columns = [pa.array(full[f.name], f.type, from_pandas=bool(f.nullable)) for f in fields]
    return pa.table(columns, schema=pa.schema(fields))
