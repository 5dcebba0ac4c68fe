"""Effects against the baseline, with intervals and tests."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sweeper.aggregate.contrasts import GroupSums
from sweeper.aggregate.design import Arm, Block, blocks
from sweeper.aggregate.holm import with_holm
from sweeper.aggregate.intervals import FloatArray, crossed, seed_interval
from sweeper.aggregate.randomisation import randomisation_floor, randomisation_p
from sweeper.aggregate.sources import Items, Source, source_of
from sweeper.aggregate.summary import Summary, as_frame, seed_means, summarise
from sweeper.records import Estimate, Interval


def estimate(
    manifest: pd.DataFrame,
    items: Items,
    cells: pd.DataFrame,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Estimate every condition's effect against the same checkpoint's baseline, item by item.

    One row per model, revision, task, metric, group ("all", then each group where there are
    several) and condition. The effect of a random condition is the mean over its seeds; its cluster
    intervals take items as the random unit, its seed interval the seeds, its two-way interval both.
    Cells without results are left out: ``num_seeds`` and ``num_controls`` count the ones there are.
    Without results of the baseline a task has no rows.

    Args:
        manifest: the cells of the run, one row per cell and condition.
        items: committed rows of items, or the store's; those of other cells are ignored.
        cells: committed and failed cells, for the baseline's ``noise``.
        confidence: nominal coverage of all intervals.
        resamples: resamples of the cluster bootstrap.

    Returns:
        Columns are the fields of ``records.Estimate``; the order of input rows has no influence.

    Raises:
        ValueError: cells of one task differ in their items, an item is doubled, a score is missing,
            NaN or infinite, or the manifest contradicts itself.
    """
    source = source_of(items, manifest["cell_key"])
    noise = _noise(cells)
    rows = [
        row
        for block in blocks(manifest, source.__contains__)
        for found in _contrasts(block, source, noise, confidence, resamples)
        for row in found.estimates(confidence)
    ]
    return with_holm(as_frame(Estimate, rows))


def _contrasts(
    block: Block, source: Source, noise: dict[str, float], confidence: float, resamples: int
) -> Iterator["_Contrast"]:
    """One for every metric and group of a block that has a baseline and something beside it."""
    baseline = block.baseline()
    arms = tuple(arm for arm in block.arms if not arm.is_baseline)
    if baseline is None or not arms:
        return
    for metric, sums in source.sums(block.cell_keys, block.task_kind, baseline).items():
        for levels, differences in zip(sums.levels, sums.differences, strict=True):
            yield _Contrast(
                block=block,
                metric=metric,
                arms=arms,
                baseline=float(levels.values()[baseline]),
                levels=seed_means(levels, arms).values(),
                differences=differences,
                summary=summarise(differences, arms, block.task, confidence, resamples),
                noise=noise.get(block.cell_keys[baseline], math.nan),
            )


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
            yield self._estimate(
                place,
                arm,
                controls=by_cell[self.block.controls(arm)],
                over_seeds=seed_interval(seeds, confidence=confidence),
                two_way=self._two_way(arm, confidence),
                excess=self._excess(arm, confidence),
            )

    def _two_way(self, arm: Arm, confidence: float) -> Interval:
        """Seeds and clusters both random."""
        if not arm.num_seeds:
            return Interval(low=math.nan, high=math.nan)
        return _over_seeds(self.differences.of(arm.columns), confidence)[1]

    def _excess(self, arm: Arm, confidence: float) -> tuple[float, Interval]:
        """The effect minus the mean one of the arm's random controls."""
        controls = self.block.controls(arm)
        if not controls:
            return math.nan, Interval(low=math.nan, high=math.nan)
        return _over_seeds(self.differences.of(arm.columns, controls), confidence)

    def _estimate(
        self,
        place: int,
        arm: Arm,
        *,
        controls: FloatArray,
        over_seeds: Interval,
        two_way: Interval,
        excess: tuple[float, Interval],
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
            family=arm.family,
            first_layer=arm.first_layer,
            last_layer=arm.last_layer,
            num_seeds=arm.num_seeds,
            num_items=self.differences.num_items,
            num_clusters=self.differences.num_clusters,
            num_neurons=arm.num_neurons,
            baseline=self.baseline,
            value=float(self.levels[place]),
            effect=effect,
            ratio=float(np.exp(effect)) if self.metric == "nll" else math.nan,
            **self.summary.ends(place),
            seed_low=over_seeds.low,
            seed_high=over_seeds.high,
            two_way_low=two_way.low,
            two_way_high=two_way.high,
            **self.summary.band(place),
            p_cluster=float(self.summary.p_values[place]),
            p_holm=math.nan,
            p_random=randomisation_p(effect, controls),
            p_floor=randomisation_floor(len(controls)),
            p_random_holm=math.nan,
            num_tests=0,
            num_controls=len(controls),
            excess=excess[0],
            excess_low=excess[1].low,
            excess_high=excess[1].high,
            noise=self.noise,
        )


def _over_seeds(seeds: GroupSums, confidence: float) -> tuple[float, Interval]:
    """Mean of the seeds, with seeds and clusters both random."""
    estimated = crossed([seeds.measure()])
    low, high = estimated.bounds(confidence)
    return float(estimated.centre[0]), Interval(low=float(low[0]), high=float(high[0]))
