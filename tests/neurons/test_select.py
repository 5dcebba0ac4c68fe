import numpy as np
import pandas as pd
import pytest

from sweeper.errors import UserError
from sweeper.neurons.select import (
    bottom_of_others,
    by_statistic,
    most_extreme,
    put_in,
    random_set,
)


def frame(*layers: list[float]) -> pd.DataFrame:
    rows = [
        {"layer": layer, "neuron": neuron, "wd": value}
        for layer, values in enumerate(layers)
        for neuron, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_top_is_strictly_above_the_percentile_of_its_own_layer():
    # Layer 0: 0..99; the 99th percentile is 98.01, so 99 alone is above it.
    # Layer 1: the same times 1000, in reverse order.
    census = frame([float(v) for v in range(100)], [1000.0 * (99 - v) for v in range(100)])
    assert by_statistic(census, "wd", "top", 0.01, [0, 1]) == {0: (99,), 1: (0,)}
    assert by_statistic(census, "wd", "top", 0.05, [1]) == {1: (0, 1, 2, 3, 4)}
    assert by_statistic(census, "wd", "bottom", 0.02, [0]) == {0: (0, 1)}


def test_ties_at_the_percentile_are_not_chosen():
    assert by_statistic(frame([1.0, 1.0, 1.0, 1.0]), "wd", "top", 0.5, [0]) == {}


def test_neurons_without_the_statistic_do_not_count():
    census = frame([np.nan] * 50 + [float(v) for v in range(100)], [np.nan] * 5)
    assert by_statistic(census, "wd", "top", 0.01, [0, 1]) == {0: (149,)}


def test_the_share_of_the_whole_layer_misses_only_the_lowest():
    assert by_statistic(frame([3.0, 1.0, 2.0]), "wd", "top", 1.0, [0]) == {0: (0, 2)}


def test_random_sets_depend_on_model_layer_and_seed_alone():
    counts = {4: 5, 1: 3}
    drawn = random_set(counts, 64, "hub:abc", 7)
    assert drawn == random_set(dict(reversed(counts.items())), 64, "hub:abc", 7)
    assert {layer: len(chosen) for layer, chosen in drawn.items()} == counts
    assert drawn[4] == random_set({4: 5}, 64, "hub:abc", 7)[4]
    assert drawn != random_set(counts, 64, "hub:abc", 8)
    assert drawn != random_set(counts, 64, "hub:abd", 7)
    # These very numbers, on any machine and with any version of NumPy.
    assert drawn == {1: (46, 49, 54), 4: (1, 4, 30, 43, 51)}


def test_a_smaller_draw_is_part_of_a_larger_one():
    small, large = (set(random_set({0: n}, 100, "m", 0)[0]) for n in (10, 40))
    assert small < large


def test_draws_are_without_replacement_and_even():
    hits = np.zeros(50)
    for seed in range(2000):
        chosen = random_set({0: 10}, 50, "m", seed)[0]
        assert len(set(chosen)) == 10
        hits[list(chosen)] += 1
    # Each neuron is drawn 400 times on average, sd sqrt(2000 * 0.2 * 0.8) = 17.9.
    assert np.abs(hits - 400).max() < 5 * 17.9


def test_more_than_the_layer_has_gives_the_layer():
    assert random_set({0: 9}, 4, "m", 0) == {0: (0, 1, 2, 3)}


@pytest.mark.parametrize("count", [0])
def test_nothing_asked_nothing_drawn(count):
    assert random_set({0: count}, 4, "m", 0) == {}


def test_what_a_census_lacks_is_named():
    old = frame([1.0, 2.0]).assign(md=np.nan)
    for neurons in (old, old.drop(columns="md")):
        with pytest.raises(
            UserError, match="no neuron of the census in the store has the statistic md; where"
        ):
            by_statistic(neurons, "md", "top", 0.5, [0])


def test_the_bottom_of_the_others_is_nested_and_leaves_the_set_out():
    values = np.random.default_rng(0).permutation(40).astype(float).tolist()
    neurons, target = frame(values), {0: (3, 7, 21)}
    before: set[int] = set()
    for fraction in (0.05, 0.3, 0.6, 1.0):
        found = set(bottom_of_others(neurons, "wd", fraction, target).get(0, ()))
        whole = set(by_statistic(neurons, "wd", "bottom", fraction, [0])[0])
        assert found == whole - {3, 7, 21}
        assert before <= found
        before = found
    assert bottom_of_others(neurons, "wd", 0.0, target) == {}
    # Only the layers of the set.
    two = pd.concat([neurons, neurons.assign(layer=1)])
    assert list(bottom_of_others(two, "wd", 0.5, {1: (0,)})) == [1]


def test_what_is_put_in():
    neurons = frame([1.0, 2.0, 3.0, 4.0]).assign(mean=[0.5, -1.5, 2.5, 0.25])
    chosen = {0: (1, 3)}
    assert put_in("mean", None, neurons, chosen) == {0: (-1.5, 0.25)}
    assert put_in("set", 2.0, None, chosen) == {0: (2.0, 2.0)}
    assert put_in("zero", None, neurons, chosen) == {}
    assert put_in(None, None, None, {}) == {}


def test_the_most_extreme_of_the_whole_model():
    census = frame([0.5, np.nan, 0.9, 0.1], [0.7, 0.9, 0.9, -5.0])
    assert most_extreme(census, "wd", 1) == {0: (2,)}
    # Of equal ones the first, in any order of the rows; sorted in their layers.
    assert most_extreme(census, "wd", 2) == {0: (2,), 1: (1,)}
    assert most_extreme(census.iloc[::-1], "wd", 4) == {0: (2,), 1: (0, 1, 2)}
    assert most_extreme(census, "wd", 99) == {0: (0, 2, 3), 1: (0, 1, 2, 3)}


def test_without_the_statistic_none_is_extreme():
    with pytest.raises(UserError, match="no neuron of the census in the store has the statistic"):
        most_extreme(frame([np.nan, np.nan]), "wd", 3)
