"""Contrasts between a target and a control condition: differences, and double dissociations."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from sweeper.aggregate.bootstrap import cluster_bootstrap, resampling_generator
from sweeper.aggregate.contrasts import ALL
from sweeper.aggregate.design import Arm, blocks
from sweeper.aggregate.holm import holm
from sweeper.aggregate.intervals import Bounds, Estimated, Ratio, cluster_robust, crossed
from sweeper.aggregate.randomisation import distance_p, randomisation_floor, randomisation_p
from sweeper.aggregate.shares import Draws, Part, Share, Task, common_draws, exchanged
from sweeper.aggregate.sources import Items, source_of
from sweeper.aggregate.summary import as_frame
from sweeper.records import ContrastEstimate

HIGHER_IS_WORSE = frozenset({"nll"})
_log = logging.getLogger("sweeper")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Which conditions are contrasted on which tasks."""

    name: str
    target: str
    control: str
    metric: str
    tasks: tuple[str, ...] = ()
    """Of a dissociation: grammar. Of a difference: each by itself; all that have the metric when
    empty."""
    others: tuple[str, ...] = ()
    """The tasks against which a dissociation sets grammar; a difference has none."""

    @property
    def kind(self) -> str:
        """``dissociation`` or ``difference``."""
        return "dissociation" if self.others else "difference"


_DISSOCIATION = (
    Part("interaction", tasks=(1, -1), others=(-1, 1)),
    Part("target_minus_control_on_grammar", tasks=(1, -1), claim=-1),
    Part("target_minus_control_on_other", others=(1, -1), claim=1),
    Part("target_on_grammar", tasks=(1, 0)),
    Part("target_on_other", others=(1, 0)),
    Part("control_on_grammar", tasks=(0, 1)),
    Part("control_on_other", others=(0, 1)),
)
_DIFFERENCE = (
    Part("difference", tasks=(1, -1)),
    Part("target", tasks=(1, 0)),
    Part("control", tasks=(0, 1)),
)


