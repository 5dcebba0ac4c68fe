"""The firing census by layer: dead neurons, how many n-grams explain one, detectors, positions."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sweeper.records import ALL_CORPORA

EDGES = (1, 5, 50)
"""Numbers of n-grams at which the groups of explained neurons end."""

FIRING_COLUMNS = [
    *("corpus", "layer", "num_tokens", "num_windows", "num_neurons", "dead", "frequency")
]
POSITIONAL_COLUMNS = ["layer", "type", "strong", "num_neurons", "information"]
EXPLAINED_COLUMNS = ["n", "layer", "bin", "num_neurons"]
DETECTOR_COLUMNS = [
    *("n", "layer", "num_detectors", "num_told", "num_suppressing"),
    *("covered", "cumulative", "new", "new_to_previous"),
]


def firing_by_layer(rows: pd.DataFrame) -> pd.DataFrame:
    """How many neurons of a layer are dead, and how often the others are active.

    Args:
        rows: corpus, layer, active, num_tokens and num_windows of one checkpoint's neurons.

    Returns:
        One row per corpus and layer (``FIRING_COLUMNS``): ``dead`` neurons were never active;
        ``frequency`` is the mean over the others of the share of tokens at which they were, NaN
        where there are no others. A corpus without tokens tells nothing, and has no row.
    """
    if rows.empty:
        return pd.DataFrame(columns=FIRING_COLUMNS)
    read = rows[rows["num_tokens"] > 0]
    alive = read["active"] > 0
    parts = read.assign(dead=~alive, frequency=(read["active"] / read["num_tokens"]).where(alive))
    grouped = parts.groupby(["corpus", "layer"], sort=False, observed=True)
    found = grouped.agg(
        num_tokens=("num_tokens", "max"),
        num_windows=("num_windows", "max"),
        num_neurons=("active", "size"),
        dead=("dead", "sum"),
        frequency=("frequency", "mean"),
    ).reset_index()
    return found.astype({"corpus": str}).sort_values("layer", kind="stable", ignore_index=True)


def positional_neurons(rows: pd.DataFrame) -> pd.DataFrame:
    """The positional ones over all corpora.

    Args:
        rows: corpus, layer, neuron, information, positional, type and strong.
    """
    if rows.empty:
        return pd.DataFrame(columns=["layer", "neuron", "information", "type", "strong"])
    found = rows[(rows["corpus"] == ALL_CORPORA) & rows["positional"].astype(bool)]
    named = found[["layer", "neuron", "information", "type", "strong"]]
    return named.astype({"type": str, "strong": bool}).reset_index(drop=True)


def positional_by_layer(neurons: pd.DataFrame) -> pd.DataFrame:
    """How many neurons of a layer are of each type, and the highest information of those in nats.

    Args:
        neurons: of :func:`positional_neurons`.
    """
    if neurons.empty:
        return pd.DataFrame(columns=POSITIONAL_COLUMNS)
    grouped = neurons.groupby(["layer", "type", "strong"])
    return grouped.agg(
        num_neurons=("neuron", "size"), information=("information", "max")
    ).reset_index()


def chance_information(num_windows: int) -> float:
    """Mutual information of activity and position that windows show by chance alone, in nats.

    The expected divergence of a share of so many windows from its mean is that of a chi-squared
    variable with one degree of freedom, over twice their number. Neurons that are active in few of
    the windows at each position have less.
    """
    return 1 / (2 * num_windows) if num_windows else float("nan")


def bins(most: int) -> list[str]:
    """Names of the groups of neurons by the n-grams that explain them; the last of all others.

    Args:
        most: n-grams from which on the job has not counted.
    """
    ends = _ends(most)
    firsts = [1, *(end + 1 for end in ends[:-1])]
    named = [str(end) if a == end else f"{a}–{end}" for a, end in zip(firsts, ends, strict=True)]
    return [*named, f"more than {ends[-1]}"]


def _ends(most: int) -> list[int]:
    return sorted({min(edge, most) for edge in EDGES})


def explained_by_layer(rows: pd.DataFrame, layers: Sequence[int], most: int) -> pd.DataFrame:
    """How many neurons so many n-grams explain.

    Args:
        rows: layer, n and to_cover of one checkpoint's neurons.
        layers: all of the model.
        most: n-grams from which on ``to_cover`` is not known.

    Returns:
        One row per n, layer and group of :func:`bins`, also where that has no neuron.
    """
    if rows.empty:
        return pd.DataFrame(columns=EXPLAINED_COLUMNS)
    names = bins(most)
    to_cover = rows["to_cover"].astype("Float64").to_numpy(np.float64, na_value=np.inf)
    place = np.searchsorted(_ends(most), to_cover, side="left")
    counted = rows.assign(place=place).groupby(["n", "layer", "place"]).size()
    lengths = sorted(rows["n"].unique())
    wanted = pd.MultiIndex.from_product(
        [lengths, list(layers), range(len(names))], names=["n", "layer", "place"]
    )
    found = counted.reindex(wanted, fill_value=0).rename("num_neurons").reset_index()
    return found.assign(bin=[names[place] for place in found["place"]])[EXPLAINED_COLUMNS]


def detectors_by_layer(
    rows: pd.DataFrame, detected: pd.DataFrame, layers: Sequence[int]
) -> pd.DataFrame:
    """The detectors of each layer, and the different n-grams that they cover together.

    Args:
        rows: layer, n, detector and suppresses of one checkpoint's neurons.
        detected: layer, n and tokens of every n-gram that a detector covers.
        layers: all of the model.

    Returns:
        One row per n and layer (``DETECTOR_COLUMNS``): of ``num_detectors`` it is known of
        ``num_told`` whether they suppress what they detect, and ``num_suppressing`` do.
        ``covered`` different n-grams, ``cumulative`` in this layer and all before, ``new`` in
        none before, ``new_to_previous`` not in the one before.
    """
    if rows.empty:
        return pd.DataFrame(columns=DETECTOR_COLUMNS)
    parts = [
        _of_length(rows[rows["n"] == n], detected[detected["n"] == n], layers).assign(n=n)
        for n in sorted(rows["n"].unique())
    ]
    return pd.concat(parts, ignore_index=True)[DETECTOR_COLUMNS]


def _of_length(rows: pd.DataFrame, detected: pd.DataFrame, layers: Sequence[int]) -> pd.DataFrame:
    found = rows[rows["detector"].astype(bool)]
    told = found["suppresses"].notna()
    per_layer = {
        "num_detectors": found.groupby("layer").size(),
        "num_told": found[told].groupby("layer").size(),
        "num_suppressing": found[told & found["suppresses"].eq(True)].groupby("layer").size(),
        **_ensembles(detected),
    }
    table = pd.DataFrame({"layer": list(layers)})
    for name, counts in per_layer.items():
        table[name] = table["layer"].map(counts).fillna(0).astype(int)
    return table.assign(cumulative=table["new"].cumsum())


def _ensembles(detected: pd.DataFrame) -> dict[str, pd.Series]:
    """Different n-grams by layer: all, those of no layer before, those not of the one before."""
    ngrams = pd.Series([tuple(map(int, tokens)) for tokens in detected["tokens"]], dtype=object)
    places = pd.DataFrame({"layer": detected["layer"].to_numpy(), "ngram": ngrams})
    once = places.drop_duplicates()
    pairs = set(once.itertuples(index=False, name=None))
    changed = [layer for layer, ngram in pairs if (layer - 1, ngram) not in pairs]
    return {
        "covered": once.groupby("layer").size(),
        "new": once.groupby("ngram")["layer"].min().value_counts(),
        "new_to_previous": pd.Series(changed, dtype="int64").value_counts(),
    }
