"""What a planned comparison can detect, before any data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from sweeper.aggregate.intervals import FEWEST_SEEDS

ASSUMED_DISCORDANCE = 0.2
"""Share of pairs whose correctness a clamp changes, where nothing is known yet."""


def paired_accuracy_sd(discordance: float = ASSUMED_DISCORDANCE) -> float:
    """Bound the standard deviation of paired accuracy differences (-1, 0 or 1).

    Their variance is ``discordance - effect^2``, at most the share of discordant pairs.

    Raises:
        ValueError: the share lies outside of [0, 1].
    """
    if not 0 <= discordance <= 1:
        raise ValueError(f"discordance = {discordance} lies outside of [0, 1]")
    return math.sqrt(discordance)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTask:
    """What is known of a task before it is measured."""

    num_items: int
    num_clusters: int
    """Of about the same size."""
    sd: float
    """Standard deviation of the items' paired differences, in the metric's unit."""
    icc: float
    """Intraclass correlation of the differences inside clusters."""


def minimal_detectable_effect(
    num_items: int,
    num_clusters: int,
    sd: float,
    icc: float,
    confidence: float = 0.95,
    power: float = 0.8,
) -> float:
    """Smallest paired mean effect that a two-sided cluster-robust test finds with ``power``.

    ``(t_{(1 + confidence) / 2} + t_power) * sd * sqrt((1 + (m - 1) * icc) / num_items)`` with
    ``m = num_items / num_clusters`` (Kish's design effect) and ``num_clusters - 1`` degrees of
    freedom (Bloom 1995).

    Args:
        num_items: items over all clusters.
        num_clusters: clusters, of about the same size.
        sd: standard deviation of the paired differences, in the metric's unit.
        icc: intraclass correlation of the differences.
        confidence: one minus the two-sided level of the test.
        power: probability of finding the effect.

    Returns:
        The effect in the unit of ``sd``; NaN with fewer than two clusters.

    Raises:
        ValueError: an argument that no study can have.
    """
    task = PlannedTask(num_items=num_items, num_clusters=num_clusters, sd=sd, icc=icc)
    return minimal_detectable_contrast([task], [1.0], confidence=confidence, power=power)


def minimal_detectable_contrast(
    tasks: Sequence[PlannedTask],
    weights: Sequence[float],
    *,
    num_seeds: int = 0,
    seed_sd: float = 0.0,
    confidence: float = 0.95,
    power: float = 0.8,
) -> float:
    """Smallest weighted sum of the tasks' mean effects that a two-sided test finds with ``power``.

    Tasks are independent: squared standard errors add up, with degrees of freedom by Welch and
    Satterthwaite. With random controls the spread of their effects adds ``seed_sd^2 / num_seeds``
    on ``num_seeds - 1`` degrees of freedom.

    Args:
        tasks: what is measured. For a comparison of two conditions ``sd`` is that of the paired
            differences between them (the baseline cancels).
        weights: of the tasks. For an interaction of G tasks of grammar against O others 1 / G for
            the former and -1 / O for the latter.
        num_seeds: random controls whose mean the target is compared with; 0 for none.
        seed_sd: standard deviation of the contrast's value over random controls.
        confidence: one minus the two-sided level of the test.
        power: probability of finding the effect.

    Returns:
        The contrast in the unit of ``sd``; NaN where a task has fewer than two clusters, and with
        one or two random controls, of which the test makes nothing.

    Raises:
        ValueError: an argument that no study can have.
    """
    for task in tasks:
        _check(task)
    _check_shares(confidence, power, seed_sd)
    parts = [
        (weight**2 * _squared_error(task), task.num_clusters - 1)
        for task, weight in zip(tasks, weights, strict=True)
    ]
    if num_seeds:
        parts.append((seed_sd**2 / num_seeds, num_seeds - 1))
    if any(df < 1 for _, df in parts) or 0 < num_seeds < FEWEST_SEEDS:
        return math.nan
    total = math.fsum(variance for variance, _ in parts)
    if total == 0:
        return 0.0
    df = total**2 / math.fsum(variance**2 / df for variance, df in parts)
    quantiles = stats.t.ppf((1 + confidence) / 2, df) + stats.t.ppf(power, df)
    return float(quantiles) * math.sqrt(total)


def _squared_error(task: PlannedTask) -> float:
    """Kish's design effect on the variance of a mean."""
    if task.num_clusters == 0:
        return math.nan
    return task.sd**2 * (1 + (task.num_items / task.num_clusters - 1) * task.icc) / task.num_items


def _check(task: PlannedTask) -> None:
    if task.num_clusters > task.num_items:
        raise ValueError(f"num_clusters = {task.num_clusters} exceeds num_items = {task.num_items}")
    if not (math.isfinite(task.sd) and task.sd >= 0):
        raise ValueError(f"sd = {task.sd} is not a standard deviation")
    if not 0 <= task.icc <= 1:
        raise ValueError(f"icc = {task.icc} lies outside of [0, 1]")


def _check_shares(confidence: float, power: float, seed_sd: float) -> None:
    if not (math.isfinite(seed_sd) and seed_sd >= 0):
        raise ValueError(f"seed_sd = {seed_sd} is not a standard deviation")
    for name, value in (("confidence", confidence), ("power", power)):
        if not 0 < value < 1:
            raise ValueError(f"{name} = {value} lies outside of (0, 1)")
