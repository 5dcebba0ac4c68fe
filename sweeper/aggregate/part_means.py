"""Tasks that are made of others: the mean over their parts, and how the parts weigh in it.

Shapes: C parts of a group.
"""

import logging
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sweeper.aggregate.contrasts import ALL
from sweeper.aggregate.intervals import FloatArray, Ratio, cluster_robust
from sweeper.aggregate.step_levels import ALIKE, BY_DOCUMENTS, StepLevel

Groups = Mapping[str, Sequence[str]]
"""Task that is made of others -> its parts, those that were not imported among them."""

_EQUAL = 1e-9
"""Difference between the harness's value of a group and a mean of its parts that is rounding."""
_DECIMALS = range(2, 7)
"""So many decimals are those of numbers that a table has rounded."""
_NAMED = 5
"""Checkpoints that a message names."""
_log = logging.getLogger("sweeper")


def group_levels(singles: pd.DataFrame, groups: Groups, confidence: float) -> Iterator[StepLevel]:
    """Give the level of every group that has parts here, at every checkpoint and metric.

    It is the mean of the parts with the parts as clusters (``intervals.cluster_robust``). They
    weigh alike at all checkpoints; or by their documents, where the harness's own value of the
    group shows that at some checkpoint, and at none that they weigh alike.

    Where that is not the group's value, since parts are missing, or documents that they would weigh
    by are unknown, or the harness's own value is another one, the harness's own value stands there
    with its standard error over documents; without one the level is NaN. A warning names the
    checkpoints. A part that is here without the metric is left out, as by the harness.

    Args:
        singles: levels of single tasks, and the harness's own ones of groups.
        groups: the groups with all their parts.
        confidence: nominal coverage.
    """
    for name, parts in groups.items():
        rows, own = singles[singles["task"].isin(parts)], singles[singles["task"] == name]
        for metric, of_metric in rows.groupby("metric", sort=True):
            without = set(rows["task"]) - set(of_metric["task"])
            expected = len(set(parts) - without)
            places = list(_places(of_metric, own[own["metric"] == metric], expected))
            yield from _levels(name, places, confidence)


def part_sizes(rows: pd.DataFrame, by: list[str]) -> pd.Series:
    """Documents of each part, if all checkpoints agree on them; else NaN."""
    grouped = rows.groupby(by)["num_items"]
    least, most = grouped.min().astype("float64"), grouped.max().astype("float64")
    return least.where(least == most)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Place:
    """A metric of a group's parts at one checkpoint."""

    parts: pd.DataFrame
    """A row each, in the order of their names."""
    expected: int
    """Parts of the group that have the metric."""
    sizes: FloatArray
    """Documents of the parts by all checkpoints of the model, (C,)."""
    own: pd.Series | None
    """The harness's row of the group, where it has a value."""

    @property
    def model(self) -> str:
        return str(self.parts["model"].iloc[0])

    @property
    def values(self) -> FloatArray:
        return self.parts["value"].to_numpy(dtype=np.float64)

    @property
    def is_complete(self) -> bool:
        return len(self.parts) == self.expected

    def weights(self, weighting: str) -> FloatArray:
        return self.sizes if weighting == BY_DOCUMENTS else np.ones(len(self.parts))

    def is_own(self, weighting: str, allowed: float) -> bool:
        """Whether a mean of the parts is the harness's value but for so much."""
        weights = self.weights(weighting)
        mean = weights @ self.values / weights.sum()
        return self.own is not None and abs(mean - self.own["value"]) <= allowed

    def rounding(self) -> float:
        """Difference between the harness's value and a mean of the parts that is rounding."""
        told = [] if self.own is None else [self.own["value"]]
        numbers = np.array([*self.values, *told])
        fitting = (10.0**-n for n in _DECIMALS if np.array_equal(np.round(numbers, n), numbers))
        return next(fitting, _EQUAL)

    def shown(self) -> str | None:
        """How the parts weigh by the harness's value; None where it fits both ways or neither."""
        for allowed in (_EQUAL, self.rounding()):
            fitting = [kind for kind in (ALIKE, BY_DOCUMENTS) if self.is_own(kind, allowed)]
            if len(fitting) == 1 and self.is_complete:
                return fitting[0]
        return None

    def fault(self, weighting: str) -> str:
        """Why the mean of the parts is not the group's value; empty where it is."""
        if not self.is_complete:
            return f"{len(self.parts)} of {self.expected} parts"
        if not np.isfinite(self.values).all():
            return "a part is not finite"
        if np.isnan(self.weights(weighting)).any():
            return "documents of parts unknown"
        is_other = self.own is not None and not self.is_own(weighting, self.rounding())
        return "not the mean of its parts" if is_other else ""


