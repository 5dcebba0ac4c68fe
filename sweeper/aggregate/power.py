"""What a planned comparison can detect, before any data."""

import math

from scipy import stats

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
    _check(num_items, num_clusters, sd, icc, confidence, power)
    if num_clusters < 2:
        return math.nan
    design_effect = 1 + (num_items / num_clusters - 1) * icc
    error = sd * math.sqrt(design_effect / num_items)
    df = num_clusters - 1
    return float(stats.t.ppf((1 + confidence) / 2, df) + stats.t.ppf(power, df)) * error


def _check(
    num_items: int, num_clusters: int, sd: float, icc: float, confidence: float, power: float
) -> None:
    if num_clusters > num_items:
        raise ValueError(f"num_clusters = {num_clusters} exceeds num_items = {num_items}")
    if not (math.isfinite(sd) and sd >= 0):
        raise ValueError(f"sd = {sd} is not a standard deviation")
    if not 0 <= icc <= 1:
        raise ValueError(f"icc = {icc} lies outside of [0, 1]")
    for name, value in (("confidence", confidence), ("power", power)):
        if not 0 < value < 1:
            raise ValueError(f"{name} = {value} lies outside of (0, 1)")
