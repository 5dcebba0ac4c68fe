"""What tells how nonlinear a layer is at a token: firing, values, trees, polynomials, branches.

Balogh (2026), sections 6 and 7. Everything is fitted on 70 % of the tokens and judged on the rest,
by scikit-learn.

Shapes: ``N`` tokens, ``K`` routing neurons, ``D`` MLP inputs, ``E`` MLP outputs.
"""

from collections.abc import Iterable, Iterator
from itertools import repeat

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import pairwise_distances, pairwise_distances_argmin
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

HELD_OUT = 0.3
NONLINEAR = 0.25
"""Share of the tokens, those with the largest |delta|, that a classifier is to find."""
DEPTHS = {"binary": 3, "quintiles": 5}
COMPONENTS = 50
DEGREES = range(2, 8)
EXTREME = 0.1
"""Share of the tokens on which polynomials are judged."""
BRANCH_DEGREE = 3
BRANCHES = {"branches": (1, 2, 4, 8), "branches_spectral": (2, 4, 8)}
"""Analysis -> numbers of clusters; one is one, however it is found."""
MOST_SPECTRAL = 2000
"""Tokens among which spectral clusters are sought: it takes the square of their number."""
NEIGHBOUR = 7
"""The neighbour whose distance tells how densely tokens lie."""
LEAST_ALIKE = 1e-10
"""Similarity of tokens that are far apart: without any, a graph would fall into pieces."""
LEAST_TOKENS = 500
"""Fewer tokens say nothing about any of this."""
LEAST_MEMBERS = 10
"""A cluster with fewer tokens has its mean in place of a polynomial."""
VARYING = 1e-10
"""Components with less than this part of the first one's variance are rounding."""
DIGITS = 5
"""Tokens whose components agree in so many digits are the same to a clustering."""


def predictions(
    values_NK: Floats,
    fires_NK: Bools,
    inputs_ND: Floats,
    deltas_NE: Floats,
    norms_N: Floats,
    seed: int,
) -> pd.DataFrame:
    """All of the below for one layer.

    Args:
        values_NK: activations of the routing neurons at at least ``LEAST_TOKENS`` tokens.
        fires_NK: whether they fire there.
        inputs_ND: MLP inputs.
        deltas_NE: what the affine map leaves over.
        norms_N: |MLP output|.
        seed: of splits and clusters.

    Returns:
        ``analysis`` (``firing``, ``tree``, ``polynomial``, ``branches``, ``branches_spectral``),
        ``setting``, ``metric`` (``accuracy``, ``r2``), ``value`` and ``reference`` (of an accuracy:
        that of always saying the commonest class; NaN elsewhere).
    """
    residuals_N = np.linalg.norm(deltas_NE, axis=1)
    firing = firing_against_values(values_NK, fires_NK, residuals_N, norms_N, seed)
    grown = trees(fires_NK, residuals_N, seed)
    powers = polynomials(inputs_ND, deltas_NE, seed)
    cut = branches(inputs_ND, deltas_NE, seed)
    rows = [
        *_rows("firing", firing["features"], "accuracy", firing["accuracy"], firing["majority"]),
        *_rows("firing", firing["features"], "r2", firing["r2"]),
        *_rows("tree", grown["classes"], "accuracy", grown["accuracy"], grown["majority"]),
        *_rows("polynomial", powers["degree"], "r2", powers["r2"]),
        *(
            row
            for name in BRANCHES
            for own in [cut[cut["analysis"] == name]]
            for row in _rows(name, own["clusters"], "r2", own["r2"])
        ),
    ]
    return pd.DataFrame(rows, columns=["analysis", "setting", "metric", "value", "reference"])


def _rows(
    analysis: str,
    settings: Iterable[object],
    metric: str,
    values: Iterable[float],
    references: Iterable[float] | None = None,
) -> Iterator[tuple[str, str, str, float, float]]:
    known = repeat(float("nan")) if references is None else references
    for setting, value, reference in zip(settings, values, known, strict=False):
        yield analysis, str(setting), metric, float(value), float(reference)