def contrast(
    manifest: pd.DataFrame,
    items: Items,
    comparisons: Sequence[Comparison],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Contrast pairs of conditions in every checkpoint, one row per ``records.ContrastEstimate``.

    Tasks have equal weight, whatever their number of items. Their clusters are independent of each
    other, so variances add up over tasks; inside a task target and control are paired on items. A
    name of a condition that is repeated for layer groups stands for each of its groups, compared
    with the control's same group, or with the control where that is not repeated.

    The randomisation p of a part puts each random control of the target (the same sets in every
    task) into the target's place and leaves the rest as it is; the null hypothesis is that the
    target's neurons are as good as any. Where the control is the mean of those very sets, the
    target takes the place of the one that it changes with, and p compares ``|value|``. Any other
    control is fixed, a constant in all of these values: p compares their distances from the median
    of them all, and tests the target against random sets, not against the control. The part of one
    condition alone is an effect, whose zero is the baseline: p compares ``|value|``.

    Draws of which a task of a dissociation has no results are left out of all of its tasks and
    parts, so that the parts add up; ``num_controls`` counts the ones there are.

    Args:
        manifest: the cells of the run, one row per cell and condition.
        items: committed rows of items, or the store's; those of other cells are ignored.
        comparisons: what is contrasted.
        confidence: nominal coverage of all intervals.
        resamples: resamples of the cluster bootstrap.

    Raises:
        ValueError: as for ``estimate``.
    """
    rows: list[ContrastEstimate] = []
    metrics = {comparison.metric for comparison in comparisons}
    for tasks in _checkpoints(manifest, items, metrics):
        for comparison in comparisons:
            found = {
                task: one for (task, metric), one in tasks.items() if metric == comparison.metric
            }
            for target, control in _pairs(comparison, found):
                study = _Study(comparison, target, control, found, confidence, resamples)
                rows.extend(study.rows())
    return _with_holm(as_frame(ContrastEstimate, rows))


def _checkpoints(
    manifest: pd.DataFrame, items: Items, metrics: set[str]
) -> Iterator[dict[tuple[str, str], Task]]:
    """Task and metric -> paired differences, one checkpoint after the other."""
    if not metrics:
        return
    source = source_of(items, manifest["cell_key"])
    found: dict[tuple[str, str], dict[tuple[str, str], Task]] = {}
    for block in blocks(manifest, source.__contains__):
        baseline = block.baseline()
        if baseline is None:
            continue
        tasks = found.setdefault((block.model, block.revision), {})
        for metric, sums in source.sums(block.cell_keys, block.task_kind, baseline).items():
            if metric in metrics:
                tasks[block.task, metric] = Task(block, sums.differences[0])
    yield from found.values()


def _pairs(comparison: Comparison, tasks: Mapping[str, Task]) -> list[tuple[Arm, Arm]]:
    """Targets with their controls; one pair, or one for each layer group."""
    arms = {arm.condition: arm for task in tasks.values() for arm in task.block.arms}
    targets, controls = (
        [arm for arm in arms.values() if name in (arm.condition, arm.family)]
        for name in (comparison.target, comparison.control)
    )
    pairs = []
    for target in sorted(targets, key=lambda arm: (arm.layers or (), arm.condition)):
        same = [arm for arm in controls if arm.layers == target.layers] or controls
        if len(same) == 1:
            pairs.append((target, same[0]))
        else:
            _log.warning(
                "contrast %s: %s is compared with nothing: %d conditions are called %s",
                comparison.name,
                target.condition,
                len(same),
                comparison.control,
            )
    return pairs


@dataclass(frozen=True, slots=True, eq=False)
class _Study:
    """One pair of conditions in one checkpoint."""

    comparison: Comparison
    target: Arm
    control: Arm
    tasks: Mapping[str, Task]
    confidence: float
    resamples: int

    def rows(self) -> Iterator[ContrastEstimate]:
        """Give one row per part; of a difference, per part and task."""
        if self.comparison.others:
            yield from self._rows(_DISSOCIATION, self.comparison.tasks, self.comparison.others)
            return
        for task in self.comparison.tasks or sorted(self.tasks):
            yield from self._rows(_DIFFERENCE, (task,), ())

    def _rows(
        self, parts: Sequence[Part], tasks: Sequence[str], others: Sequence[str]
    ) -> Iterator[ContrastEstimate]:
        shares = [self._share(name, (0.0, 0.0)) for name in (*tasks, *others)]
        draws = common_draws([share for share in shares if share])
        for part in parts:
            yield self._row(part, tasks, others, draws)

    def _row(
        self, part: Part, tasks: Sequence[str], others: Sequence[str], draws: Draws
    ) -> ContrastEstimate:
        wanted = [
            (name, weights, len(side))
            for side, weights in ((tasks, part.tasks), (others, part.others))
            if any(weights)
            for name in side
        ]
        shares = [
            share
            for name, weights, number in wanted
            if (share := self._share(name, (weights[0] / number, weights[1] / number)))
        ]
        block = next(iter(self.tasks.values())).block
        return ContrastEstimate(
            model=block.model,
            revision=block.revision,
            contrast=self.comparison.name,
            kind=self.comparison.kind,
            part=part.name,
            metric=self.comparison.metric,
            target=self.target.condition,
            control=self.control.condition,
            first_layer=self.target.first_layer,
            last_layer=self.target.last_layer,
            tasks=",".join(name for name, _, _ in wanted),
            p_holm=math.nan,
            num_tasks=len(shares),
            num_items=sum(share.task.sums.num_items for share in shares),
            num_clusters=sum(share.task.sums.num_clusters for share in shares),
            **self._numbers(part, shares if len(shares) == len(wanted) else [], draws),
        )

    def _share(self, name: str, weights: tuple[float, float]) -> Share | None:
        task = self.tasks.get(name)
        if task is None:
            return None
        target, control = task.arm(self.target.condition), task.arm(self.control.condition)
        return Share(task, target, control, weights) if target and control else None

    def _numbers(self, part: Part, shares: Sequence[Share], draws: Draws) -> dict[str, Any]:
        """Everything that is estimated; NaN without results in all tasks."""
        if not shares or (part.has_control and not draws.seeds):
            return _NOTHING
        strata = [
            (share.ratio(share.target.columns, share.controls(part, draws)),) for share in shares
        ]
        is_drawn = part.has_control and None not in draws.seeds
        found = crossed(strata) if is_drawn else cluster_robust(strata)
        generators = [resampling_generator(share.task.block.task, ALL) for share in shares]
        means = [(_mean(ratio),) for (ratio,) in strata]
        bounds = cluster_bootstrap(means, generators, self.resamples).bounds(self.confidence)
        value = float(found.centre[0])
        others = exchanged(part, shares, draws)
        by_distance = part.has_target and part.has_control and not draws.is_exchanged
        return {
            "estimate": value,
            **_ends("", found.bounds(self.confidence)),
            **_ends("bootstrap_", bounds),
            "df": float(found.df[0]),
            "p": float(found.p_values()[0]),
            "p_directed": self._directed(part, found),
            "p_random": (distance_p if by_distance else randomisation_p)(value, others),
            "p_floor": randomisation_floor(len(others)),
            "num_controls": len(others),
        }

    def _directed(self, part: Part, found: Estimated) -> float:
        """One-sided p of what a double dissociation claims of the part."""
        if not part.claim:
            return math.nan
        below = float(found.p_below()[0])
        worse_is_higher = self.comparison.metric in HIGHER_IS_WORSE
        return below if (part.claim < 0) != worse_is_higher else 1 - below


_NOTHING = {
    **dict.fromkeys(("estimate", "low", "high", "bootstrap_low", "bootstrap_high"), math.nan),
    **dict.fromkeys(("df", "p", "p_directed", "p_random"), math.nan),
    "p_floor": 1.0,
    "num_controls": 0,
}


def _mean(ratio: Ratio) -> Ratio:
    return replace(ratio, numerators=ratio.numerators.mean(axis=1, keepdims=True))


def _ends(prefix: str, bounds: Bounds) -> dict[str, float]:
    return {f"{prefix}low": float(bounds[0][0]), f"{prefix}high": float(bounds[1][0])}


def _with_holm(contrasts: pd.DataFrame) -> pd.DataFrame:
    """Fill ``p_holm``: directed tests of dissociations, and the differences themselves."""
    if contrasts.empty:
        return contrasts
    is_difference = contrasts["part"] == _DIFFERENCE[0].name
    claims = [part.name for part in _DISSOCIATION if part.claim]
    p_values = contrasts["p_directed"].where(~is_difference, contrasts["p"])
    # All of them were planned: one without a p counts, too, as one that cannot be rejected.
    planned = p_values.fillna(1.0).where(is_difference | contrasts["part"].isin(claims))
    families = contrasts.groupby(["model", "revision", "contrast"]).ngroup()
    adjusted = pd.Series(holm(planned.to_numpy(), families.to_numpy()), index=contrasts.index)
    return contrasts.assign(p_holm=adjusted.where(p_values.notna()))
