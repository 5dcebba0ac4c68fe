"""Row about the routing analysis: all layers in two passes, against a pass for each layer."""

from statistics import median

import numpy as np

from benchmarks.bench import Bench
from benchmarks.census_rows import text_windows
from benchmarks.results import Finding
from benchmarks.sides import layer_by_layer
from benchmarks.sides.layer_by_layer import Layer
from benchmarks.timing import Timed, in_turn, ratios
from sweeper.neurons.passes import read
from sweeper.neurons.routing.passes import routing_tokens
from sweeper.neurons.routing.roles import Regimes, find_roles
from sweeper.score.memory import TokenBudget, first_budget
from sweeper.score.tokens import Row

THRESHOLD = 0.1
FORWARD, TWO_PASSES, BY_LAYER = "forward pass", "two passes", "pass per layer"
MOST_DIFFERENCE = 1e-3
"""Of |delta|, relative: rounding of the forward pass stays well below."""


def routing_layers(bench: Bench, name: str, goal: float) -> Finding:
    """Time of a pass for each layer with its activations kept over that of two passes for all."""
    rows = text_windows(bench)
    budget = TokenBudget(first_budget(bench.model, bench.spec))
    each = max(budget.positions // len(rows[0]), 1)
    batches = [rows[first : first + each] for first in range(0, len(rows), each)]
    layers = _sample(bench)
    _two_passes(bench, rows[:1], budget)
    timed = in_turn(
        {
            FORWARD: lambda: read(bench.model, rows, range(len(rows)), budget, lambda _: None),
            TWO_PASSES: lambda: _two_passes(bench, rows, budget),
            BY_LAYER: lambda: [
                layer_by_layer.analyse(bench.model, batches, layer, THRESHOLD) for layer in layers
            ],
        },
        bench.repeats,
        name,
    )
    return _finding(bench, name, goal, timed, layers, sum(map(len, rows)))


def _two_passes(bench: Bench, rows: list[Row], budget: TokenBudget) -> list[Layer]:
    everything = sum(map(len, rows))
    found = routing_tokens(bench.model, rows, budget, threshold=THRESHOLD, fit_tokens=everything)
    layers = []
    for kept in found:
        roles = find_roles(kept.fires, Regimes.of(kept.residuals))
        layers.append(Layer(kept.residuals, roles.quorum, roles.gateway))
    return layers


def _finding(
    bench: Bench,
    name: str,
    goal: float,
    timed: dict[str, Timed],
    layers: list[int],
    num_tokens: int,
) -> Finding:
    total = len(bench.model.sites)
    ours: list[Layer] = [timed[TWO_PASSES].result[layer] for layer in layers]
    others: list[Layer] = timed[BY_LAYER].result
    difference = max(
        float(np.max(np.abs(mine.residuals - other.residuals) / other.residuals))
        for mine, other in zip(ours, others, strict=True)
    )
    same_roles = sum(
        (mine.quorum, mine.gateway) == (other.quorum, other.gateway)
        for mine, other in zip(ours, others, strict=True)
    )
    by_layer = [seconds * total / len(layers) for seconds in timed[BY_LAYER].seconds]
    own, forward = timed[TWO_PASSES].seconds, timed[FORWARD].seconds
    beyond = median(mine / (2 * alone) for mine, alone in zip(own, forward, strict=True)) - 1
    notes = [
        f"{total} layers, {num_tokens} tokens: {median(own):.1f} s, {beyond:.0%} more than two "
        f"forward passes alone; a pass per layer {median(by_layer):.0f} s",
        "peak memory above the model: "
        + ", ".join(f"{side} {one.peak_bytes / 2**20:.0f} MiB" for side, one in timed.items()),
        f"largest relative difference of |delta| {difference:.2g}; the same roles in {same_roles} "
        f"of {len(layers)} layers",
    ]
    if len(layers) < total:
        notes.append(f"passes timed on {len(layers)} of {total} layers, their time multiplied")
    return Finding(
        name=name,
        goal=goal,
        ratios=ratios(by_layer, own),
        sides=timed,
        details={
            "tokens": num_tokens,
            "layers": total,
            "layers_timed": {BY_LAYER: len(layers)},
            "inferred_seconds": {BY_LAYER: by_layer},
            "beyond_forward_share": beyond,
            "largest_difference": {"residual": difference},
            "same_roles": same_roles,
        },
        notes=notes,
        agree=difference < MOST_DIFFERENCE,
    )


def _sample(bench: Bench) -> list[int]:
    """Layers that the other side is timed on, evenly spaced."""
    total = len(bench.model.sites)
    count = min(bench.sizes.routing_layers or total, total)
    return [total * place // count for place in range(count)]
