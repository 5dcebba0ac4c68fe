import numpy as np
import pytest

from sweeper.neurons.routing.prediction import branches, firing_against_values, polynomials, trees

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
    table = firing_against_values(values, 0.1, residuals, norms, seed=0).set_index("features")
    assert table.loc["binary", "accuracy"] > 0.93 > table.loc["continuous", "accuracy"]
    assert table.loc["continuous", "r2"] == pytest.approx(1, abs=1e-4)
    assert 0.4 < table.loc["binary", "r2"] < 0.75  # a sign carries 2 / pi of a normal value
    assert table["majority"].between(0.7, 0.8).all()


def test_nothing_tells_noise():
    values, _ = routed()
    noise = np.random.default_rng(9).normal(size=TOKENS)
    table = firing_against_values(values, 0.1, noise, noise, seed=0)
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
    table = branches(inputs, deltas, (1, 2), seed=0).set_index("clusters")["r2"]
    assert table[2] > 0.99
    assert table[1] < 0.9
