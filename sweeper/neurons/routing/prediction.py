"""What tells how nonlinear a layer is at a token: firing, values, trees, polynomials, branches.

Balogh (2026), sections 6 and 7. Everything is fitted on 70 % of the tokens and judged on the rest,
by scikit-learn.

Shapes: ``N`` tokens, ``K`` routing neurons, ``D`` MLP inputs, ``E`` MLP outputs.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

Floats = NDArray[np.float64]

HELD_OUT = 0.3
NONLINEAR = 0.25
"""Share of the tokens, those with the largest |delta|, that a classifier is to find."""
DEPTHS = {"binary": 3, "quintiles": 5}
COMPONENTS = 50
DEGREES = range(2, 8)
EXTREME = 0.1
"""Share of the tokens on which polynomials are judged."""
BRANCH_DEGREE = 3


def firing_against_values(
    values_NK: Floats, threshold: float, residuals_N: Floats, norms_N: Floats, seed: int
) -> pd.DataFrame:
    """How well routing neurons predict |delta| and |output|, by their firing and by their values.

    Args:
        values_NK: activations of the routing neurons.
        threshold: a neuron fires where its activation exceeds it.
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
    fires_NK = (values_NK > threshold).astype(np.float64)
    for name, features_NK in (("binary", fires_NK), ("continuous", values_NK)):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        classifier.fit(features_NK[train], nonlinear_N[train])
        regression = make_pipeline(StandardScaler(), Ridge(alpha=1.0))
        regression.fit(features_NK[train], norms_N[train])
        rows.append(
            {
                "features": name,
                "accuracy": float(classifier.score(features_NK[test], nonlinear_N[test])),
                "r2": float(regression.score(features_NK[test], norms_N[test])),
                "majority": float(1 - nonlinear_N[test].mean()),
            }
        )
    return pd.DataFrame(rows)


def trees(fires_NK: NDArray[np.bool_], residuals_N: Floats, seed: int) -> pd.DataFrame:
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

    Of each of the first 50 components the powers up to the degree (mixed products of degree 7
    would be a quarter of a billion).

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
    rows = []
    for degree in degrees:
        model = _Powers(degree, inputs_ND[train], deltas_NE[train])
        predicted = model(inputs_ND[judged])
        rows.append((degree, _r2(deltas_NE[judged], predicted)))
    return pd.DataFrame(rows, columns=["degree", "r2"])


def branches(
    inputs_ND: Floats, deltas_NE: Floats, numbers: Iterable[int], seed: int
) -> pd.DataFrame:
    """Whether the extreme tokens fall into branches, each with a polynomial of its own.

    The tenth of the tokens with the largest |delta| is put into k-means clusters of its inputs'
    principal components; each cluster has a cubic.

    Args:
        inputs_ND: MLP inputs.
        deltas_NE: what the affine map leaves over.
        numbers: of clusters.
        seed: of the split and of k-means.

    Returns:
        ``clusters`` and ``r2`` on held-out tokens.
    """
    extreme = np.flatnonzero(_largest(np.linalg.norm(deltas_NE, axis=1), EXTREME))
    x_ND, y_NE = inputs_ND[extreme], deltas_NE[extreme]
    train, test = _split(len(extreme), seed)
    project = PCA(min(COMPONENTS, len(train), x_ND.shape[1]), random_state=seed).fit(x_ND[train])
    rows = []
    for number in numbers:
        means = KMeans(number, n_init=10, random_state=seed).fit(project.transform(x_ND[train]))
        own = means.predict(project.transform(x_ND[test]))
        predicted = np.empty_like(y_NE[test])
        for cluster in range(number):
            members = train[means.labels_ == cluster]
            model = _Powers(BRANCH_DEGREE, x_ND[members], y_NE[members])
            if (own == cluster).any():
                predicted[own == cluster] = model(x_ND[test][own == cluster])
        rows.append((number, _r2(y_NE[test], predicted)))
    return pd.DataFrame(rows, columns=["clusters", "r2"])


class _Powers:
    """Ridge regression on powers of standardised principal components."""

    def __init__(self, degree: int, inputs_ND: Floats, outputs_NE: Floats) -> None:
        self._degree = degree
        number = min(COMPONENTS, *inputs_ND.shape)
        self._project = make_pipeline(PCA(number, random_state=0), StandardScaler())
        features = self._powers(self._project.fit_transform(inputs_ND))
        self._ridge = make_pipeline(StandardScaler(), Ridge(alpha=1.0)).fit(features, outputs_NE)

    def __call__(self, inputs_ND: Floats) -> Floats:
        predicted: Floats = self._ridge.predict(self._powers(self._project.transform(inputs_ND)))
        return predicted

    def _powers(self, components_NC: Floats) -> Floats:
        return np.concatenate([components_NC**p for p in range(1, self._degree + 1)], axis=1)


def _r2(expected_NE: Floats, predicted_NE: Floats) -> float:
    return float(r2_score(expected_NE, predicted_NE, multioutput="variance_weighted"))


def _split(number: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    train, test = train_test_split(np.arange(number), test_size=HELD_OUT, random_state=seed)
    return train, test


def _largest(values_N: Floats, share: float) -> NDArray[np.bool_]:
    """Whether each value is among the largest ones."""
    chosen = np.zeros(len(values_N), bool)
    chosen[np.argsort(-values_N, kind="stable")[: round(share * len(values_N))]] = True
    return chosen