def firing_against_values(
    values_NK: Floats, fires_NK: Bools, residuals_N: Floats, norms_N: Floats, seed: int
) -> pd.DataFrame:
    """How well routing neurons predict |delta| and |output|, by their firing and by their values.

    Args:
        values_NK: activations of the routing neurons.
        fires_NK: whether they fire.
        residuals_N: |delta|; the largest quarter is to be found by logistic regression.
        norms_N: |MLP output|, to be predicted by ridge regression.
        seed: of the split.

    Returns:
        ``features`` (``binary`` or ``continuous``), ``accuracy`` (of the classes), ``r2`` (of the
        output norm), both held out, and ``majority`` (accuracy of always saying "linear").
    """
    train, test = _split(len(values_NK), seed)
    nonlinear_N = _largest(residuals_N, NONLINEAR)
    rows = []
    for name, features_NK in (("binary", fires_NK.astype(np.float64)), ("continuous", values_NK)):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        classifier.fit(features_NK[train], nonlinear_N[train])
        regression = make_pipeline(StandardScaler(), Ridge(alpha=1.0))
        regression.fit(features_NK[train], norms_N[train])
        rows.append(
            {
                "features": name,
                "accuracy": float(classifier.score(features_NK[test], nonlinear_N[test])),
                "r2": _r2(norms_N[test], regression.predict(features_NK[test])),
                "majority": float(1 - nonlinear_N[test].mean()),
            }
        )
    return pd.DataFrame(rows)


def trees(fires_NK: Bools, residuals_N: Floats, seed: int) -> pd.DataFrame:
    """Accuracy of decision trees on firing patterns, held out.

    Args:
        fires_NK: whether each routing neuron fires.
        residuals_N: |delta|.
        seed: of the split.

    Returns:
        ``classes`` (``binary``: the largest quarter of |delta| or not; ``quintiles`` of |delta|),
        ``depth``, ``accuracy``, and ``majority`` (accuracy of always saying the commonest class).
    """
    train, test = _split(len(fires_NK), seed)
    ranks = np.argsort(np.argsort(residuals_N, kind="stable"), kind="stable")
    classes = {
        "binary": _largest(residuals_N, NONLINEAR).astype(np.int64),
        "quintiles": 5 * ranks // len(ranks),
    }
    rows = []
    for name, classes_N in classes.items():
        tree = DecisionTreeClassifier(max_depth=DEPTHS[name], random_state=seed)
        tree.fit(fires_NK[train], classes_N[train])
        accuracy = float(tree.score(fires_NK[test], classes_N[test]))
        majority = float(np.bincount(classes_N[test]).max() / len(test))
        rows.append((name, DEPTHS[name], accuracy, majority))
    return pd.DataFrame(rows, columns=["classes", "depth", "accuracy", "majority"])


def polynomials(
    inputs_ND: Floats, deltas_NE: Floats, seed: int, degrees: Iterable[int] = DEGREES
) -> pd.DataFrame:
    """How much of delta a polynomial of the input's principal components explains.

    Of each of the first 50 components the powers up to the degree, without products of different
    components, of which there would be a quarter of a billion at degree 7: what depends on two
    components together stays unexplained.

    Args:
        inputs_ND: MLP inputs.
        deltas_NE: what the affine map leaves over.
        seed: of the split.
        degrees: which ones.

    Returns:
        ``degree`` and ``r2``: share of the variance of delta explained, over all its directions,
        on held-out tokens among the tenth with the largest |delta|.
    """
    train, test = _split(len(inputs_ND), seed)
    extreme = _largest(np.linalg.norm(deltas_NE, axis=1), EXTREME)
    judged = test[extreme[test]]
    components = _Components(inputs_ND[train])
    known, asked = components(inputs_ND[train]), components(inputs_ND[judged])
    rows = []
    for degree in degrees:
        predicted = _fitted(known, deltas_NE[train], degree).predict(_powers(asked, degree))
        rows.append((degree, _r2(deltas_NE[judged], predicted)))
    return pd.DataFrame(rows, columns=["degree", "r2"])


def branches(inputs_ND: Floats, deltas_NE: Floats, seed: int) -> pd.DataFrame:
    """Whether the extreme tokens fall into branches, each with a polynomial of its own.

    The tenth of the tokens with the largest |delta| is put into clusters of its inputs' principal
    components; each cluster has a cubic. Clusters are those of k-means, where held-out tokens are
    of the nearest mean, and spectral ones (``_spectral``).

    Args:
        inputs_ND: MLP inputs.
        deltas_NE: what the affine map leaves over.
        seed: of the split and of the clusters.

    Returns:
        ``analysis`` (of ``BRANCHES``), ``clusters`` and ``r2`` on held-out tokens; NaN where there
        are more clusters than different tokens.
    """
    extreme = np.flatnonzero(_largest(np.linalg.norm(deltas_NE, axis=1), EXTREME))
    x_ND, y_NE = inputs_ND[extreme], deltas_NE[extreme]
    train, test = _split(len(extreme), seed)
    project = _Components(x_ND[train], standardised=False)
    seen, asked = project(x_ND[train]), project(x_ND[test])
    rows = []
    for analysis, numbers in BRANCHES.items():
        cluster = _k_means if analysis == "branches" else _spectral
        distinct = _distinct(seen if cluster is _k_means else seen[:MOST_SPECTRAL])
        for number in numbers:
            if number > distinct:
                rows.append((analysis, number, float("nan")))
                continue
            of_train, of_test = cluster(seen, asked, number, seed)
            predicted = np.empty_like(y_NE[test])
            for one in np.unique(of_test):
                members, wanted = train[of_train == one], test[of_test == one]
                predicted[of_test == one] = _cubic(x_ND[members], y_NE[members], x_ND[wanted])
            rows.append((analysis, number, _r2(y_NE[test], predicted)))
    return pd.DataFrame(rows, columns=["analysis", "clusters", "r2"])


