"""Gather from a store what a report is made from."""

import json
from collections.abc import Iterable

import pandas as pd

from sweeper.report.data import CHECKPOINT, ReportData
from sweeper.store import RunFolder, Store


def collect(
    store: Store,
    folder: RunFolder,
    estimates: pd.DataFrame,
    levels: pd.DataFrame,
    seed_effects: pd.DataFrame,
) -> ReportData:
    """Put together the data of a run's report.

    Args:
        store: the store, refreshed.
        folder: the run's folder.
        estimates: effects (``aggregate.estimate``).
        levels: values under each condition (``aggregate.levels``).
        seed_effects: effect of every single seed (``aggregate.seed_effects``).
    """
    manifest: pd.DataFrame = folder.read_manifest().to_pandas()
    return ReportData(
        estimates=estimates,
        levels=levels,
        seed_effects=seed_effects,
        neurons=_census(store, manifest),
        selected=_selected(store, manifest),
        cells=_rows(store, "cells", manifest["cell_key"]),
        manifest=manifest,
        job=json.loads(folder.read_job()),
        origins={checkpoint.model: checkpoint.origin for checkpoint in folder.read_checkpoints()},
    )


def _rows(store: Store, table: str, keys: Iterable[str]) -> pd.DataFrame:
    rows: pd.DataFrame = store.table(table, set(keys)).to_pandas()
    return rows


def _census(store: Store, manifest: pd.DataFrame) -> pd.DataFrame:
    """The censuses' rows with the job's names of model and revision."""
    names = manifest.loc[manifest["kind"] == "census", ["cell_key", *CHECKPOINT]]
    return _rows(store, "neurons", names["cell_key"]).merge(names, on="cell_key")


def _selected(store: Store, manifest: pd.DataFrame) -> pd.DataFrame:
    """One row per clamped neuron of the conditions that are not drawn at random."""
    chosen = manifest[manifest["seed"].isna() & manifest["operation"].notna()]
    names = chosen[["condition_key", *CHECKPOINT, "condition", "seed"]].drop_duplicates()
    sets = _rows(store, "conditions", names["condition_key"])[["condition_key", "layer", "neurons"]]
    exploded = sets.explode("neurons").rename(columns={"neurons": "neuron"})
    return exploded.merge(names, on="condition_key").drop(columns="condition_key")
