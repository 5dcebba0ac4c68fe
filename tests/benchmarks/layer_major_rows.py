"""Row about models larger than the memory: how often a pass over a text reads their weights."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from accelerate.utils import OffloadedWeightsLoader
from torch import Tensor, nn

from benchmarks.bench import Bench
from benchmarks.census_rows import text_windows
from benchmarks.results import Finding
from benchmarks.timing import in_turn, ratios
from sweeper.models.loading import LoadedModel, load
from sweeper.neurons.passes import read
from sweeper.score.memory import TokenBudget
from sweeper.score.tokens import Row

BATCHES = 8
LIMIT = 0.1
"""Of the layers' weights, how much may be in memory at once; none where a layer alone is more."""
ROUNDING = 1e-4
"""Largest difference of the last MLP's outputs, relative to their largest one."""
LAYERS_FIRST, BATCHES_FIRST = "layer by layer", "batch by batch"

Pass = Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one pass over the text was like."""

    outputs: Tensor
    """Of the last layer's MLP, in the order of the text."""
    most_bytes: int
    """Of layers' weights that were in memory at once."""


def layer_major(bench: Bench, name: str, goal: float) -> Finding:
    """Weights read by accelerate's offload for each batch, over those read in our execution."""
    spec = bench.spec.model_copy(update={"offload": "disk"})
    model = load(bench.model.checkpoint, spec, bench.folder)
    rows = text_windows(bench, bench.sizes.census_tokens // (2 * BATCHES))
    each = -(-len(rows) // BATCHES)
    passes: dict[str, Pass] = {
        LAYERS_FIRST: partial(_layers_first, model, rows, each),
        BATCHES_FIRST: partial(_batches_first, model, rows, each),
    }
    seen = {side: _watched(model, one) for side, one in passes.items()}
    timed = in_turn(
        {side: partial(_counted, one) for side, one in passes.items()}, bench.repeats, name
    )
    reads = {side: timed[side].result for side in passes}
    weights = sum(_bytes(layer) for layer in bench.model.layers)
    limit = max(LIMIT * weights, max(_bytes(layer) for layer in bench.model.layers))
    most = max(one.most_bytes for one in seen.values())
    expected, found = (seen[side].outputs for side in (BATCHES_FIRST, LAYERS_FIRST))
    difference = float((found - expected).abs().max() / expected.abs().max())
    times = ratios(timed[BATCHES_FIRST].seconds, timed[LAYERS_FIRST].seconds)
    return Finding(
        name=name,
        goal=goal,
        ratios=[reads[BATCHES_FIRST] / reads[LAYERS_FIRST]] * bench.repeats,
        sides=timed,
        details={
            "weights_read": reads,
            "batches": -(-len(rows) // each),
            "tokens": sum(map(len, rows)),
            "time_ratios": times,
            "layer_bytes": weights,
            "most_layer_bytes": {side: one.most_bytes for side, one in seen.items()},
            "largest_difference": {"relative": difference},
        },
        notes=[
            f"{sum(map(len, rows))} tokens in batches of {each} windows: {reads[LAYERS_FIRST]} "
            f"weights read, {reads[BATCHES_FIRST]} by accelerate",
            f"time ratio {median(times):.3f} ({median(timed[BATCHES_FIRST].seconds):.1f} s over "
            f"{median(timed[LAYERS_FIRST].seconds):.1f} s), the file being in the system's cache",
            f"layers' weights in memory at once: {most / 2**20:.0f} of {weights / 2**20:.0f} MiB, "
            f"limit {limit / 2**20:.0f}",
            f"largest difference of outputs {difference:.2g} of the largest output",
        ],
        agree=difference < ROUNDING and most <= limit,
    )


def _layers_first(model: LoadedModel, rows: Sequence[Row], each: int) -> None:
    read(model, rows, range(len(rows)), TokenBudget(each * len(rows[0])), lambda _: None)


@torch.inference_mode()
def _batches_first(model: LoadedModel, rows: Sequence[Row], each: int) -> None:
    """Accelerate's own way: a layer's weights come for a batch, and go when it has passed."""
    for first in range(0, len(rows), each):
        model.hidden_states(torch.tensor(rows[first : first + each], device=model.input_device))


def _counted(one: Pass) -> int:
    """Weights that a pass reads."""
    number = 0

    def count(_name: str) -> None:
        nonlocal number
        number += 1

    with _told_of_reads(count):
        one()
    return number


def _watched(model: LoadedModel, one: Pass) -> _Seen:
    outputs: list[Tensor] = []
    most = 0

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal most
        most = max(most, _bytes(model.layers))
        outputs.append(output.flatten(0, -2).cpu())

    def measure(_name: str) -> None:
        nonlocal most
        most = max(most, _bytes(model.layers))

    handle = model.sites[-1].output.register_forward_hook(keep)
    try:
        with _told_of_reads(measure):
            one()
    finally:
        handle.remove()
    return _Seen(torch.cat(outputs), most)


def _bytes(module: nn.Module) -> int:
    """Of weights that are in memory."""
    here = (weight for weight in module.parameters() if not weight.is_meta)
    return sum(weight.numel() * weight.element_size() for weight in here)


@contextmanager
def _told_of_reads(tell: Callable[[str], None]) -> Iterator[None]:
    """Be told the name of each weight that accelerate reads from the disk."""
    original = OffloadedWeightsLoader.__getitem__

    def told(self: OffloadedWeightsLoader, key: str) -> Tensor:
        tell(key)
        weight: Tensor = original(self, key)
        return weight

    OffloadedWeightsLoader.__getitem__ = told
    try:
        yield
    finally:
        OffloadedWeightsLoader.__getitem__ = original
