"""Levels of a metric under each condition, the baseline among them."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from sweeper.aggregate.contrasts import GroupSums
from sweeper.aggregate.design import Block, blocks
from sweeper.aggregate.sources import Items, source_of
from sweeper.aggregate.summary import as_frame, summarise


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A metric under one condition; NaN stands for "too little data"."""

    model: str
    revision: str
    task: str
    metric: str
    """``accuracy``, ``margin`` (nats), ``nll`` (nats per token), or a metric of a harness task."""
    group: str
    condition: str
    operation: str | None
    family: str
    first_layer: int | None
    last_layer: int | None
    """The condition's layer group; None where it is no part of a sweep over layers."""
    is_baseline: bool
    num_seeds: int
    num_items: int
    num_clusters: int
    num_neurons: float
    value: float
    """Mean over items and seeds."""
    cluster_low: float
    cluster_high: float
    """Cluster-robust t interval; not clipped to the metric's range."""
    bootstrap_low: float
    bootstrap_high: float
    """Cluster-bootstrap interval; not clipped either."""


def levels(
    manifest: pd.DataFrame,
    items: Items,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Give every condition's level with intervals over clusters, one row per ``Level``.

    Levels carry the differences between items as well: compare conditions by their effects
    (``estimate``), never by the overlap of these intervals.

    Raises:
        ValueError: as for ``estimate``.
    """
    source = source_of(items, manifest["cell_key"])
    rows = [
        level
        for block in blocks(manifest, source.__contains__)
        for metric, found in source.sums(block.cell_keys, block.task_kind, block.baseline()).items()
        for sums in found.levels
        for level in _levels(block, metric, sums, confidence, resamples)
    ]
    return as_frame(Level, rows)


def _levels(
    block: Block, metric: str, sums: GroupSums, confidence: float, resamples: int
) -> Iterator[Level]:
    summary = summarise(sums, block.arms, block.task, confidence, resamples)
    for place, arm in enumerate(block.arms):
        yield Level(
            model=block.model,
            revision=block.revision,
            task=block.task,
            metric=metric,
            group=sums.group,
            condition=arm.condition,
            operation=arm.operation,
            family=arm.family,
            first_layer=arm.first_layer,
            last_layer=arm.last_layer,
            is_baseline=arm.is_baseline,
            num_seeds=arm.num_seeds,
            num_items=sums.num_items,
            num_clusters=sums.num_clusters,
            num_neurons=arm.num_neurons,
            value=float(summary.values[place]),
            **summary.ends(place),
        )
