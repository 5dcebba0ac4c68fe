"""Clamps that are random but fixed: about one neuron in a hundred of every layer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from sweeper.clamp.operations import OPERATIONS, Operation
from sweeper.models.loading import LoadedModel
from sweeper.records import Condition

FRACTION = 0.01
CLAMP = "negative_clamp"
UNCHANGED = "benchmark_unchanged"
BASELINE = Condition(name="baseline", seed=None, operation=None)


def random_clamp(model: LoadedModel, seed: int, layers: Sequence[int] | None = None) -> Condition:
    """A clamp of as many neurons in each of ``layers`` (all if None); fixed by seed and layer."""
    chosen = range(model.checkpoint.num_layers) if layers is None else layers
    neurons = {layer: _draw(model.checkpoint.num_neurons, seed, layer) for layer in chosen}
    return Condition(name="random", seed=seed, operation=CLAMP, neurons=neurons)


def layer_sweep(model: LoadedModel) -> list[Condition]:
    """Every layer alone, then the first one, two, three, ... layers."""
    layers = range(model.checkpoint.num_layers)
    single = [random_clamp(model, 0, [layer]) for layer in layers]
    cumulative = [random_clamp(model, 0, range(layer + 1)) for layer in layers]
    return single + cumulative


def control_sweep(model: LoadedModel, random_sets: int) -> list[Condition]:
    """The baseline, one clamp that stands for the chosen neurons, and its random controls."""
    return [BASELINE, *(random_clamp(model, seed) for seed in range(random_sets + 1))]


@contextmanager
def unchanged_clamp(model: LoadedModel) -> Iterator[Condition]:
    """A clamp whose hooks are installed in every layer, but leave the neurons as they are."""
    OPERATIONS[UNCHANGED] = Operation(lambda values: values)
    try:
        neurons = random_clamp(model, 0).neurons
        yield Condition(
            name="unchanged", seed=None, operation=UNCHANGED, neurons=neurons, allow_unchanged=True
        )
    finally:
        del OPERATIONS[UNCHANGED]


def evenly(conditions: Sequence[Condition], wanted: int | None) -> list[Condition]:
    """``wanted`` of the conditions, evenly spaced from the first to the last; None for all."""
    if wanted is None or wanted >= len(conditions):
        return list(conditions)
    places = np.linspace(0, len(conditions) - 1, wanted).round().astype(int)
    return [conditions[place] for place in places]


def _draw(size: int, seed: int, layer: int) -> tuple[int, ...]:
    rng = np.random.default_rng([seed, layer])
    count = max(round(size * FRACTION), 1)
    return tuple(sorted(rng.choice(size, count, replace=False).tolist()))
