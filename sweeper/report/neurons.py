"""What single neurons do with pairs of tokens: distances, signs, and the tokens they separate."""

import numpy as np
import pandas as pd

from sweeper.report.data import CHECKPOINT, complete

NEURON = [*CHECKPOINT, "layer", "neuron"]
PAIR_COLUMNS = [*NEURON, "pair", "text_i", "text_j", "dx", "y_i", "y_j", "similar"]
TOKEN_COLUMNS = [*NEURON, "token", "text", "count", "mean", "sd"]
SIMILAR = (
    "Pairs of similar inputs: a token and, of all sampled ones that are another entry of the "
    "vocabulary, that with the nearest input, where they are nearer to each other than nine tenths "
    "of the random pairs."
)
"""Which pairs the table ``neuron_pairs`` calls similar, for people."""
SIGNS = ("negative-negative", "positive-negative", "positive-positive")
MIN_COUNT = 5
"""Least occurrences of a token whose mean pre-activation is shown."""
NUM_TOKENS = 8
"""Tokens that are shown at each end of a neuron's range."""


def normalised(pairs: pd.DataFrame) -> pd.DataFrame:
    """Distances of inputs and outputs in each neuron's own units, and the signs of its outputs.

    Args:
        pairs: ``PAIR_COLUMNS``.

    Returns:
        The pairs with ``x`` (dx over the largest dx of the neuron's random pairs), ``y``
        (|y_i - y_j| over their median; NaN where that is 0) and ``signs`` (one of ``SIGNS``; 0
        counts as positive).
    """
    rows = complete(pairs, PAIR_COLUMNS).copy()
    if rows.empty:
        return rows.assign(x=[], y=[], signs=[])
    rows["similar"] = rows["similar"].astype(bool)
    rows["dy"] = (rows["y_i"] - rows["y_j"]).abs()
    drawn = rows[["dx", "dy"]].where(~rows["similar"])
    of_neuron = drawn.groupby([rows[name] for name in NEURON], sort=False)
    rows["x"] = rows["dx"] / _nonzero(of_neuron["dx"].transform("max"))
    rows["y"] = rows["dy"] / _nonzero(of_neuron["dy"].transform("median"))
    negative = (rows[["y_i", "y_j"]] < 0).sum(axis=1)
    rows["signs"] = negative.map({2: SIGNS[0], 1: SIGNS[1], 0: SIGNS[2]})
    return rows


def _nonzero(values: pd.Series) -> pd.Series:
    return values.where(values > 0)


def sign_shares(pairs: pd.DataFrame) -> pd.DataFrame:
    """Share of each combination of signs among the pairs of similar inputs, for every neuron.

    Args:
        pairs: ``PAIR_COLUMNS``.

    Returns:
        model, revision, layer, neuron, num_similar, one column for each of ``SIGNS`` (0 to 1), and
        ``apart``: the median of ``y`` among them, 1 being the median of random pairs.
    """
    rows = normalised(pairs)
    rows = rows[rows["similar"].astype(bool)]
    columns = [*NEURON, "num_similar", *SIGNS, "apart"]
    found = [
        dict(zip(NEURON, names, strict=True))
        | {"num_similar": len(group), "apart": float(group["y"].median())}
        | {sign: float((group["signs"] == sign).mean()) for sign in SIGNS}
        for names, group in rows.groupby(NEURON, sort=False)
    ]
    return pd.DataFrame(found, columns=columns)


def separated_tokens(tokens: pd.DataFrame) -> pd.DataFrame:
    """The tokens at both ends of each neuron's range: ``NUM_TOKENS`` lowest and highest means.

    Tokens that occur less than ``MIN_COUNT`` times are left out.

    Returns:
        ``TOKEN_COLUMNS`` and ``end`` ("lowest" or "highest"), by mean from the lowest in each
        neuron. A token of a neuron with few tokens stands at one end only.
    """
    rows = complete(tokens, TOKEN_COLUMNS)
    rows = rows[rows["count"].astype(float) >= MIN_COUNT].dropna(subset=["mean"])
    if rows.empty:
        return rows.assign(end=[])
    rows = rows.sort_values("mean", kind="stable")
    of_neuron = rows.groupby(NEURON, sort=False)
    place, size = of_neuron.cumcount(), of_neuron["mean"].transform("size")
    low = (place < NUM_TOKENS) & (place < (size + 1) // 2)
    high = (place >= size - NUM_TOKENS) & ~low
    ends = rows.assign(end=np.where(low, "lowest", "highest"))[low | high]
    return ends.sort_values([*NEURON, "mean"], kind="stable", ignore_index=True)
