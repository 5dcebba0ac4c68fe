"""Counting the n-grams after which neurons are active, over a text.

Shapes: ``N`` tokens of a batch, ``D`` model width, ``F`` neurons of a layer, ``K`` some of them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.models.loading import LoadedModel, MlpSite
from sweeper.neurons.firing import FirstPass, cutoffs, special_tokens
from sweeper.neurons.ngrams import NgramCounts, Rule, ngram_ids
from sweeper.neurons.passes import Batch, Unseen, read, watching_factors
from sweeper.score.memory import TokenBudget
from sweeper.score.tokens import Row

Ints = NDArray[np.int64]


def ngram_counts(
    model: LoadedModel,
    rows: Sequence[Row],
    windows: range,
    budget: TokenBudget,
    threshold: float,
    known: Sequence[FirstPass],
    rules: Mapping[int, Rule],
) -> list[dict[int, NgramCounts]]:
    """Exact counts for the neurons that few n-grams explain, by layer and n.

    Without a neuron that may be explained, nothing is read. In gated MLPs the counts of single
    tokens have the factors of the activations, too.

    Args:
        model: the loaded model, without clamps.
        rows: all windows of the text.
        windows: which of them are read.
        budget: most positions in one forward pass.
        threshold: a neuron is active where its activation exceeds it.
        known: of every layer, over the whole text.
        rules: n -> what it takes for a neuron to be explained.

    Raises:
        FloatingPointError: a factor is NaN or infinite.
    """
    counting = _Counting(model, rows, windows.start, threshold, known, rules)
    if counting.sites:
        with watching_factors(counting.sites, counting.look):
            read(model, rows, windows, budget, counting.begin)
    return counting.layers


class _Counting(Unseen):
    def __init__(
        self,
        model: LoadedModel,
        rows: Sequence[Row],
        first: int,
        threshold: float,
        known: Sequence[FirstPass],
        rules: Mapping[int, Rule],
    ) -> None:
        super().__init__(len(model.sites), first)
        self._rows, self._vocabulary = rows, vocabulary_of(model)
        self._special = special_tokens(model)
        self._cutoffs = cutoffs(model, threshold)
        self._lengths = sorted(rules)
        self._ids: dict[int, Ints] = {}
        self.layers = [
            {
                n: NgramCounts(of_layer.activations[n - 1], rule, of_layer.least[n - 1])
                for n, rule in rules.items()
            }
            for of_layer in known
        ]
        self.sites = [
            site
            for site, of_layer in zip(model.sites, known, strict=True)
            if len(candidates(of_layer, rules))
        ]
        """Those with neurons that may be explained."""

    def begin(self, batch: Batch) -> None:
        super().begin(batch)
        rows = self._rows[batch.first : batch.end]
        self._ids = {n: ngram_ids(rows, n, self._vocabulary, self._special) for n in self._lengths}

    def look(self, site: MlpSite, values_NF: Tensor, factors_NF: Tensor | None) -> None:
        wanted, counts = self._wanted(site.layer), self.layers[site.layer]
        with self.new_places(site.layer) as places:
            if places is None or not len(wanted):
                return
            columns_K = torch.from_numpy(wanted).to(values_NF.device)
            active_NK = values_NF[places].index_select(1, columns_K) >= self._cutoffs[site.layer]
            tokens_P, of_P = active_NK.nonzero().T.cpu().numpy()
            factors_P: NDArray[np.float64] | None = None
            if factors_NF is not None and 1 in counts:
                chosen_NK = factors_NF[places].index_select(1, columns_K)
                factors_P = chosen_NK[active_NK].double().cpu().numpy()
                if not np.isfinite(factors_P).all():
                    raise FloatingPointError(f"layer {site.layer}: a factor is NaN or infinite")
            for n, of_length in counts.items():
                ngrams_P = self._ids[n][places][tokens_P]
                of_length.take(wanted[of_P], ngrams_P, factors_P if n == 1 else None)

    def _wanted(self, layer: int) -> Ints:
        of_layer = self.layers[layer].values()
        return np.flatnonzero(np.logical_or.reduce([counts.candidates for counts in of_layer]))


def candidates(known: FirstPass, rules: Mapping[int, Rule]) -> Ints:
    """Neurons of a layer whose n-grams are counted: they may be explained by those of some n."""
    least = [known.least[n - 1] for n in rules]
    may = [(at > 0) & (at <= rule.most) for at, rule in zip(least, rules.values(), strict=True)]
    return np.flatnonzero(np.logical_or.reduce(may))


def vocabulary_of(model: LoadedModel) -> int:
    """Number of different tokens, by which n-grams have their numbers."""
    size: int = model.model.config.get_text_config().vocab_size
    return size
