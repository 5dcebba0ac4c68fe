"""Effects against the baseline, with intervals and tests."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sweeper.aggregate.contrasts import GroupSums, ItemTable
from sweeper.aggregate.design import Arm, Block, blocks
from sweeper.aggregate.intervals import FloatArray, ratios, seed_interval
from sweeper.aggregate.randomisation import randomisation_floor, randomisation_p
from sweeper.aggregate.summary import Summary, as_frame, seed_means, summarise
from sweeper.records import Estimate, Interval


def estimate(
    manifest: pd.DataFrame,
    items: pd.DataFrame,
    cells: pd.DataFrame,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Estimate every condition's effect against the same checkpoint's baseline, item by item.

    One row per model, revision, task, metric, group ("all", then each group where there are
    several) and condition. The effect of a random condition is the mean over its seeds; its cluster
    intervals take items as the random unit, its seed interval the seeds. Cells without results are
    left out: ``num_seeds`` and ``num_controls`` count the ones there are. Without results of the
    baseline a task has no rows.

    Args:
        manifest: the cells of the run, one row per cell and condition.
        items: committed rows of items; those of other cells are ignored.
        cells: committed and failed cells, for the baseline's ``noise``.
        confidence: nominal coverage of all intervals.
        resamples: resamples of the cluster bootstrap.

    Returns:
        Columns are the fields of ``records.Estimate``; the order of input rows has no influence.

    Raises:
        ValueError: cells of one task differ in their items, an item is doubled, a score is missing,
            NaN or infinite, or the manifest contradicts itself.
    """
    table = ItemTable(items, manifest["cell_key"])
    noise = _noise(cells)
    rows: list[Estimate] = []
    for block in blocks(manifest, table.__contains__):
        baseline = block.baseline()
        arms = tuple(arm for arm in block.arms if not arm.is_baseline)
        if baseline is None or not arms:
            continue
        level = noise.get(block.cell_keys[baseline], math.nan)
        for metric, panel in table.panels(block.cell_keys, block.task_kind).items():
            pairs = zip(panel.sums(), panel.minus(baseline).sums(), strict=True)
            for levels, differences in pairs:
                contrast = _Contrast(
                    block=block,
                    metric=metric,
                    arms=arms,
                    baseline=float(levels.values()[baseline]),
                    levels=ratios(seed_means(levels, arms), levels.denominators),
                    differences=differences,
                    summary=summarise(differences, arms, block.task, confidence, resamples),
                    noise=level,
                )
                rows.extend(contrast.estimates(confidence))
    return as_frame(Estimate, rows)


def _noise(cells: pd.DataFrame) -> dict[str, float]:
    """Noise of every cell that was scored twice; the largest where a cell has several rows."""
    known = cells[(cells["status"] == "done") & cells["noise"].notna()]
    largest: dict[str, float] = {}
    for key, noise in zip(known["cell_key"], known["noise"], strict=True):
        largest[str(key)] = max(float(noise), largest.get(str(key), 0.0))
    return largest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Contrast:
    """All J conditions of a block against its baseline: one metric, one group."""

    block: Block
    metric: str
    arms: tuple[Arm, ...]
    """Without the baseline."""
    baseline: float
    levels: FloatArray
    """The metric under each condition, (J,)."""
    differences: GroupSums
    """Paired differences of all K cells."""
    summary: Summary
    noise: float

    def estimates(self, confidence: float) -> Iterator[Estimate]:
        """Give one estimate per condition."""
        by_cell = self.differences.values()
        for place, arm in enumerate(self.arms):
            seeds = by_cell[list(arm.columns)] if arm.num_seeds else by_cell[:0]
            interval = seed_interval(seeds, confidence=confidence)
            yield self._estimate(place, arm, by_cell[self.block.controls(arm)], interval)

    def _estimate(
        self, place: int, arm: Arm, controls: FloatArray, over_seeds: Interval
    ) -> Estimate:
        effect = float(self.summary.values[place])
        return Estimate(
            model=self.block.model,
            revision=self.block.revision,
            task=self.block.task,
            metric=self.metric,
            group=self.differences.group,
            condition=arm.condition,
            operation=arm.operation,
            num_seeds=arm.num_seeds,
            num_items=self.differences.num_items,
            num_clusters=len(self.differences.denominators),
            num_neurons=arm.num_neurons,
            baseline=self.baseline,
            value=float(self.levels[place]),
            effect=effect,
            ratio=float(np.exp(effect)) if self.metric == "nll" else math.nan,
            **self.summary.ends(place),
            seed_low=over_seeds.low,
            seed_high=over_seeds.high,
            p_random=randomisation_p(effect, controls),
            p_floor=randomisation_floor(len(controls)),
            num_controls=len(controls),
            noise=self.noise,
        )
