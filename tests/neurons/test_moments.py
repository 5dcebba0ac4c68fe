from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from sweeper.errors import UserError
from sweeper.neurons.moments import balance, nearest_by_moments

MOMENTS = ["skew", "kurtosis", "mean_abs"]


def census(num_layers: int, num_neurons: int, seed: int = 0) -> pd.DataFrame:
    """A random census; the statistics have very different units."""
    random = np.random.default_rng(seed)
    layer, neuron = np.divmod(np.arange(num_layers * num_neurons), num_neurons)
    columns = {name: random.normal(0, 10.0**n, len(layer)) for n, name in enumerate(MOMENTS)}
    return pd.DataFrame({"layer": layer, "neuron": neuron, **columns}).sample(frac=1.0)


def scaled(frame: pd.DataFrame, layer: int) -> pd.DataFrame:
    rows = frame[frame["layer"] == layer].set_index("neuron")[MOMENTS].sort_index()
    return rows / rows.std(ddof=0)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 3))
def test_the_pairs_are_the_cheapest_of_all_possible_ones(seed, size):
    frame = census(2, 9, seed)
    members = tuple(sorted(np.random.default_rng(seed).permutation(9)[:size].tolist()))
    found = nearest_by_moments(frame, {1: members}, MOMENTS)
    values = scaled(frame, 1)
    others = [neuron for neuron in range(9) if neuron not in members]
    distances = pd.DataFrame(
        cdist(values.loc[list(members)], values.loc[others]), list(members), others
    )

    def cost(chosen):
        return sum(distances.loc[own, other] for own, other in zip(members, chosen, strict=True))

    best = min(permutations(others, size), key=cost)
    assert found == {1: tuple(sorted(best))}
    table = balance(frame, {1: members}, found, MOMENTS).set_index("statistic")
    apart = np.abs(values.loc[list(members)].to_numpy() - values.loc[list(best)].to_numpy())
    assert table["after"].tolist() == pytest.approx(apart.mean(axis=0).tolist())
    assert (table["num_pairs"] == size).all()


def test_none_is_taken_twice_and_none_of_the_set():
    frame = census(3, 40)
    target = {layer: tuple(range(layer, 30, 2)) for layer in range(3)}
    found = nearest_by_moments(frame, target, MOMENTS)
    for layer, chosen in found.items():
        assert len(set(chosen)) == len(target[layer]) == len(chosen)
        assert not set(chosen) & set(target[layer])
        assert list(chosen) == sorted(chosen)


def test_twins_are_found_and_balanced_perfectly():
    frame = census(2, 30).sort_values(["layer", "neuron"], ignore_index=True)
    for layer in (0, 1):
        rows = frame["layer"] == layer
        twins = frame.loc[rows & (frame["neuron"] < 5), MOMENTS].to_numpy()
        frame.loc[rows & frame["neuron"].between(10, 14), MOMENTS] = twins
    target = dict.fromkeys((0, 1), tuple(range(5)))
    found = nearest_by_moments(frame, target, MOMENTS)
    assert found == dict.fromkeys((0, 1), tuple(range(10, 15)))
    table = balance(frame, target, found, MOMENTS)
    assert table["after"].abs().max() == pytest.approx(0, abs=1e-12)
    assert table["difference"].abs().max() == pytest.approx(0, abs=1e-12)
    assert table["before"].between(0.5, 3).all()


def test_the_balance_compares_with_a_random_neuron_and_knows_the_direction():
    frame = census(4, 50, seed=3)
    target = {layer: tuple(range(6 + layer)) for layer in range(4)}
    control = {layer: tuple(range(20, 26 + layer)) for layer in range(4)}
    table = balance(frame, target, control, MOMENTS).set_index("statistic")
    before, signed, sizes = [], [], []
    for layer, members in target.items():
        values = scaled(frame, layer)
        others = values.drop(list(members))
        for neuron in members:
            before.append((others - values.loc[neuron]).abs().mean())
        own, other = values.loc[list(members)].mean(), values.loc[list(control[layer])].mean()
        signed.append((other - own) * len(members))
        sizes.append(len(members))
    pd.testing.assert_series_equal(
        table["before"], pd.DataFrame(before).mean(), check_names=False, check_index_type=False
    )
    expected = pd.DataFrame(signed).sum() / sum(sizes)
    np.testing.assert_allclose(table["difference"], expected[table.index])
    assert (table["difference_low"] < table["difference"]).all()
    assert (table["difference"] < table["difference_high"]).all()


def test_one_layer_says_nothing_of_the_spread_over_layers():
    frame = census(1, 20)
    table = balance(frame, {0: (1, 2)}, {0: (3, 4)}, ["skew"])
    assert np.isnan(table[["difference_low", "difference_high"]].to_numpy(float)).all()


def test_a_statistic_that_all_share_tells_none_from_another():
    frame = census(1, 12).assign(kurtosis=7.0)
    with_it = nearest_by_moments(frame, {0: (2, 5)}, MOMENTS)
    assert with_it == nearest_by_moments(frame, {0: (2, 5)}, ["skew", "mean_abs"])


def test_a_pool_too_small_or_a_neuron_without_the_statistic_is_an_error():
    frame = census(1, 10).sort_values("neuron", ignore_index=True)
    with pytest.raises(UserError, match="layer 0 has 4 other neurons, 6 are needed"):
        nearest_by_moments(frame, {0: tuple(range(6))}, MOMENTS)
    frame.loc[3, "skew"] = np.nan
    with pytest.raises(UserError, match="neuron 3 of layer 0 lacks one of skew, kurtosis"):
        nearest_by_moments(frame, {0: (3,)}, MOMENTS)
    # It is no candidate for others either.
    assert 3 not in nearest_by_moments(frame, {0: (0, 1, 2, 4)}, MOMENTS)[0]
    with pytest.raises(
        UserError, match="no neuron of the census in the store has the statistic md"
    ):
        nearest_by_moments(frame, {0: (1,)}, ["md"])
