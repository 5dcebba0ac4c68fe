"""Counting the n-grams after which neurons are active, over a text.

Shapes: ``N`` tokens of a batch, ``D`` model width, ``F`` neurons of a layer.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sweeper.models.loading import LoadedModel, MlpSite
from sweeper.neurons.activity import cutoff
from sweeper.neurons.firing import Firing
from sweeper.neurons.ngrams import NgramCounts, Rule, ngram_ids
from sweeper.neurons.passes import Batch, Unseen, read, watching
from sweeper.score.memory import TokenBudget
from sweeper.score.tokens import Row

Ints = NDArray[np.int64]


def activations_after(firing: Firing, n: int) -> Ints:
    """How often each neuron is active at the end of an n-gram of its window; shape (F,).

    Args:
        firing: over windows of full length only.
        n: length of the n-grams; the first n - 1 tokens of a window end none.

    Raises:
        ValueError: the text had shorter windows, of which positions are not known.
    """
    length = len(firing.by_position)
    if firing.num_tokens != firing.num_windows * length:
        raise ValueError("n-grams are counted over windows of full length")
    found: Ints = firing.by_position[n - 1 :].sum(0).cpu().numpy().astype(np.int64)
    return found


def ngram_counts(
    model: LoadedModel,
    rows: Sequence[Row],
    windows: range,
    budget: TokenBudget,
    threshold: float,
    firing: Sequence[Firing],
    rules: Mapping[int, Rule],
) -> list[dict[int, NgramCounts]]:
    """Exact counts for the neurons that few n-grams explain, by layer and n.

    Args:
        model: the loaded model, without clamps.
        rows: all windows of the text.
        windows: which of them are read.
        budget: most positions in one forward pass.
        threshold: a neuron is active where its activation exceeds it.
        firing: of every layer, over the whole text.
        rules: n -> what it takes for a neuron to be explained.
    """
    counting = _Counting(model, rows, windows.start, threshold, firing, rules)
    with watching(model.sites, counting.look):
        read(model, rows, windows, budget, counting.begin)
    return counting.layers


class _Counting(Unseen):
    def __init__(
        self,
        model: LoadedModel,
        rows: Sequence[Row],
        first: int,
        threshold: float,
        firing: Sequence[Firing],
        rules: Mapping[int, Rule],
    ) -> None:
        super().__init__(len(model.sites), first)
        self._rows, self._vocabulary = rows, model.model.config.get_text_config().vocab_size
        self._cutoffs = [cutoff(site.activation, threshold) for site in model.sites]
        self._ids: dict[int, Ints] = {}
        self.layers = [
            {n: NgramCounts(activations_after(of_layer, n), rule) for n, rule in rules.items()}
            for of_layer in firing
        ]

    def begin(self, batch: Batch) -> None:
        super().begin(batch)
        rows = self._rows[batch.first : batch.end]
        self._ids = {n: ngram_ids(rows, n, self._vocabulary) for n in self.layers[0]}

    def look(self, site: MlpSite, _inputs_ND: Tensor, values_NF: Tensor) -> None:
        places = self.places(site.layer)
        if places is None:
            return
        counts = self.layers[site.layer]
        kept = np.flatnonzero(np.logical_or.reduce([count.kept for count in counts.values()]))
        if not len(kept):
            return
        active_NK = (values_NF[places][:, kept] >= self._cutoffs[site.layer]).cpu().numpy()
        active_NF = np.zeros((len(active_NK), site.size), bool)
        active_NF[:, kept] = active_NK
        for n, count in counts.items():
            count.add(active_NF, self._ids[n][places])
