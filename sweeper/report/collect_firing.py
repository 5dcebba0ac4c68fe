"""Gather from a store what a report says about when neurons fire."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from sweeper.aggregate.firing import (
    detectors_by_layer,
    explained_by_layer,
    firing_by_layer,
    positional_by_layer,
    positional_neurons,
)
from sweeper.report.data import CHECKPOINT, first_checkpoints
from sweeper.report.firing_data import FiringData
from sweeper.store import Store

NUM_DETECTORS = 40
"""Most detectors of each n that a checkpoint's tables list."""
NUM_CURVES = 4
"""Most positional neurons of each type whose curve is drawn."""
COUNTS = ["corpus", "layer", "neuron", "active", "num_tokens", "num_windows"]
POSITIONAL = ["information", "positional", "type", "strong"]
NGRAMS = [
    *("layer", "neuron", "n", "activations", "to_cover", "detector", "num_covered"),
    *("projection", "suppresses"),
]
DETECTED = ["layer", "neuron", "n", "tokens", "text", "count", "occurrences"]
PROJECTED = ["layer", "neuron", "direction", "rank", "text", "logit"]
NAMED = ["corpus", "type", "direction"]
"""Columns of few different words."""

Parts = dict[str, pd.DataFrame]


def collect_firing(store: Store, manifest: pd.DataFrame, job: Mapping[str, Any]) -> FiringData:
    """Read one checkpoint at a time: all neurons of many fill the memory.

    Args:
        store: the store, refreshed.
        manifest: the cells of the run.
        job: the job; it tells up to how many n-grams were counted.
    """
    if not job.get("firing"):
        return FiringData()
    most_ngrams = int(job["firing"]["most_ngrams"])
    cells = manifest[manifest["kind"].isin(["firing", "ngrams"])]
    drawn, _ = first_checkpoints(cells[cells["kind"] == "firing"])
    found: list[Parts] = []
    for (model, revision), rows in cells.groupby(CHECKPOINT, sort=False):
        names = (str(model), str(revision))
        keys = dict(zip(rows["kind"], rows["cell_key"], strict=True))
        parts = _firing(store, keys["firing"], names in drawn) if "firing" in keys else {}
        if "ngrams" in keys:
            parts |= _ngrams(store, keys["ngrams"], parts, most_ngrams, names in drawn)
        found.append({name: _named(frame, names) for name, frame in parts.items()})
    return FiringData(**_joined(found))


def _named(frame: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    return frame.assign(**dict(zip(CHECKPOINT, names, strict=True)))


def _joined(found: Iterable[Parts]) -> Parts:
    """Frames of all checkpoints; one that has no rows anywhere is left to its default."""
    filled: dict[str, list[pd.DataFrame]] = {}
    for parts in found:
        for name, frame in parts.items():
            if not frame.empty:
                filled.setdefault(name, []).append(frame)
    return {name: pd.concat(frames, ignore_index=True) for name, frames in filled.items()}


def _cell(store: Store, table: str, key: str, columns: Sequence[str]) -> pd.DataFrame:
    """Rows of a cell; words that repeat are held as categories."""
    encoded = [name for name in NAMED if name in columns]
    frames = [piece.to_pandas() for piece in store.stream(table, [key], columns, encoded)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(columns))


def _firing(store: Store, key: str, is_drawn: bool) -> Parts:
    rows = _cell(store, "firing", key, [*COUNTS, *POSITIONAL])
    positional = positional_neurons(rows)
    parts = {
        "by_layer": firing_by_layer(rows),
        "positional_by_layer": positional_by_layer(positional),
    }
    if is_drawn and not positional.empty:
        most = _most_informative(positional)
        curves = _cell(store, "positions", key, ["layer", "neuron", "frequency"])
        parts |= {"positional": positional, "curves": most.merge(curves, on=["layer", "neuron"])}
    return parts


def _most_informative(positional: pd.DataFrame) -> pd.DataFrame:
    """So many of each type, with their ``rank`` in it from 0."""
    ordered = positional.sort_values("information", ascending=False, kind="stable")
    ranked = ordered.assign(rank=ordered.groupby("type").cumcount())
    return ranked[ranked["rank"] < NUM_CURVES]


def _ngrams(store: Store, key: str, known: Parts, most_ngrams: int, is_drawn: bool) -> Parts:
    rows = _cell(store, "ngrams", key, NGRAMS)
    detected = _cell(store, "detected", key, DETECTED)
    last = max((int(frame["layer"].max()) for frame in _filled(known, rows)), default=-1)
    layers = range(last + 1)
    parts = {
        "explained": explained_by_layer(rows, layers, most_ngrams),
        "detectors_by_layer": detectors_by_layer(rows, detected, layers),
    }
    if not is_drawn:
        return parts
    found = rows[rows["detector"].astype(bool)].sort_values(
        "activations", ascending=False, kind="stable"
    )
    listed = found.groupby("n").head(NUM_DETECTORS).drop(columns=["to_cover", "detector"])
    neurons = listed[["layer", "neuron", "n"]]
    projected = _cell(store, "projections", key, PROJECTED)
    return parts | {
        "detectors": listed,
        "detected": neurons.merge(detected, on=["layer", "neuron", "n"]).drop(columns="tokens"),
        "projections": neurons[neurons["n"] == 1].merge(projected, on=["layer", "neuron"]),
    }


def _filled(known: Parts, rows: pd.DataFrame) -> list[pd.DataFrame]:
    frames = [*([known["by_layer"]] if "by_layer" in known else []), rows]
    return [frame for frame in frames if not frame.empty]
