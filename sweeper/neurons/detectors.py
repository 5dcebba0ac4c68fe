"""Token and n-gram detectors: neurons active for a few n-grams, and nearly always for them.

Voita, Ferrando and Nalmpantis (2024), section 4. A detector fulfils three things: (1) few n-grams
make up 95 % of its activations; (2) it covers an n-gram if it is active at least 95 % of the times
that the n-gram occurs; (3) the n-grams that it covers make up at least 95 % of its activations.

Shapes: ``F`` neurons of a layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Ints = NDArray[np.int64]

COVER = 0.95
"""Share of activations, and of occurrences, that the definition asks for."""

MOST = {1: 5, 2: 50, 3: 50}
"""n -> most n-grams of a detector; the study has no bigram detectors, here they are as trigrams."""

ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Detectors:
    """The detectors of a layer."""

    neurons: Ints
    """Sorted."""
    covered: pd.DataFrame
    """neuron, ngram, count (activations), occurrences: the n-grams that each of them covers. With
    ``factors`` where the pairs have them."""


def find_detectors(
    pairs: pd.DataFrame,
    activations: Ints,
    to_cover: Ints,
    occurrences: Mapping[int, int],
    most: int,
) -> Detectors:
    """Detectors among neurons whose n-grams are known.

    Args:
        pairs: neuron, ngram, count, and maybe factors (``ngrams.NgramCounts``).
        activations: (F,), how often each neuron is active after an n-gram.
        to_cover: (F,), n-grams that make up 95 % of them (``ngrams.num_to_cover``); 0: unknown.
        occurrences: of each n-gram in the text.
        most: most n-grams of a detector.
    """
    few = np.flatnonzero((to_cover > 0) & (to_cover <= most))
    of_few = pairs[pairs["neuron"].isin(few)]
    total = of_few["ngram"].map(occurrences).astype(np.int64)
    of_few = of_few.assign(occurrences=total)
    covered = of_few[of_few["count"] >= COVER * total - ROUNDING]
    explained = np.zeros(len(activations))
    np.add.at(explained, covered["neuron"].to_numpy(), covered["count"].to_numpy())
    enough = explained >= COVER * activations - ROUNDING
    neurons = few[enough[few]]
    chosen = covered[covered["neuron"].isin(neurons)]
    ordered = chosen.sort_values(["neuron", "count", "ngram"], ascending=[True, False, True])
    return Detectors(neurons=neurons, covered=ordered.reset_index(drop=True))
