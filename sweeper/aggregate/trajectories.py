"""Effects and levels over the revisions of a model, with bands that hold for all of them at once.

Shapes: C clusters, R revisions, J effects and levels.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sweeper.aggregate.bootstrap import cluster_bootstrap, resampling_generator
from sweeper.aggregate.contrasts import GroupSums
from sweeper.aggregate.design import Arm, blocks
from sweeper.aggregate.intervals import cluster_robust
from sweeper.aggregate.sources import Items, source_of
from sweeper.aggregate.summary import as_frame, beside, seed_means
from sweeper.records import Checkpoint
from sweeper.store.dynamics import TrajectoryPoint

EFFECT, LEVEL = "effect", "level"
_log = logging.getLogger("sweeper")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A revision among those of its model."""

    checkpoint: Checkpoint
    index: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AtRevision:
    """What is known of one task, metric and group at one revision."""

    place: Place
    arms: tuple[Arm, ...]
    """The baseline first."""
    sums: GroupSums
    """Its level, and the paired differences of the other arms from it: means over seeds, (C, J)."""


Series = tuple[str, str, str, str]
"""Model, task, metric and group."""


def places_of(checkpoints: Sequence[Checkpoint]) -> dict[tuple[str, str], Place]:
    """The revisions, by model and name, of models that have two or more."""
    found: dict[tuple[str, str], Place] = {}
    for model in dict.fromkeys(checkpoint.model for checkpoint in checkpoints):
        mine = [checkpoint for checkpoint in checkpoints if checkpoint.model == model]
        if len(mine) > 1:
            found |= {
                (model, checkpoint.revision): Place(checkpoint=checkpoint, index=index)
                for index, checkpoint in enumerate(mine)
            }
    return found


def by_revision(
    manifest: pd.DataFrame, items: Items, checkpoints: Sequence[Checkpoint]
) -> dict[Series, list[AtRevision]]:
    """Totals by cluster of every task at every revision, in the job's order of revisions.

    Revisions without results of the baseline are left out, and models with one revision; with a
    warning, what revisions measured on clusters that differ in name or size.

    Args:
        manifest: the cells of the run, one row per cell and condition.
        items: committed rows of items, or the store's; those of other cells are ignored.
        checkpoints: all of the run; those of a model in the job's order.

    Raises:
        ValueError: as for ``estimate``.
    """
    places = places_of(checkpoints)
    named = zip(manifest["model"], manifest["revision"], strict=True)
    manifest = manifest[np.array([pair in places for pair in named], dtype=bool)]
    source = source_of(items, manifest["cell_key"])
    found: dict[Series, list[AtRevision]] = {}
    for block in blocks(manifest, source.__contains__):
        baseline = block.baseline()
        if baseline is None:
            continue
        place = places[block.model, block.revision]
        level = next(arm for arm in block.arms if arm.is_baseline)
        others = [arm for arm in block.arms if not arm.is_baseline]
        for metric, whole in source.sums(block.cell_keys, block.task_kind, baseline).items():
            for levels, differences in zip(whole.levels, whole.differences, strict=True):
                sums = beside([levels.of([baseline]), seed_means(differences, others)])
                moment = AtRevision(place=place, arms=(level, *others), sums=sums)
                series = (block.model, block.task, metric, levels.group)
                found.setdefault(series, []).append(moment)
    return {
        series: sorted(parts, key=lambda part: part.place.index)
        for series, parts in found.items()
        if _are_alike(series, parts)
    }


def _are_alike(series: Series, parts: Sequence[AtRevision]) -> bool:
    """Whether all revisions have the same clusters of items; says so where they have not."""
    try:
        beside([part.sums for part in parts])
    except ValueError as error:
        _log.warning("%s: left out over revisions: %s", " ".join(series), error)
        return False
    return True


def trajectories(
    found: Mapping[Series, Sequence[AtRevision]], *, confidence: float = 0.95, resamples: int = 2000
) -> pd.DataFrame:
    """Give every effect, and the baseline's level, at every revision: a ``TrajectoryPoint`` a row.

    The band of a condition holds for all its revisions at once. Its critical value is that of the
    largest distance over the revisions, in resamples of the clusters that all of them share, since
    they score the same items (as for groups of layers, ``aggregate.bootstrap``). Seeds of random
    conditions are averaged, and not random in these intervals.

    Args:
        found: of ``by_revision``.
        confidence: nominal coverage of intervals and bands.
        resamples: resamples of the cluster bootstrap.
    """
    rows = [
        row
        for series, parts in found.items()
        for row in _points(series, parts, confidence, resamples)
    ]
    return as_frame(TrajectoryPoint, rows)


def _points(
    series: Series, parts: Sequence[AtRevision], confidence: float, resamples: int
) -> Iterator[TrajectoryPoint]:
    _model, task, _metric, group = series
    sums = beside([part.sums for part in parts])
    measure = sums.measure()
    robust = cluster_robust([measure]).bounds(confidence)
    generator = resampling_generator(task, group)
    resampled = cluster_bootstrap([measure], [generator], resamples)
    owners = [(part.place, arm) for part in parts for arm in part.arms]
    columns: dict[str, list[int]] = {}
    for column, (_, arm) in enumerate(owners):
        columns.setdefault(arm.condition, []).append(column)
    for mine in columns.values():
        band = resampled.band(mine, confidence)
        for place, column in enumerate(mine):
            yield TrajectoryPoint(
                **_names(series, *owners[column]),
                num_revisions=len(mine),
                num_items=sums.num_items,
                num_clusters=sums.num_clusters,
                value=float(resampled.centre[column]),
                low=float(robust[0][column]),
                high=float(robust[1][column]),
                band_low=float(band[0][place]),
                band_high=float(band[1][place]),
            )


def _names(series: Series, place: Place, arm: Arm) -> dict[str, Any]:
    """What a point is of."""
    model, task, metric, group = series
    return {
        "model": model,
        "revision": place.checkpoint.revision,
        "step": place.checkpoint.step,
        "place": place.index,
        "task": task,
        "metric": metric,
        "group": group,
        "condition": arm.condition,
        "operation": arm.operation,
        "family": arm.family,
        "first_layer": arm.first_layer,
        "last_layer": arm.last_layer,
        "quantity": LEVEL if arm.is_baseline else EFFECT,
        "num_seeds": arm.num_seeds,
        "num_neurons": arm.num_neurons,
    }
