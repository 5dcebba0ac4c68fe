"""The census: statistics of every MLP neuron over the windows of a corpus."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from torch import Tensor

from sweeper.models.loading import LoadedModel
from sweeper.neurons.exact import exact_statistics
from sweeper.neurons.mapping import draw_pairs
from sweeper.neurons.streaming import summaries
from sweeper.neurons.summary import Summary
from sweeper.score.memory import TokenBudget
from sweeper.score.tokens import Row

STATISTICS = (
    *("mean", "sd", "skew", "kurtosis", "share_negative"),
    *("mean_abs", "wd", "wd_bound", "md"),
)
"""Columns of the census that are numbers of one neuron."""

MOST_BOUND = 0.1
"""Error bound of WD (sd) beyond which WD is as good as unknown: that of the least Gaussian neurons
of a model is a few tenths, and an ordinary bound a few thousandths."""

_log = logging.getLogger("sweeper")

NO_WINDOW = "the census' text has no window of at least 2 tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class CensusOptions:
    """How a census is taken."""

    method: Literal["streaming", "exact"] = "streaming"
    bins: int = 1024
    """Streaming: bins of a neuron's histogram."""
    num_pairs: int = 16384
    """Pairs of tokens for MD; 0 leaves it out."""
    fingerprint: str
    """Of the text; the pairs are drawn by it."""
    memory_gb: float = 4.0
    """Exact: most memory for kept activations, in 1e9 bytes."""


def census(
    model: LoadedModel, rows: Sequence[Row], budget: TokenBudget, options: CensusOptions
) -> pd.DataFrame:
    """Statistics of every neuron over all tokens of the rows.

    Args:
        model: the loaded model, without clamps.
        rows: token windows, each within the model's context.
        budget: most positions in one forward pass.
        options: how.

    Returns:
        One row per neuron: layer, neuron, ``STATISTICS``, num_tokens.

    Raises:
        ValueError: there are no windows.
        MemoryError: exact, and one layer's activations exceed ``memory_gb``.
        FloatingPointError: an activation is NaN or infinite.
    """
    if not rows:
        raise ValueError(NO_WINDOW)
    if options.method == "streaming":
        return table_of([census_part(model, rows, (0, len(rows)), budget, options)])
    pairs = draw_pairs(options.num_pairs, list(map(len, rows)), options.fingerprint)
    layers = exact_statistics(model, rows, budget, pairs, options.memory_gb)
    return _table(layers, sum(map(len, rows)))


def census_part(
    model: LoadedModel,
    rows: Sequence[Row],
    windows: tuple[int, int],
    budget: TokenBudget,
    options: CensusOptions,
) -> list[Summary]:
    """A streaming census of some windows: a summary for each layer.

    Args:
        model: the loaded model, without clamps.
        rows: all windows of the text.
        windows: the first one to read, and the one after the last; the text may end before.
        budget: most positions in one forward pass.
        options: how.

    Returns:
        One summary per layer; none if the text has no window in that range.
    """
    pairs = draw_pairs(options.num_pairs, list(map(len, rows)), options.fingerprint)
    first, end = windows
    if first >= len(rows):
        return []
    return summaries(model, rows, range(first, min(end, len(rows))), budget, options.bins, pairs)


def table_of(parts: Iterable[Sequence[Summary]]) -> pd.DataFrame:
    """The census of a text from the summaries of its parts, in the text's order.

    The WD of a neuron that its first window says too little about is NaN (``MOST_BOUND``).

    Args:
        parts: summaries of every layer, one part at a time; an empty one beyond the text's end.

    Raises:
        ValueError: all parts are empty.
    """
    layers: Sequence[Summary] = []
    for part in parts:
        both = zip(layers, part, strict=True) if layers and part else []
        layers = [mine.merged(theirs) for mine, theirs in both] or layers or part
    if not layers:
        raise ValueError(NO_WINDOW)
    return _sure(_table([layer.statistics() for layer in layers], layers[0].num_tokens))


def _sure(table: pd.DataFrame) -> pd.DataFrame:
    """The census without distances that are unknown: such a neuron would be chosen by its error."""
    unknown = table["wd_bound"] > MOST_BOUND
    if unknown.any():
        _log.warning(
            "census: the Wasserstein distance of %d neurons is unknown to more than %g (the first "
            "window is unlike the rest of the text); census.method=exact finds it",
            int(unknown.sum()),
            MOST_BOUND,
        )
    return table.assign(wd=table["wd"].mask(unknown))


def _table(layers: Sequence[Mapping[str, Tensor]], num_tokens: int) -> pd.DataFrame:
    tables = []
    for layer, columns in enumerate(layers):
        table = pd.DataFrame({name: columns[name].cpu().numpy() for name in STATISTICS})
        table.insert(0, "layer", np.int32(layer))
        table.insert(1, "neuron", np.arange(len(table), dtype=np.int32))
        table["num_tokens"] = np.int64(num_tokens)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
