"""Conditions that are repeated over groups of layers, spelt out for one model."""

from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.errors import UserError
from sweeper.records import Checkpoint
from sweeper.spec.condition import (
    ByStatistic,
    ConditionSpec,
    CumulativeLayers,
    LabelledSet,
    LayerGroups,
    Layers,
    MatchedSet,
    RandomSet,
    SetSpec,
    WholeLayers,
)
from sweeper.spec.job import JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Concrete:
    """A condition of the job as it is on one model: its layers are ``all`` or a list."""

    spec: ConditionSpec
    """What it names to match is a concrete condition, too."""
    family: str
    """The job's name for it."""
    layers: tuple[int, int] | None
    """First and last layer of its group; None for a condition that is not repeated."""


def concrete_conditions(job: JobSpec, checkpoint: Checkpoint) -> dict[str, Concrete]:
    """The job's conditions on a model by name, in the job's order.

    A condition over groups of layers stands once for each group, as ``NAME[first-last]``; no
    name of a job holds a bracket. So do its controls, each for the group that it controls.

    Raises:
        UserError: groups of more layers than the model has.
    """
    found: dict[str, Concrete] = {}
    for name, spec in job.condition.items():
        groups = _groups(job, name, checkpoint)
        if groups is None:
            found[name] = Concrete(spec=spec, family=name, layers=None)
            continue
        for group in groups:
            ends = group[0], group[-1]
            found[_in_group(name, ends)] = Concrete(
                spec=spec.model_copy(update={"neurons": _narrowed(spec.neurons, group)}),
                family=name,
                layers=ends,
            )
    return found


def _in_group(name: str, ends: tuple[int, int]) -> str:
    return f"{name}[{ends[0]}-{ends[1]}]"


def _groups(job: JobSpec, name: str, checkpoint: Checkpoint) -> list[range] | None:
    """Groups of layers of a condition, those of what it matches; None where it has no groups."""
    neurons = job.condition[name].neurons
    if isinstance(neurons, RandomSet | MatchedSet) and neurons.match is not None:
        return _groups(job, neurons.match, checkpoint)
    if isinstance(neurons, ByStatistic | RandomSet | WholeLayers | LabelledSet):
        return _cut(neurons.layers, checkpoint, f"condition.{name}.neurons.layers")
    return None


def _cut(layers: Layers, checkpoint: Checkpoint, key: str) -> list[range] | None:
    num_layers = checkpoint.num_layers
    if layers == "each":
        return [range(layer, layer + 1) for layer in range(num_layers)]
    if isinstance(layers, LayerGroups):
        _check_size(f"{key}.groups", layers.groups, checkpoint)
        starts = range(0, num_layers, layers.groups)
        return [range(start, min(start + layers.groups, num_layers)) for start in starts]
    if isinstance(layers, CumulativeLayers):
        _check_size(f"{key}.cumulative", layers.cumulative, checkpoint)
        ends = range(layers.cumulative, num_layers + layers.cumulative, layers.cumulative)
        return [range(min(end, num_layers)) for end in ends]
    return None


def _check_size(key: str, size: int, checkpoint: Checkpoint) -> None:
    if size > checkpoint.num_layers:
        raise UserError(
            f"{key} = {size}: model {checkpoint.model!r} has {checkpoint.num_layers} layers; "
            f"allowed is 1 to {checkpoint.num_layers}"
        )


def _narrowed(neurons: SetSpec | None, group: Sequence[int]) -> SetSpec | None:
    """The set inside a group of layers; a control's is that of the condition in that group."""
    if isinstance(neurons, RandomSet | MatchedSet) and neurons.match is not None:
        return neurons.model_copy(update={"match": _in_group(neurons.match, (group[0], group[-1]))})
    return None if neurons is None else neurons.model_copy(update={"layers": list(group)})
