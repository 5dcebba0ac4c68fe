"""The streaming census: one pass over the windows, a summary of fixed size for each layer.

Shapes: ``N`` tokens of a batch, ``D`` model width, ``F`` neurons of a layer.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sweeper.models.loading import LoadedModel, MlpSite
from sweeper.neurons.mapping import Pairs
from sweeper.neurons.passes import Batch, read, watching
from sweeper.neurons.summary import Summary
from sweeper.score.memory import TokenBudget
from sweeper.score.tokens import Row


def summaries(
    model: LoadedModel,
    rows: Sequence[Row],
    windows: range,
    budget: TokenBudget,
    bins: int,
    pairs: Sequence[Pairs],
) -> list[Summary]:
    """Summaries of all layers over some of a text's windows.

    The grids are laid out by the first window of the whole text, whichever part is read, so that
    the summaries of all parts have the same.

    Args:
        model: the loaded model, without clamps.
        rows: all windows of the text.
        windows: which of them; none beyond the end, and at least one.
        budget: most positions in one forward pass.
        bins: of a neuron's histogram.
        pairs: of each window, for MD.

    Raises:
        FloatingPointError: an activation is NaN or infinite.
        MemoryError: memory ran out while a summary was updated.
    """
    gathering = _Gathering(bins, pairs, windows.start)
    with watching(model.sites, gathering.look):
        read(model, rows, range(1), budget, gathering.begin)
        left = range(max(windows.start, 1), windows.stop)
        read(model, rows, left, budget, gathering.begin)
    return [gathering.layers[site.layer].summary for site in model.sites]


class _Layer:
    """A layer's summary, and how far it has come."""

    def __init__(self, summary: Summary, window: int) -> None:
        self.summary = summary
        self.window = window
        """The first that it has not taken in."""
        self.whole = True
        """Whether no update was broken off."""


class _Gathering:
    def __init__(self, bins: int, pairs: Sequence[Pairs], first: int) -> None:
        self._bins, self._pairs, self._first = bins, pairs, first
        self.layers: dict[int, _Layer] = {}
        self._batch = Batch(0, 0, 0)

    def begin(self, batch: Batch) -> None:
        self._batch = batch

    def look(self, site: MlpSite, inputs_ND: Tensor, values_NF: Tensor) -> None:
        try:
            if site.layer not in self.layers:
                summary = Summary.laid_out(values_NF, self._bins)
                self.layers[site.layer] = _Layer(summary, self._first)
            self._take_in(self.layers[site.layer], inputs_ND, values_NF)
        except FloatingPointError as error:
            raise FloatingPointError(f"layer {site.layer}: {error}") from error

    def _take_in(self, layer: _Layer, inputs_ND: Tensor, values_NF: Tensor) -> None:
        """Add the batch's windows that are new: after a failure in a higher layer some are not."""
        if not layer.whole:
            raise MemoryError("memory ran out in the middle of the census' own sums")
        batch = self._batch
        start = max(layer.window, batch.first)
        if start >= batch.end:
            return
        layer.whole = False
        known = (start - batch.first) * batch.length
        layer.summary.add(values_NF[known:])
        pairs = self._positions(start, values_NF.device)
        if len(pairs):
            layer.summary.pairs.add(layer.summary.grid, inputs_ND, values_NF, pairs)
        layer.window, layer.whole = batch.end, True

    def _positions(self, start: int, device: torch.device) -> Tensor:
        """The new windows' pairs as positions in the batch, (P, 2)."""
        batch = self._batch
        windows = range(start, batch.end)
        offsets = [(window - batch.first) * batch.length for window in windows]
        moved = [self._pairs[w] + offset for w, offset in zip(windows, offsets, strict=True)]
        return torch.from_numpy(np.concatenate(moved)).to(device)
