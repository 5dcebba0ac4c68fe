"""Means of a block's arms with their cluster intervals, and sums of cells side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np
import pandas as pd

from sweeper.aggregate.bootstrap import Resampled, cluster_bootstrap, resampling_generator
from sweeper.aggregate.contrasts import GroupSums
from sweeper.aggregate.design import Arm
from sweeper.aggregate.intervals import Bounds, FloatArray, cluster_robust

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_TYPES: dict[Any, str] = {bool: "bool", int: "int64", float: "float64", int | None: "Int64"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Summary:
    """Means over items and seeds of J arms, with intervals that take items as the random unit."""

    values: FloatArray
    """(J,)."""
    p_values: FloatArray
    """Of the test that the mean is 0, (J,)."""
    robust: Bounds
    bootstrap: Bounds
    bands: Bounds
    """Simultaneous over the layer groups of a family; NaN for other arms."""

    def ends(self, place: int) -> dict[str, float]:
        """Give the interval ends of one arm by the names that the records use."""
        return {
            "cluster_low": float(self.robust[0][place]),
            "cluster_high": float(self.robust[1][place]),
            "bootstrap_low": float(self.bootstrap[0][place]),
            "bootstrap_high": float(self.bootstrap[1][place]),
        }

    def band(self, place: int) -> dict[str, float]:
        """Give the ends of the band at one arm."""
        return {
            "band_low": float(self.bands[0][place]),
            "band_high": float(self.bands[1][place]),
        }


def beside(parts: Sequence[GroupSums]) -> GroupSums:
    """Put cells of the same items side by side.

    Raises:
        ValueError: their clusters differ, in name or in size.
    """
    first = parts[0]
    if not all(
        np.array_equal(part.clusters, first.clusters)
        and np.array_equal(part.denominators, first.denominators)
        for part in parts
    ):
        raise ValueError(f"cells have different items in group {first.group}")
    wholes = [part.whole for part in parts if part.whole is not None]
    return replace(
        first,
        numerators=np.concatenate([part.numerators for part in parts], axis=1),
        whole=beside(wholes) if wholes else None,
    )


def seed_means(sums: GroupSums, arms: Sequence[Arm]) -> GroupSums:
    """Average the totals over each arm's seeds: K cells to J arms."""
    weights = np.zeros((sums.numerators.shape[1], len(arms)))
    for place, arm in enumerate(arms):
        np.add.at(weights[:, place], list(arm.columns), 1 / len(arm.columns))
    return sums.combined(weights)


def summarise(
    sums: GroupSums, arms: Sequence[Arm], task: str, confidence: float, resamples: int
) -> Summary:
    """Summarise J arms of one task and group; they share their resamples."""
    measure = seed_means(sums, arms).measure()
    estimated = cluster_robust([measure])
    generator = resampling_generator(task, sums.group)
    resampled = cluster_bootstrap([measure], [generator], resamples)
    return Summary(
        values=estimated.centre,
        p_values=estimated.p_values(),
        robust=estimated.bounds(confidence),
        bootstrap=resampled.bounds(confidence),
        bands=_bands(resampled, arms, confidence),
    )


def _bands(resampled: Resampled, arms: Sequence[Arm], confidence: float) -> Bounds:
    families: dict[str, list[int]] = {}
    for place, arm in enumerate(arms):
        if arm.layers is not None:
            families.setdefault(arm.family, []).append(place)
    low, high = np.full((2, len(arms)), np.nan)
    for places in families.values():
        low[places], high[places] = resampled.band(places, confidence)
    return low, high


def as_frame(
    record: type["DataclassInstance"], rows: Sequence["DataclassInstance"]
) -> pd.DataFrame:
    """Put records into a table whose columns and types do not depend on the rows."""
    hints = get_type_hints(record)
    names = [field.name for field in fields(record)]
    values = [[getattr(row, name) for name in names] for row in rows]
    frame = pd.DataFrame(values, columns=names)
    return frame.astype({name: _TYPES.get(hints[name], "str") for name in names})
