import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from sweeper.neurons.routing import prediction
from sweeper.neurons.routing.prediction import (
    branches,
    firing_against_values,
    polynomials,
    predictions,
    trees,
)

TOKENS = 4000


def routed(seed=0):
    """Eight neurons; how many fire decides nearly alone how nonlinear a token is."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(TOKENS, 8))
    number = (values > 0.1).sum(1)
    residuals = number + 0.1 * rng.normal(size=TOKENS)
    return values, residuals


def test_firing_tells_what_is_made_of_firing():
    values, residuals = routed()
    norms = values @ np.arange(8.0)
    table = firing_against_values(values, values > 0.1, residuals, norms, seed=0)
    table = table.set_index("features")
    assert table.loc["binary", "accuracy"] > 0.93 > table.loc["continuous", "accuracy"]
    assert table.loc["continuous", "r2"] == pytest.approx(1, abs=1e-4)
    assert 0.4 < table.loc["binary", "r2"] < 0.75  # a sign carries 2 / pi of a normal value
    assert table["majority"].between(0.7, 0.8).all()


def test_nothing_tells_noise():
    values, _ = routed()
    noise = np.random.default_rng(9).normal(size=TOKENS)
    table = firing_against_values(values, values > 0.1, noise, noise, seed=0)
    assert (np.abs(table["accuracy"] - table["majority"]) < 0.01).all()
    assert (table["r2"] < 0.02).all()
    of_trees = trees(values > 0.1, noise, seed=0)
    assert (of_trees["accuracy"] - of_trees["majority"] < 0.02).all()


def test_trees():
    values, _ = routed()
    fires = values > 0.1
    residuals = 4.0 * fires[:, 0] + 2.0 * fires[:, 1] + np.linspace(0, 0.1, TOKENS)
    table = trees(fires, residuals, seed=0).set_index("classes")
    assert table.loc["binary", "accuracy"] > 0.9
    assert table.loc["quintiles", "accuracy"] > 0.5
    assert table["depth"].to_dict() == {"binary": 3, "quintiles": 5}


def test_a_polynomial_is_found_at_its_degree():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(TOKENS, 6))
    cubes = inputs**3 @ rng.normal(size=(6, 4))
    # Components of the inputs are not their axes: one direction alone is a power of one component.
    inputs[:, 1:] *= 1e-3
    deltas = inputs[:, :1] ** 3 @ rng.normal(size=(1, 4))
    table = polynomials(inputs, deltas, seed=0, degrees=(2, 3)).set_index("degree")["r2"]
    assert table[3] > 0.999 > table[2]
    noise = polynomials(inputs, rng.normal(size=cubes.shape), seed=0, degrees=(2, 7))
    assert (noise["r2"] < 0.05).all()


def test_branches_are_found_where_they_are():
    rng = np.random.default_rng(0)
    side = np.where(rng.random(TOKENS) < 0.5, 1.0, -1.0)
    inputs = np.column_stack([20 * side, rng.normal(size=TOKENS)])
    # Of the same size everywhere, so that the extreme tokens are on both sides.
    deltas = np.column_stack([side * inputs[:, 1], inputs[:, 1] ** 2])
    table = branches(inputs, deltas, seed=0).set_index(["analysis", "clusters"])["r2"]
    assert table["branches", 2] > 0.99
    # Extreme tokens have a large second input: they are four clouds, far from one another.
    assert table["branches_spectral", 4] > 0.99
    assert table["branches", 1] < 0.9


def ring_and_disc():
    """Tokens of a ring around others: halves of the plane are no clusters of theirs."""
    rng = np.random.default_rng(0)
    inner = rng.random(TOKENS) < 0.5
    radius = np.where(inner, rng.uniform(0, 1, TOKENS), rng.uniform(7, 8, TOKENS))
    angle = rng.uniform(0, 2 * np.pi, TOKENS)
    inputs = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    size = 1 + 0.001 * rng.random(TOKENS)  # alike, so that the extreme tokens are of both
    return inputs, np.where(inner, 1.0, -1.0)[:, None] * [1.0, 2.0] * size[:, None]


def test_spectral_clusters_are_found_where_means_are_not():
    inputs, deltas = ring_and_disc()
    # A cubic knows of distances: with it every clustering would do.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction, "LEAST_MEMBERS", TOKENS)
        table = branches(inputs, deltas, seed=0).set_index(["analysis", "clusters"])["r2"]
    assert table["branches_spectral", 2] > 0.99
    assert table["branches", 2] < 0.5


def test_tokens_beyond_those_that_are_clustered_are_of_the_nearest(monkeypatch):
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    own = rng.integers(3, size=600)
    tokens = centres[own] + rng.normal(size=(600, 2))
    monkeypatch.setattr(prediction, "MOST_SPECTRAL", 100)
    seen, asked = prediction._spectral(tokens[:400], tokens[400:], 3, seed=0)
    known = seen[:100]
    for found, some in ((seen, tokens[:400]), (asked, tokens[400:])):
        distances = np.linalg.norm(some[:, None] - tokens[:100], axis=2)
        np.testing.assert_array_equal(found, known[distances.argmin(1)])
    assert adjusted_rand_score(own, np.concatenate([seen, asked])) > 0.99


def test_one_token_far_from_all_others():
    """Nothing is like it, and the graph of likeness is of one piece nevertheless."""
    rng = np.random.default_rng(0)
    tokens = np.append(rng.normal(size=(1999, 2)), [[1e6, 0.0]], axis=0)
    seen, asked = prediction._spectral(tokens, tokens[-5:], 2, seed=0)
    assert set(seen) == {0, 1}
    assert asked.tolist() == seen[-5:].tolist()


def test_all_predictions_of_a_layer():
    rng = np.random.default_rng(0)
    values, residuals = routed()
    inputs = rng.normal(size=(TOKENS, 6))
    deltas = residuals[:, None] * rng.normal(size=(TOKENS, 3))
    norms = values @ np.arange(8.0)
    table = predictions(values, values > 0.1, inputs, deltas, norms, seed=4)
    found = table.set_index(["analysis", "setting", "metric"])
    assert not found.index.duplicated().any()
    sizes = np.linalg.norm(deltas, axis=1)
    firing = firing_against_values(values, values > 0.1, sizes, norms, seed=4)
    firing = firing.set_index("features")
    assert found.loc[("firing", "binary", "accuracy"), "value"] == firing.loc["binary", "accuracy"]
    assert found.loc[("firing", "continuous", "r2"), "value"] == firing.loc["continuous", "r2"]
    settings = table.groupby("analysis")["setting"].agg("".join)
    assert settings["polynomial"] == "234567"
    assert (settings["branches"], settings["branches_spectral"]) == ("1248", "248")
    assert table["reference"].notna().equals(table["metric"] == "accuracy")


@pytest.mark.parametrize("kind", ["zero", "constant", "few different"])
def test_layers_that_say_nothing(kind):
    rng = np.random.default_rng(0)
    values, _ = routed()
    inputs = rng.normal(size=(TOKENS, 6))
    deltas = rng.normal(size=(TOKENS, 3))
    if kind == "zero":
        deltas[:] = 0
    elif kind == "constant":
        inputs[:] = 2.0
    else:
        inputs = inputs[rng.integers(3, size=TOKENS)]
    norms = np.full(TOKENS, 2.0)
    table = predictions(values, values > 0.1, inputs, deltas, norms, seed=0)
    found = table.set_index(["analysis", "setting", "metric"])["value"]
    assert np.isnan(found["firing", "binary", "r2"])
    assert np.isnan(found["branches", "8", "r2"])
    assert np.isnan(found["branches_spectral", "8", "r2"])
    if kind != "zero":
        assert found["polynomial"].max() < 0.05