def _places(rows: pd.DataFrame, own: pd.DataFrame, expected: int) -> Iterator[_Place]:
    told: dict[Hashable, pd.Series] = {
        (row["model"], row["revision"]): row
        for _, row in own.iterrows()
        if math.isfinite(row["value"])
    }
    sizes = part_sizes(rows, ["model", "task"])
    for place, parts in rows.groupby(["model", "revision"], sort=True):
        ordered = parts.sort_values("task")
        names = pd.MultiIndex.from_frame(ordered[["model", "task"]])
        yield _Place(
            parts=ordered,
            expected=expected,
            sizes=sizes.reindex(names).to_numpy(dtype=np.float64),
            own=told.get(place),
        )


def _levels(name: str, places: Sequence[_Place], confidence: float) -> Iterator[StepLevel]:
    """One metric of a group at all checkpoints."""
    shown = {place.shown() for place in places}
    weighting = BY_DOCUMENTS if BY_DOCUMENTS in shown and ALIKE not in shown else ALIKE
    faults = [place.fault(weighting) for place in places]
    # Where the harness tells nothing, the group's value is no other mean than where it does.
    apart = {
        place.model
        for place, fault in zip(places, faults, strict=True)
        if fault and place.is_complete and place.own is not None
    }
    kept, none = list[str](), list[str]()
    for place, fault in zip(places, faults, strict=True):
        if not fault and place.own is None and place.model in apart:
            fault = "not the mean of its parts elsewhere"
        if fault:
            said = f"{place.model} {place.parts['revision'].iloc[0]} ({fault})"
            (none if place.own is None else kept).append(said)
        if fault and place.own is not None:
            yield _own(name, place.own)
        else:
            yield _mean(name, place, "" if fault else weighting, confidence)
    metric = f"{name}: {places[0].parts['metric'].iloc[0]}"
    _warn("%s is the harness's own value, not the mean over parts: %s%s", metric, kept)
    _warn("%s has no mean over parts: %s%s", metric, none)


def _warn(message: str, what: str, places: Sequence[str]) -> None:
    more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
    if places:
        _log.warning(message, what, ", ".join(places[:_NAMED]), more)


def _mean(name: str, place: _Place, weighting: str, confidence: float) -> StepLevel:
    """The mean of the parts; NaN without a weighting."""
    low = high = value = math.nan
    if weighting:
        weights = place.weights(weighting)
        measure = [Ratio((weights * place.values)[:, None], weights)]
        estimated = cluster_robust([measure])
        value = float(estimated.centre[0])
        low, high = (float(end[0]) for end in estimated.bounds(confidence))
    sizes = place.parts["num_items"].to_numpy(dtype=np.float64)
    first = place.parts.iloc[0]
    return StepLevel(
        model=place.model,
        revision=str(first["revision"]),
        step=None if pd.isna(first["step"]) else int(first["step"]),
        task=name,
        metric=str(first["metric"]),
        group=ALL,
        value=value,
        low=low,
        high=high,
        num_items=None if np.isnan(sizes).any() else int(sizes.sum()),
        num_clusters=len(place.parts),
        interval="clusters" if math.isfinite(low) else "",
        source="parts",
        weights=weighting,
    )


def _own(name: str, row: pd.Series) -> StepLevel:
    """The harness's own value of a group."""
    return StepLevel(
        model=str(row["model"]),
        revision=str(row["revision"]),
        step=None if pd.isna(row["step"]) else int(row["step"]),
        task=name,
        metric=str(row["metric"]),
        group=ALL,
        value=float(row["value"]),
        low=float(row["low"]),
        high=float(row["high"]),
        num_items=None if pd.isna(row["num_items"]) else int(row["num_items"]),
        num_clusters=int(row["num_clusters"]),
        interval=str(row["interval"]),
        source=str(row["source"]),
    )
