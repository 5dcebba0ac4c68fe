"""From the job's conditions to resolved neuron sets, by the census in the store. No torch."""

from collections.abc import Sequence

import pandas as pd

from sweeper.errors import UserError
from sweeper.neurons.select import LayerNeurons, by_statistic, random_set
from sweeper.plan.cells import needs_census, seeds_of
from sweeper.records import Checkpoint, Condition
from sweeper.spec.condition import ByStatistic, ExplicitSet, Layers, RandomSet
from sweeper.spec.job import JobSpec


def resolve_conditions(
    job: JobSpec, checkpoint: Checkpoint, neurons: pd.DataFrame | None
) -> list[Condition]:
    """The job's conditions with their neurons, one per seed, in the job's order.

    Args:
        job: the job.
        checkpoint: whose neurons.
        neurons: the checkpoint's census, or None: conditions that need it are then left out.

    Raises:
        UserError: a set turns out to be empty.
    """
    return [
        _resolve(job, checkpoint, neurons, name, seed)
        for name, spec in job.condition.items()
        if neurons is not None or not needs_census(job, name)
        for seed in seeds_of(spec, job.seeds)
    ]


def _resolve(
    job: JobSpec, checkpoint: Checkpoint, neurons: pd.DataFrame | None, name: str, seed: int | None
) -> Condition:
    spec = job.condition[name]
    chosen = _neurons(job, checkpoint, neurons, name, seed)
    if spec.operation is not None and not chosen:
        raise UserError(
            f"condition.{name}.neurons: no neuron of model {checkpoint.model!r} is chosen "
            f"({checkpoint.num_neurons} per layer); allow a larger fraction or other layers"
        )
    return Condition(
        name=name,
        seed=seed,
        operation=spec.operation,
        neurons=chosen,
        allow_unchanged=spec.allow_unchanged,
    )


def _neurons(
    job: JobSpec, checkpoint: Checkpoint, neurons: pd.DataFrame | None, name: str, seed: int | None
) -> LayerNeurons:
    spec = job.condition[name].neurons
    if isinstance(spec, ExplicitSet):
        return {layer: tuple(sorted(chosen)) for layer, chosen in sorted(spec.neurons.items())}
    if isinstance(spec, ByStatistic) and neurons is not None:
        layers = _layers(spec.layers, checkpoint)
        return by_statistic(neurons, spec.statistic, spec.kind, spec.fraction, layers)
    if isinstance(spec, RandomSet) and seed is not None:
        counts = _random_counts(job, checkpoint, neurons, spec)
        return random_set(counts, checkpoint.num_neurons, checkpoint.fingerprint, seed)
    return {}


def _random_counts(
    job: JobSpec, checkpoint: Checkpoint, neurons: pd.DataFrame | None, spec: RandomSet
) -> dict[int, int]:
    if spec.match is not None:
        matched = _neurons(job, checkpoint, neurons, spec.match, None)
        return {layer: len(chosen) for layer, chosen in matched.items()}
    count = max(round((spec.fraction or 0) * checkpoint.num_neurons), 1)
    return dict.fromkeys(_layers(spec.layers, checkpoint), count)


def _layers(layers: Layers, checkpoint: Checkpoint) -> Sequence[int]:
    return range(checkpoint.num_layers) if layers == "all" else sorted(set(layers))
