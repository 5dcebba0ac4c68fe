"""Which conditions are contrasted with each other, and on which tasks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sweeper.spec.base import Allowed, EntryName, Strict
from sweeper.spec.condition import (
    ByStatistic,
    ConditionSpec,
    CumulativeLayers,
    LabelledSet,
    LayerGroups,
    MatchedSet,
    RandomSet,
    WholeLayers,
    without_repeats,
)
from sweeper.spec.task import TaskSpec
from sweeper.spec.wording import hint, listed

Metric = Literal["accuracy", "margin", "nll"]
METRICS: Mapping[str, tuple[Metric, ...]] = {
    "minimal_pairs": ("accuracy", "margin"),
    "perplexity": ("nll",),
    "surprisal": ("nll",),
    "lm_eval": ("accuracy", "margin", "nll"),
}
"""Metrics of each kind of task; of a harness task those that it may have."""

Tasks = Annotated[
    list[EntryName],
    Field(min_length=1),
    AfterValidator(without_repeats),
    Allowed("a list of names of different tasks of the suite"),
]


class Pair(Strict):
    """Two conditions and what they are compared by."""

    target: EntryName
    """Name of a condition that is not drawn at random. One that is repeated for groups of layers
    stands for each of them, against the control's same group."""
    control: EntryName
    """Name of the condition that it is compared with."""
    metric: Metric = "accuracy"


class Dissociation(Pair):
    """(target - control on grammar) - (target - control on the other tasks).

    Effects on several tasks are averaged with equal weight for each task.
    """

    kind: Literal["dissociation"]
    grammar: Tasks
    other: Tasks

    @model_validator(mode="after")
    def _on_either_side(self) -> Self:
        both = next((name for name in self.grammar if name in self.other), None)
        if both is not None:
            raise ValueError(f"{both} is listed under grammar and under other")
        return self


class Difference(Pair):
    """Target - control, on each task by itself."""

    kind: Literal["difference"]
    tasks: Tasks | None = None
    """All tasks that have the metric when absent."""


ContrastSpec = Annotated[Dissociation | Difference, Field(discriminator="kind")]


def contrast_contradictions(
    contrasts: Mapping[str, ContrastSpec],
    condition: Mapping[str, ConditionSpec],
    suite: Mapping[str, TaskSpec],
) -> list[str]:
    """Say in one line each what of the contrasts does not fit the rest of the job."""
    return [
        line
        for name, spec in contrasts.items()
        for line in (
            *_conditions(f"contrasts.{name}", spec, condition),
            *_tasks(f"contrasts.{name}", spec, suite),
        )
    ]


def _conditions(
    key: str, spec: ContrastSpec, condition: Mapping[str, ConditionSpec]
) -> Iterator[str]:
    clamped = [name for name, one in condition.items() if one.operation is not None]
    chosen = [name for name in clamped if not isinstance(condition[name].neurons, RandomSet)]
    sides = (("target", spec.target, chosen), ("control", spec.control, clamped))
    wrong = [(side, name, allowed) for side, name, allowed in sides if name not in allowed]
    for side, name, allowed in wrong:
        why = "is drawn at random" if name in clamped else "is no condition with an operation"
        yield f"{key}.{side}: {name!r} {why}; {listed(allowed)}{hint(name, allowed)}"
    if wrong:
        return
    if spec.target == spec.control:
        yield f"{key}.control: {spec.control!r} is the target itself; another one is needed"
    groups = _repeated(spec.control, condition)
    if groups is not None and groups != _repeated(spec.target, condition):
        yield (
            f"{key}.control: {spec.control!r} is repeated for groups of layers, and the target "
            f"{spec.target!r} is not repeated for the same ones"
        )


def _repeated(name: str, condition: Mapping[str, ConditionSpec]) -> object:
    """How a condition is repeated over layers, as the job says it; None where it is not."""
    neurons = condition[name].neurons
    if isinstance(neurons, RandomSet | MatchedSet) and neurons.match is not None:
        return _repeated(neurons.match, condition)
    if not isinstance(neurons, ByStatistic | RandomSet | WholeLayers | LabelledSet):
        return None
    layers = neurons.layers
    return (
        layers if layers == "each" or isinstance(layers, LayerGroups | CumulativeLayers) else None
    )


def _tasks(key: str, spec: ContrastSpec, suite: Mapping[str, TaskSpec]) -> Iterator[str]:
    able = [name for name, task in suite.items() if spec.metric in METRICS[task.kind]]
    sides: dict[str, Sequence[str]] = (
        {"grammar": spec.grammar, "other": spec.other}
        if isinstance(spec, Dissociation)
        else {"tasks": spec.tasks or []}
    )
    for side, names in sides.items():
        for name in names:
            if name not in able:
                why = f"has no {spec.metric}" if name in suite else "is no task of the suite"
                yield f"{key}.{side}: {name!r} {why}; {listed(able)}{hint(name, able)}"
    if not able:
        yield f"{key}.metric: no task of the suite has {spec.metric}"
