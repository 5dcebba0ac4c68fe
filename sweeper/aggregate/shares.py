"""Shares of tasks in the parts of a contrast, and the random draws that they have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sweeper.aggregate.contrasts import GroupSums
from sweeper.aggregate.design import Arm, Block
from sweeper.aggregate.intervals import FloatArray, Ratio, centre

_Name = tuple[str, int]
"""Of a random set: condition and seed."""


@dataclass(frozen=True, slots=True)
class Part:
    """What target and control are multiplied by, on either side of the comparison."""

    name: str
    tasks: tuple[float, float] = (0.0, 0.0)
    others: tuple[float, float] = (0.0, 0.0)
    claim: int = 0
    """Sign of the value that a double dissociation claims, where lower is worse; 0: no claim."""

    @property
    def has_target(self) -> bool:
        """Whether the target has a share in it."""
        return bool(self.tasks[0] or self.others[0])

    @property
    def has_control(self) -> bool:
        """Whether the control has a share in it."""
        return bool(self.tasks[1] or self.others[1])


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Paired differences of all cells of a block to its baseline, one metric, all items."""

    block: Block
    sums: GroupSums

    def arm(self, condition: str) -> Arm | None:
        """The condition of this name, where it has results."""
        return next((arm for arm in self.block.arms if arm.condition == condition), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Random draws that all tasks of a comparison have, the same ones in each of its parts."""

    seeds: Sequence[int | None]
    """Of the control; None where it is not drawn at random."""
    for_target: Sequence[_Name]
    """Random controls of the target, each set once; where the control is drawn, its own ones."""
    for_control: Sequence[_Name]
    """Random controls of the control."""
    is_exchanged: bool
    """Whether the control is the mean of ``for_target``."""


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """A task's share in a part."""

    task: Task
    target: Arm
    control: Arm
    weights: tuple[float, float]

    @property
    def control_draws(self) -> dict[int | None, int]:
        """Seed -> place of the control's cell; None where it is not drawn at random."""
        return dict(zip(self.control.seeds, self.control.columns, strict=True))

    def controls(self, part: Part, draws: Draws) -> list[int]:
        """Places of the control's cells; those of the target where the control has no share."""
        if not part.has_control:
            return list(self.target.columns)
        return [self.control_draws[seed] for seed in draws.seeds]

    def sets(self, *, of_target: bool) -> dict[_Name, int]:
        """Places of the random sets that control the target, or the control."""
        return self.task.block.named_controls(self.target if of_target else self.control)

    def ratio(self, targets: Sequence[int], controls: Sequence[int]) -> Ratio:
        """Weigh cells of the target against cells of the control, or many against one."""
        totals = self.task.sums.numerators
        weighed = self.weights[0] * totals[:, list(targets)]
        return Ratio(
            weighed + self.weights[1] * totals[:, list(controls)], self.task.sums.denominators
        )


def common_draws(shares: Sequence[Share]) -> Draws:
    """Find the draws that all tasks have."""
    seeds = _common([share.control_draws for share in shares])
    of_control = {tuple(share.control_draws[seed] for share in shares) for seed in seeds}
    for_target, for_control = (
        _distinct([share.sets(of_target=of_target) for share in shares])
        for of_target in (True, False)
    )
    exchanged = [name for places, name in for_target.items() if places in of_control]
    return Draws(
        seeds=seeds,
        for_target=exchanged or list(for_target.values()),
        for_control=list(for_control.values()),
        is_exchanged=bool(exchanged),
    )


def exchanged(part: Part, shares: Sequence[Share], draws: Draws) -> FloatArray:
    """The part with each random control in place of what it controls."""
    names = draws.for_target if part.has_target else draws.for_control
    if not names:
        return np.zeros(0)
    strata = []
    for share in shares:
        sets = share.sets(of_target=part.has_target)
        drawn = [sets[name] for name in names]
        if part.has_target:
            (mine,) = share.target.columns
            fixed = share.controls(part, draws)
            # Where the set is one of the control's draws, it changes places with the target.
            swapped = [[mine if place == one else one for place in drawn] for one in fixed]
            parts = [share.ratio(drawn, controls) for controls in swapped]
        else:
            parts = [share.ratio(share.target.columns, drawn)]
        strata.append([replace(ratio, weight=1 / len(parts)) for ratio in parts])
    return centre(strata)


def _common(places: Sequence[Mapping[Any, int]]) -> list[Any]:
    """Draws that all tasks have, sorted."""
    kept = set.intersection(*(set(one) for one in places)) if places else set()
    return sorted(kept, key=lambda name: (name is not None, name))


def _distinct(places: Sequence[Mapping[_Name, int]]) -> dict[tuple[int, ...], _Name]:
    """Sets that all tasks have, by their places in each; under one name where several have it."""
    found: dict[tuple[int, ...], _Name] = {}
    for name in _common(places):
        found.setdefault(tuple(one[name] for one in places), name)
    return found
