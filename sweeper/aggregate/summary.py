"""Means of a block's arms with their cluster intervals."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np
import pandas as pd

from sweeper.aggregate.contrasts import GroupSums
from sweeper.aggregate.design import Arm
from sweeper.aggregate.intervals import (
    Bounds,
    FloatArray,
    cluster_bootstrap,
    cluster_robust,
    ratios,
    resampling_generator,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_TYPES: dict[Any, str] = {bool: "bool", int: "int64", float: "float64"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Summary:
    """Means over items and seeds of J arms, with intervals that take items as the random unit."""

    values: FloatArray
    """(J,)."""
    robust: Bounds
    bootstrap: Bounds

    def ends(self, place: int) -> dict[str, float]:
        """Give the interval ends of one arm by the names that the records use."""
        return {
            "cluster_low": float(self.robust[0][place]),
            "cluster_high": float(self.robust[1][place]),
            "bootstrap_low": float(self.bootstrap[0][place]),
            "bootstrap_high": float(self.bootstrap[1][place]),
        }


def seed_means(sums: GroupSums, arms: Sequence[Arm]) -> FloatArray:
    """Average the totals over each arm's seeds: (C, K) cells to (C, J) arms."""
    return np.stack([sums.numerators[:, arm.columns].mean(axis=1) for arm in arms], axis=1)


def summarise(
    sums: GroupSums, arms: Sequence[Arm], task: str, confidence: float, resamples: int
) -> Summary:
    """Summarise J arms of one task and group; they share their resamples."""
    numerators = seed_means(sums, arms)
    return Summary(
        values=ratios(numerators, sums.denominators),
        robust=cluster_robust(numerators, sums.denominators, confidence=confidence),
        bootstrap=cluster_bootstrap(
            numerators,
            sums.denominators,
            generator=resampling_generator(task, sums.group),
            resamples=resamples,
            confidence=confidence,
        ),
    )


def as_frame(
    record: type["DataclassInstance"], rows: Sequence["DataclassInstance"]
) -> pd.DataFrame:
    """Put records into a table whose columns and types do not depend on the rows."""
    hints = get_type_hints(record)
    names = [field.name for field in fields(record)]
    frame = pd.DataFrame([asdict(row) for row in rows], columns=names)
    return frame.astype({name: _TYPES.get(hints[name], "str") for name in names})
