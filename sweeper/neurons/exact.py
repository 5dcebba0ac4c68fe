"""The exact census: activations are kept, and the text passes once for each group of layers.

As many layers at a time as the memory limit allows. What the streaming census is checked against.

Shapes: ``N`` tokens, ``D`` model width, ``F`` neurons of a layer, ``P`` pairs.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from sweeper.models.loading import LoadedModel, MlpSite
from sweeper.neurons.mapping import Pairs, distances, exact_difficulty, gaps
from sweeper.neurons.passes import Batch, read, watching
from sweeper.neurons.statistics import neuron_statistics
from sweeper.score.memory import TokenBudget
from sweeper.score.tokens import Row

CHUNK_VALUES = 2**18
"""Values handled at once when statistics are computed: 2 MiB in float64, so that a chunk and its
like stay in the processor's cache (2**22 took twice as long)."""

Columns = dict[str, Tensor]


def exact_statistics(
    model: LoadedModel,
    rows: Sequence[Row],
    budget: TokenBudget,
    pairs: Sequence[Pairs],
    memory_gb: float,
) -> list[Columns]:
    """The census' columns of every layer, from all of its pre-activations.

    Args:
        model: the loaded model, without clamps.
        rows: token windows, each within the model's context.
        budget: most positions in one forward pass.
        pairs: of each window, for MD.
        memory_gb: most memory for kept activations, in 1e9 bytes.

    Raises:
        MemoryError: one layer's activations exceed ``memory_gb``.
        FloatingPointError: an activation is NaN or infinite.
    """
    starts = list(accumulate(map(len, rows), initial=0))
    moved = [own + start for own, start in zip(pairs, starts[:-1], strict=True)]
    pairs_P2 = torch.from_numpy(np.concatenate(moved))
    columns: list[Columns] = []
    for sites in _layer_groups(model.sites, starts[-1], memory_gb):
        kept = _collect(model, sites, rows, budget, starts, pairs)
        for site in sites:
            values_NF, dx = kept.values.pop(site.layer), kept.dx.pop(site.layer)
            dx_P = torch.cat([dx[window] for window in range(len(rows))])
            columns.append(_columns(site.layer, values_NF, pairs_P2.to(values_NF.device), dx_P))
    return columns


def _layer_groups(
    sites: Sequence[MlpSite], num_tokens: int, memory_gb: float
) -> Iterator[Sequence[MlpSite]]:
    layer_bytes = num_tokens * sites[0].size * 4
    size = int(memory_gb * 1e9 // layer_bytes)
    if size < 1:
        raise MemoryError(
            f"census.memory_gb = {memory_gb:g}: one layer's activations over {num_tokens} tokens "
            f"take {layer_bytes / 1e9:.2g} GB; allow more, read fewer windows, or say "
            "census.method = streaming"
        )
    for start in range(0, len(sites), size):
        yield sites[start : start + size]


class _Kept:
    """Pre-activations, float32 of shape (N, F) by layer; dx of pairs by layer and window."""

    def __init__(self, starts: Sequence[int], pairs: Sequence[Pairs]) -> None:
        self.values: dict[int, Tensor] = {}
        self.dx: dict[int, dict[int, Tensor]] = {}
        self._batch = Batch(0, 0, 0)
        self._starts, self._pairs = starts, pairs

    def begin(self, batch: Batch) -> None:
        self._batch = batch

    def look(self, site: MlpSite, inputs_ND: Tensor, values_NF: Tensor) -> None:
        """Keep a batch; what is seen again after a failure is written again."""
        if site.layer not in self.values:
            self.values[site.layer] = torch.empty(
                (self._starts[-1], site.size), dtype=torch.float32, device=values_NF.device
            )
            self.dx[site.layer] = {}
        begin = self._starts[self._batch.first]
        self.values[site.layer][begin : begin + len(values_NF)] = values_NF
        for window in range(self._batch.first, self._batch.end):
            offset = self._starts[window] - begin
            pairs_P2 = torch.from_numpy(self._pairs[window] + offset).to(inputs_ND.device)
            self.dx[site.layer][window] = distances(inputs_ND, pairs_P2)


def _collect(
    model: LoadedModel,
    sites: Sequence[MlpSite],
    rows: Sequence[Row],
    budget: TokenBudget,
    starts: Sequence[int],
    pairs: Sequence[Pairs],
) -> _Kept:
    kept = _Kept(starts, pairs)
    with watching(sites, kept.look):
        read(model, rows, range(len(rows)), budget, kept.begin)
    return kept


def _columns(layer: int, values_NF: Tensor, pairs_P2: Tensor, dx_P: Tensor) -> Columns:
    if not bool(torch.isfinite(values_NF).all()):
        raise FloatingPointError(f"layer {layer}: a pre-activation is NaN or infinite")
    chunk = max(CHUNK_VALUES // len(values_NF), 1)
    parts = []
    for values_NK in torch.split(values_NF, chunk, dim=1):
        found = neuron_statistics(values_NK.T)
        md = exact_difficulty(gaps(values_NK, pairs_P2), dx_P)
        undefined = found["wd"].isnan()
        parts.append(
            {**found, "wd_bound": found["wd"] * 0, "md": md.masked_fill(undefined, torch.nan)}
        )
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
