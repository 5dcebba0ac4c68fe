"""Gather from a store what the report shows of a routing analysis."""

import pandas as pd

from sweeper.report.data import CHECKPOINT, first_checkpoints, of_checkpoints
from sweeper.report.routing_data import TABLES
from sweeper.store import Store


def collect_routing(store: Store, manifest: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Tables of the routing analysis by name, with model and revision in the job's order.

    Ranges of random splits are those of the checkpoints that figures draw: nothing else reads
    them, and each layer has a thousand.

    Args:
        store: the store, refreshed.
        manifest: the run's cells.

    Returns:
        ``routing_data.TABLES`` that the run has cells for; none of a job without routing.
    """
    found: dict[str, pd.DataFrame] = {}
    for table, kind in TABLES.items():
        cells = manifest.loc[manifest["kind"] == kind, ["cell_key", *CHECKPOINT]]
        if table == "routing_splits" and not cells.empty:
            drawn, _ = first_checkpoints(found["routing_layers"])
            cells = of_checkpoints(cells, drawn)
        if not cells.empty:
            rows = store.table(table, set(cells["cell_key"])).to_pandas()
            found[table] = cells.merge(rows, on="cell_key")
    return found