def _distinct(components_NC: Floats) -> int:
    """How many different tokens there are."""
    largest = np.abs(components_NC).max() or 1.0
    return len(np.unique(np.round(components_NC / largest, DIGITS), axis=0))


def _k_means(seen_NC: Floats, asked_NC: Floats, number: int, seed: int) -> tuple[Ints, Ints]:
    """Clusters of tokens that are seen, and of those that are asked for."""
    means = KMeans(number, n_init=10, random_state=seed).fit(seen_NC)
    return means.labels_, means.predict(asked_NC)


def _spectral(seen_NC: Floats, asked_NC: Floats, number: int, seed: int) -> tuple[Ints, Ints]:
    """As ``_k_means``, of the first ``MOST_SPECTRAL`` tokens that are seen.

    Two tokens are alike by exp(-d^2 / (s t)), d being their distance, s and t their distances to
    their seventh neighbours (Zelnik-Manor and Perona 2004). Spectral clusters do not say where a
    new token belongs: all others are of the cluster of the nearest token.
    """
    first_NC = seen_NC[:MOST_SPECTRAL]
    distances_NN = pairwise_distances(first_NC)
    near_N = np.partition(distances_NN, NEIGHBOUR, axis=1)[:, NEIGHBOUR]
    near_N = np.maximum(near_N, VARYING * distances_NN.max())  # there may be many of one token
    alike = np.maximum(np.exp(-(distances_NN**2) / np.outer(near_N, near_N)), LEAST_ALIKE)
    found = SpectralClustering(number, affinity="precomputed", random_state=seed).fit(alike)
    of_seen, of_asked = (
        found.labels_[pairwise_distances_argmin(tokens, first_NC)] for tokens in (seen_NC, asked_NC)
    )
    return of_seen, of_asked


def _cubic(inputs_ND: Floats, outputs_NE: Floats, asked_ND: Floats) -> Floats:
    if len(inputs_ND) < LEAST_MEMBERS:
        mean_E = outputs_NE.mean(0)
        return np.broadcast_to(mean_E, (len(asked_ND), len(mean_E)))
    components = _Components(inputs_ND)
    ridge = _fitted(components(inputs_ND), outputs_NE, BRANCH_DEGREE)
    predicted: Floats = ridge.predict(_powers(components(asked_ND), BRANCH_DEGREE))
    return predicted


class _Components:
    """Principal components of inputs; at most 50, without those that are rounding."""

    def __init__(self, inputs_ND: Floats, *, standardised: bool = True) -> None:
        with np.errstate(divide="ignore", invalid="ignore"):  # of inputs that never vary
            self._project = PCA(min(COMPONENTS, *inputs_ND.shape), random_state=0).fit(inputs_ND)
        variances = self._project.explained_variance_
        self._kept = variances > VARYING * variances[0]
        self._kept[0] = True
        sd = np.sqrt(variances[self._kept])
        self._scale = np.where(sd > 0, sd, 1.0) if standardised else 1.0

    def __call__(self, inputs_ND: Floats) -> Floats:
        components: Floats = self._project.transform(inputs_ND)[:, self._kept] / self._scale
        return components


def _fitted(components_NC: Floats, outputs_NE: Floats, degree: int) -> Pipeline:
    """Ridge regression on powers of components."""
    model = make_pipeline(StandardScaler(), Ridge(alpha=1.0))
    return model.fit(_powers(components_NC, degree), outputs_NE)


def _powers(components_NC: Floats, degree: int) -> Floats:
    return np.concatenate([components_NC**power for power in range(1, degree + 1)], axis=1)


def _r2(expected: Floats, predicted: Floats) -> float:
    """Share of the variance that is explained, over all columns; NaN where nothing varies."""
    total = float(np.square(expected - expected.mean(0)).sum())
    left = float(np.square(expected - predicted).sum())
    return 1 - left / total if total > VARYING * float(np.square(expected).sum()) else float("nan")


def _split(number: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    train, test = train_test_split(np.arange(number), test_size=HELD_OUT, random_state=seed)
    return train, test


def _largest(values_N: Floats, share: float) -> NDArray[np.bool_]:
    """Whether each value is among the largest ones."""
    chosen = np.zeros(len(values_N), bool)
    chosen[np.argsort(-values_N, kind="stable")[: round(share * len(values_N))]] = True
    return chosen
