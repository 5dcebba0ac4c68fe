"""The effect of every single random draw, for figures and for a look at the controls."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sweeper.aggregate.design import Arm, Block, blocks
from sweeper.aggregate.intervals import FloatArray
from sweeper.aggregate.sources import Items, source_of
from sweeper.aggregate.summary import as_frame


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedEffect:
    """Effect of one draw of a random condition, in the metric's unit."""

    model: str
    revision: str
    task: str
    metric: str
    group: str
    condition: str
    family: str
    first_layer: int | None
    last_layer: int | None
    seed: int
    effect: float


def seed_effects(manifest: pd.DataFrame, items: Items) -> pd.DataFrame:
    """Effects of the random conditions' draws against the baseline; one row per ``SeedEffect``.

    Their mean is the condition's estimate, their spread its seed interval.

    Raises:
        ValueError: as for ``estimate``.
    """
    source = source_of(items, manifest["cell_key"])
    rows: list[SeedEffect] = []
    for block in blocks(manifest, source.__contains__):
        baseline = block.baseline()
        if baseline is None:
            continue
        for metric, found in source.sums(block.cell_keys, block.task_kind, baseline).items():
            for sums in found.differences:
                rows.extend(_rows(block, metric, sums.group, sums.values()))
    return as_frame(SeedEffect, rows)


def _rows(block: Block, metric: str, group: str, effects: FloatArray) -> Iterator[SeedEffect]:
    for arm in block.arms:
        for seed, effect in _draws(arm, effects):
            yield SeedEffect(
                model=block.model,
                revision=block.revision,
                task=block.task,
                metric=metric,
                group=group,
                condition=arm.condition,
                family=arm.family,
                first_layer=arm.first_layer,
                last_layer=arm.last_layer,
                seed=seed,
                effect=effect,
            )


def _draws(arm: Arm, effects: FloatArray) -> Iterator[tuple[int, float]]:
    for seed, effect in zip(arm.seeds, np.take(effects, arm.columns), strict=True):
        if seed is not None:
            yield seed, float(effect)
