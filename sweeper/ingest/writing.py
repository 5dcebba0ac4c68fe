"""From results to the store: cells by the ordinary writer, and a run that names them."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import islice
from typing import Any

import pandas as pd
import pyarrow as pa

from sweeper.errors import UserError
from sweeper.ingest.groups import Groups
from sweeper.ingest.reading import is_close
from sweeper.ingest.record import ImportedCheckpoint, ImportRecord, read_record
from sweeper.ingest.result import Result
from sweeper.ingest.samples import MEANS
from sweeper.records import content_hash
from sweeper.store import RunFolder, Store, new_attempt_name
from sweeper.store.schemas import MANIFEST, TABLES

CELLS_PER_COMMIT = 2000
LOGS_PER_COMMIT = 20
"""Logs of single documents have thousands of rows each."""
CONDITION = "baseline"
UNKNOWN = "unknown"
KIND = "score"
TASK_KIND = "lm_eval"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What an import has done."""

    cells: int
    """Cells that the given files hold."""
    repeated: int
    """Those that another evaluation of the same task and checkpoint takes the place of."""
    in_run: int
    """Cells of the run now."""


def write_cells(store: Store, results: Sequence[Result], run: str) -> int:
    """Commit the cells that the store does not hold; gives their number.

    Raises:
        UserError: the store cannot be written, or a log has changed meanwhile.
    """
    done = store.done_keys()
    new = {key: result for result in results if (key := result.key) not in done}
    plain = {key: one for key, one in new.items() if one.samples is None}
    logged = {key: one for key, one in new.items() if one.samples is not None}
    for part, size in ((plain, CELLS_PER_COMMIT), (logged, LOGS_PER_COMMIT)):
        left = iter(part.items())
        while batch := dict(islice(left, size)):
            _commit(store, batch, run)
    store.refresh()
    return len(new)


def _commit(store: Store, cells: Mapping[str, Result], run: str) -> None:
    unit = f"import-{content_hash(sorted(cells))[:12]}"
    frames: dict[str, list[pd.DataFrame]] = {"items": [], "outcomes": []}
    for key, result in cells.items():
        for name, frame in _logged_rows(result).items():
            frames[name].append(frame.assign(cell_key=key))
    tables = {name: _table(name, pd.concat(parts)) for name, parts in frames.items() if parts}
    tables["aggregates"] = _table("aggregates", pd.DataFrame(_aggregates(cells)))
    tables["cells"] = _table("cells", pd.DataFrame(_cells(cells, unit, run)))
    attempt = new_attempt_name(unit)
    store.writer.commit(attempt, unit, run, tables, dict.fromkeys(cells, "done"))


def _logged_rows(result: Result) -> dict[str, pd.DataFrame]:
    if result.samples is None:
        return {}
    told = {f"{metric.name},{metric.filter}": metric.value for metric in result.metrics}
    averaged = {
        name: is_close(mean, told[name]) if name in told else name.partition(",")[0] in MEANS
        for name, mean in result.samples.means.items()
    }
    try:
        return result.samples.tables(averaged)
    except ValueError as error:
        raise UserError(f"import: {result.samples.path}: {error}") from error


def _aggregates(cells: Mapping[str, Result]) -> Iterator[Row]:
    for key, result in cells.items():
        for metric in result.metrics:
            yield {
                "cell_key": key,
                "task": result.task,
                "metric": metric.name,
                "filter": metric.filter,
                "value": metric.value,
                "stderr": metric.stderr,
            }


def _cells(cells: Mapping[str, Result], unit: str, run: str) -> Iterator[Row]:
    # Looked up once: it reads a file.
    own = version("sweeper")
    for key, result in cells.items():
        yield {
            "cell_key": key,
            "run": run,
            "unit": unit,
            "kind": KIND,
            "model": result.origin.model,
            "revision": result.origin.revision,
            "task": result.name,
            "condition": CONDITION,
            "status": "done",
            # 0 where the file does not tell, as in all cells without items.
            "num_items": result.num_items or 0,
            "num_tokens": 0,
            "seconds": result.seconds,
            "load_seconds": 0.0,
            "device": UNKNOWN,
            "dtype": UNKNOWN,
            "worker": "import",
            "versions": json.dumps({"sweeper": own, **result.versions}),
            "finished_at": datetime.fromtimestamp(result.date, UTC),
            "cell_attempt": 1,
        }


def _table(name: str, frame: pd.DataFrame) -> pa.Table:
    """A frame in the table's schema; what it lacks is null, and ``attempt`` is the writer's."""
    fields = [one for one in TABLES[name] if one.name != "attempt"]
    full = frame.reindex(columns=[one.name for one in fields])
    columns = [pa.array(full[one.name], one.type, from_pandas=one.nullable) for one in fields]
    return pa.table(columns, schema=pa.schema(fields))


