"""The run's manifest: which cell of the store is what in this job, by the job's own names."""

from collections.abc import Iterable

import pandas as pd
import pyarrow as pa

from sweeper.plan.layers import Concrete, concrete_conditions
from sweeper.records import Cell, Checkpoint, Condition
from sweeper.spec.condition import MatchedSet, RandomSet
from sweeper.spec.job import JobSpec
from sweeper.store.schemas import MANIFEST


def manifest_rows(
    job: JobSpec, checkpoint: Checkpoint, cells: Iterable[Cell], conditions: Iterable[Condition]
) -> pd.DataFrame:
    """Describe cells in the job's words: one row each, columns of the table ``manifest``.

    Args:
        job: the job.
        checkpoint: whose cells.
        cells: what is to be described.
        conditions: the checkpoint's resolved conditions (a census has none).
    """
    known = {(condition.name, condition.seed): condition for condition in conditions}
    named = concrete_conditions(job, checkpoint)
    return pd.DataFrame(
        [
            _row(job, cell, named.get(cell.condition), known.get((cell.condition, cell.seed)))
            for cell in cells
        ]
    )


def _row(
    job: JobSpec, cell: Cell, named: Concrete | None, condition: Condition | None
) -> dict[str, object]:
    neurons = named.spec.neurons if named else None
    first, last = named.layers if named and named.layers else (None, None)
    return {
        "cell_key": cell.key,
        "kind": cell.kind,
        "model": cell.model,
        "revision": cell.revision,
        "condition": cell.condition,
        "seed": cell.seed,
        "condition_key": cell.condition_key,
        "operation": named.spec.operation if named else None,
        "num_neurons": condition.num_neurons if condition else 0,
        "control_of": neurons.match if isinstance(neurons, RandomSet) else None,
        "matched_to": neurons.match if isinstance(neurons, MatchedSet) else None,
        "family": named.family if named else cell.condition,
        "first_layer": first,
        "last_layer": last,
        "is_baseline": named is not None and named.spec.operation is None,
        "task": cell.task,
        "task_kind": job.suite[cell.task].kind if cell.kind == "score" else cell.kind,
    }


def manifest_table(parts: Iterable[pd.DataFrame]) -> pa.Table:
    """All rows in the schema of the table ``manifest``."""
    rows = [row for part in parts for row in part.to_dict("records")]
    clean = [{key: None if pd.isna(value) else value for key, value in row.items()} for row in rows]
    return pa.Table.from_pylist(clean, schema=MANIFEST)


def conditions_table(conditions: Iterable[Condition]) -> pd.DataFrame:
    """The neuron sets: one row per condition and layer, columns of the table ``conditions``."""
    distinct = {condition.key: condition for condition in conditions}
    return pd.DataFrame(
        [
            {
                "cell_key": key,
                "condition_key": key,
                "layer": layer,
                "neurons": list(chosen),
                "values": list(condition.values[layer]) if layer in condition.values else None,
            }
            for key, condition in distinct.items()
            for layer, chosen in condition.neurons.items()
        ],
        columns=["cell_key", "condition_key", "layer", "neurons", "values"],
    )
