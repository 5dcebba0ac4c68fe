"""Gather from a store what a report is made from."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import pandas as pd

from sweeper.records import Checkpoint
from sweeper.report.collect_examples import collect_examples
from sweeper.report.collect_firing import collect_firing
from sweeper.report.collect_routing import collect_routing
from sweeper.report.data import CHECKPOINT, ReportData, first_checkpoints, of_checkpoints
from sweeper.store import RunFolder, Store


def collect(
    store: Store,
    folder: RunFolder,
    estimates: pd.DataFrame,
    levels: pd.DataFrame,
    seed_effects: pd.DataFrame,
    contrasts: pd.DataFrame | None = None,
    dynamics: Mapping[str, pd.DataFrame] | None = None,
) -> ReportData:
    """Put together the data of a run's report.

    Args:
        store: the store, refreshed.
        folder: the run's folder.
        estimates: effects (``aggregate.estimate``).
        levels: values under each condition (``aggregate.levels``).
        seed_effects: effect of every single seed (``aggregate.seed_effects``).
        contrasts: the job's contrasts, where it has any.
        dynamics: results over training by name (``store.dynamics.DYNAMICS``), where there are any.
    """
    manifest: pd.DataFrame = folder.read_manifest().to_pandas()
    job = json.loads(folder.read_job())
    checkpoints = folder.read_checkpoints()
    examples, example_tokens = collect_examples(store, manifest)
    over_training = dynamics or {}
    return ReportData(
        estimates=estimates,
        levels=levels,
        neurons=_census(store, manifest),
        selected=_selected(store, manifest),
        cells=_rows(store, "cells", manifest["cell_key"]),
        manifest=manifest,
        job=job,
        origins={checkpoint.model: checkpoint.origin for checkpoint in checkpoints},
        checkpoints=_shapes(checkpoints),
        seed_effects=seed_effects,
        contrasts=pd.DataFrame() if contrasts is None else contrasts,
        trajectories=over_training.get("trajectories", pd.DataFrame()),
        cohorts=over_training.get("cohorts", pd.DataFrame()),
        correlations=over_training.get("correlations", pd.DataFrame()),
        matches=_of_kind(store, "matches", manifest, "match", ["condition", "matched_to"]),
        balance=_balance(store, manifest),
        neuron_pairs=_of_kind(store, "neuron_pairs", manifest, "profile"),
        neuron_tokens=_of_kind(store, "neuron_tokens", manifest, "profile"),
        examples=examples,
        example_tokens=example_tokens,
        firing=collect_firing(store, manifest, job),
        routing=collect_routing(store, manifest),
    )


def collect_imported(
    store: Store, folder: RunFolder, levels: pd.DataFrame, changes: pd.DataFrame
) -> ReportData:
    """Put together the data of a report on imported results.

    Args:
        store: the store, refreshed.
        folder: the run's folder.
        levels: at every checkpoint (``aggregate.imported_levels``).
        changes: between checkpoints (``aggregate.step_changes``).
    """
    manifest: pd.DataFrame = folder.read_manifest().to_pandas()
    nothing = pd.DataFrame()
    return ReportData(
        estimates=nothing,
        levels=nothing,
        neurons=nothing,
        selected=nothing,
        cells=_rows(store, "cells", manifest["cell_key"]),
        manifest=manifest,
        job=json.loads(folder.read_job()),
        step_levels=levels,
        step_changes=changes,
    )


def _rows(store: Store, table: str, keys: Iterable[str]) -> pd.DataFrame:
    rows: pd.DataFrame = store.table(table, set(keys)).to_pandas()
    return rows


def _of_kind(
    store: Store, table: str, manifest: pd.DataFrame, kind: str, names: Sequence[str] = ()
) -> pd.DataFrame:
    """Rows of all cells of a kind with the job's names of model, revision and what is asked for."""
    cells = manifest.loc[manifest["kind"] == kind, ["cell_key", *CHECKPOINT, *names]]
    return _rows(store, table, cells["cell_key"]).merge(cells, on="cell_key")


def _census(store: Store, manifest: pd.DataFrame) -> pd.DataFrame:
    """The neurons of the checkpoints that figures draw: all of many revisions fill the memory."""
    cells = manifest[manifest["kind"] == "census"]
    drawn, _ = first_checkpoints(cells)
    return _of_kind(store, "neurons", of_checkpoints(cells, drawn), "census")


def _balance(store: Store, manifest: pd.DataFrame) -> pd.DataFrame:
    """How like their targets the matched sets are; the cell key is the condition key."""
    matched = manifest[manifest["matched_to"].notna() & manifest["condition_key"].notna()]
    names = matched[["condition_key", *CHECKPOINT, "condition", "matched_to"]].drop_duplicates()
    return _rows(store, "balance", names["condition_key"]).merge(names, on="condition_key")


def _shapes(checkpoints: Iterable[Checkpoint]) -> pd.DataFrame:
    columns = [*CHECKPOINT, "num_layers", "num_neurons", "num_parameters", "step"]
    return pd.DataFrame([asdict(checkpoint) for checkpoint in checkpoints]).reindex(columns=columns)


def _selected(store: Store, manifest: pd.DataFrame) -> pd.DataFrame:
    """One row per clamped neuron of the sets that are neither random nor of groups of layers."""
    chosen = manifest[
        manifest["seed"].isna() & manifest["operation"].notna() & manifest["first_layer"].isna()
    ]
    names = chosen[["condition_key", *CHECKPOINT, "condition", "seed"]].drop_duplicates()
    sets = _rows(store, "conditions", names["condition_key"])[["condition_key", "layer", "neurons"]]
    exploded = sets.explode("neurons").rename(columns={"neurons": "neuron"})
    return exploded.merge(names, on="condition_key").drop(columns="condition_key")