def write_run(
    store: Store,
    folder: RunFolder,
    results: Sequence[Result],
    groups: Groups,
    sources: Mapping[str, str],
) -> Counts:
    """Write the run's folder; a run of imported results that is there gets the new cells too.

    A run has one cell for each model, revision and task: one with single documents before one
    without, then the last evaluation.

    Raises:
        UserError: the run is that of a job.
    """
    earlier = own_record(folder)
    counting: dict[tuple[str, str, str], Result] = {}
    for result in sorted(results, key=lambda one: (one.samples is not None, one.date)):
        counting[result.place] = result
    rows = {place: _manifest_row(result) for place, result in counting.items()}
    if earlier is not None:
        rows = _with_earlier(store, folder, rows, counting)
    ordered = [rows[place] for place in sorted(rows)]
    folder.write_manifest(pa.Table.from_pylist(ordered, schema=MANIFEST))
    record = _record(folder.run, earlier, results, groups, sources, ordered)
    folder.write_job(record.model_dump_json(indent=1))
    folder.write_progress(_progress(len(ordered)))
    keys, used = ({result.key for result in of} for of in (results, counting.values()))
    return Counts(cells=len(keys), repeated=len(keys - used), in_run=len(ordered))


def own_record(folder: RunFolder) -> ImportRecord | None:
    """The record of the run, None where there is no run yet.

    Raises:
        UserError: the run is that of a job.
    """
    if not folder.exists():
        return None
    record = read_record(folder)
    if record is None:
        raise UserError(f"--name: {folder.run!r} is the run of a job; choose another name")
    return record


def _with_earlier(
    store: Store,
    folder: RunFolder,
    rows: Mapping[tuple[str, str, str], Row],
    counting: Mapping[tuple[str, str, str], Result],
) -> dict[tuple[str, str, str], Row]:
    """Add the run's earlier cells; one with single documents is not replaced by one without."""
    kept = folder.read_manifest().to_pylist()
    before = {(row["model"], row["revision"], row["task"]): row for row in kept}
    contested = [before[place]["cell_key"] for place in before.keys() & rows.keys()]
    items = store.table("items", contested, ["cell_key"])
    logged = set(items["cell_key"].to_pylist())
    merged = {**before, **rows}
    for place in before.keys() & rows.keys():
        if before[place]["cell_key"] in logged and counting[place].samples is None:
            merged[place] = before[place]
    return merged


def _manifest_row(result: Result) -> Row:
    return {
        "cell_key": result.key,
        "kind": KIND,
        "model": result.origin.model,
        "revision": result.origin.revision,
        "condition": CONDITION,
        "num_neurons": 0,
        "family": CONDITION,
        "is_baseline": True,
        "task": result.name,
        "task_kind": TASK_KIND,
    }


def _record(
    run: str,
    earlier: ImportRecord | None,
    results: Iterable[Result],
    groups: Groups,
    sources: Mapping[str, str],
    rows: Sequence[Row],
) -> ImportRecord:
    steps = dict(earlier.steps) if earlier else {}
    for result in results:
        steps[result.origin.model, result.origin.revision] = result.origin.step
    checkpoints = tuple(
        ImportedCheckpoint(model=model, revision=revision, step=step)
        for (model, revision), step in sorted(steps.items(), key=_by_step)
    )
    members = {name: set(parts) for name, parts in (earlier.groups if earlier else {}).items()}
    for name, parts in groups.items():
        members.setdefault(name, set()).update(parts)
    grouped = {task for parts in members.values() for task in parts}
    tasks = {*members, *(str(row["task"]) for row in rows)} - grouped
    return ImportRecord(
        name=run,
        model={one.model: _model(one.model, checkpoints) for one in checkpoints},
        suite={name: {"kind": TASK_KIND, "task": name} for name in sorted(tasks)},
        checkpoints=checkpoints,
        groups={name: tuple(sorted(parts)) for name, parts in sorted(members.items())},
        sources={**(earlier.sources if earlier else {}), **sources},
    )


def _by_step(entry: tuple[tuple[str, str], int | None]) -> tuple[str, bool, int, str]:
    """Order of checkpoints: models by name, then by step; those without one last."""
    (model, revision), step = entry
    return model, step is None, step or 0, revision


def _model(name: str, checkpoints: Iterable[ImportedCheckpoint]) -> dict[str, Any]:
    own = [one.revision for one in checkpoints if one.model == name]
    shown = own[0] if len(own) == 1 else f"{own[0]} to {own[-1]} ({len(own)} checkpoints)"
    return {"path": name, "revision": shown}


def _progress(cells: int) -> dict[str, Any]:
    """What ``sweeper status`` and ``sweeper ls`` read."""
    return {
        "state": "imported",
        "cells_expected": cells,
        "cells_done": cells,
        "cells_reused": 0,
        "cells_failed": 0,
        "elapsed_seconds": 0.0,
        "eta_seconds": None,
        "workers": {},
        "updated_at": time.time(),
    }
