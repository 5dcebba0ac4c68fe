"""What the report shows of a routing analysis: its tables, and which layers are drawn."""

import pandas as pd

from sweeper.report import numbers
from sweeper.report.data import CHECKPOINT, ReportData, checkpoint_name, complete
from sweeper.store.analysis_schemas import ANALYSES

TABLES = {
    "routing_layers": "routing",
    "routing_neurons": "routing",
    "routing_levels": "routing",
    "routing_patterns": "routing",
    "routing_predictions": "routing",
    "routing_thresholds": "routing",
    "routing_splits": "routing",
    "removal": "removal",
}
"""Table of the store -> kind of the cells that fill it."""
KEYS = {
    "routing_layers": ["layer"],
    "routing_neurons": ["layer", "role", "place"],
    "routing_levels": ["layer", "level"],
    "routing_patterns": ["layer", "rank"],
    "routing_predictions": ["layer"],
    "routing_thresholds": ["layer", "threshold"],
    "routing_splits": ["layer", "split"],
    "removal": ["layer", "intervention", "level"],
}
"""Columns that order the rows of a checkpoint."""
ROLES = ("handler", "consensus", "gateway", "candidate")
PHASES = ("scaffold", "diffuse", "decision")
INTERVENTIONS = {
    "remove_mlp": "MLP removed",
    "handler_zero": "handler zeroed",
    "handler_on": "handler clamped on",
}
SWITCHED = (
    "MLP removed: the layer's MLP adds nothing. Handler zeroed: the exception handler's "
    "pre-activation is 0; clamped on: everywhere its mean over the tokens at which it fires."
)
"""What the interventions are, for people."""
MAX_LAYERS = 8
"""Most layers of a checkpoint with panels of their own; the tables have all of them."""


def routing_rows(data: ReportData, table: str) -> pd.DataFrame:
    """Rows of a table of ``TABLES`` with all its columns, checkpoint by checkpoint, by ``KEYS``."""
    columns = [*CHECKPOINT, *ANALYSES[table].names]
    rows = complete(data.routing.get(table, pd.DataFrame()), columns)
    rows = rows.assign(checkpoint=rows.groupby(CHECKPOINT, sort=False).ngroup())
    ordered = rows.sort_values(["checkpoint", *KEYS[table]], kind="stable", key=_places)
    return ordered.drop(columns="checkpoint").reset_index(drop=True)


def _places(column: pd.Series) -> pd.Series:
    """What a column is sorted by: words by their place, all else by itself."""
    words = {"role": ROLES, "intervention": tuple(INTERVENTIONS)}.get(str(column.name))
    if words is None:
        return column
    return column.map({word: place for place, word in enumerate(words)})


def quorum_layers(data: ReportData) -> pd.DataFrame:
    """Rows of the layers that have an exception handler and consensus neurons."""
    layers = routing_rows(data, "routing_layers")
    return layers[layers["phase"] == "decision"]


def widest(layers: pd.DataFrame) -> tuple[list[int], str]:
    """The layers of a checkpoint to draw one by one, and a note where there are more.

    Args:
        layers: rows of a checkpoint of :func:`quorum_layers`.
    """
    ranked = layers.sort_values("range", ascending=False, kind="stable")["layer"]
    shown = sorted(int(layer) for layer in ranked.head(MAX_LAYERS))
    if len(ranked) <= MAX_LAYERS:
        return shown, ""
    note = (
        f" The {MAX_LAYERS} layers with the widest range of {len(ranked)} with a quorum are "
        "drawn; the tables have all of them."
    )
    return shown, note


def split_p(reaching: object, splits: object) -> float:
    """Randomisation p of a range against random splits: (reaching + 1) / (splits + 1).

    NaN where there are none, for want of neurons or because the job asks for none.
    """
    if numbers.is_missing(reaching) or numbers.is_missing(splits) or splits == 0:
        return float("nan")
    return (float(reaching) + 1) / (float(splits) + 1)  # type: ignore[arg-type]


def percent_change(change: object) -> float:
    """Change of perplexity in % by a change of the mean loss in nats: 100 (exp(change) - 1)."""
    if numbers.is_missing(change):
        return float("nan")
    return 100 * (numbers.exponential(float(change)) - 1)  # type: ignore[arg-type]


def without_quorum(data: ReportData) -> list[str]:
    """A sentence for each checkpoint that has no layer with a quorum."""
    layers = routing_rows(data, "routing_layers")
    return [
        f"{checkpoint_name(str(model), str(revision))}: none of {len(rows)} layers has a quorum "
        "(an exception handler together with consensus neurons), so there is no consensus "
        "gradient, no range to compare with random splits, and no layer to remove."
        for (model, revision), rows in layers.groupby(CHECKPOINT, sort=False)
        if not (rows["phase"] == "decision").any()
    ]
