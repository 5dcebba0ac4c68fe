import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score

from sweeper.neurons.positional import (
    LEAST_INFORMATION,
    by_chance,
    extremes,
    mutual_information,
    positional_types,
)

LENGTH = 400
POSITION = np.arange(LENGTH)


def test_mutual_information_equals_that_of_the_events():
    rng = np.random.default_rng(0)
    windows, positions = 50, 30
    chance = rng.random((4, 1, positions))
    active = rng.random((4, windows, positions)) < chance
    found = mutual_information(active.mean(1))
    for neuron in range(4):
        where = np.tile(np.arange(positions), windows)
        expected = mutual_info_score(where, active[neuron].ravel())
        assert found[neuron] == pytest.approx(expected, rel=1e-9)


def test_mutual_information_is_a_mean_divergence():
    curve = np.linspace(0.1, 0.9, 7)
    overall = curve.mean()
    expected = np.mean([entropy([p, 1 - p], [overall, 1 - overall]) for p in curve])
    assert mutual_information(curve[None])[0] == pytest.approx(expected, rel=1e-12)


def test_neurons_without_positions_carry_none():
    curves = np.array([np.zeros(LENGTH), np.ones(LENGTH), np.full(LENGTH, 0.3)])
    np.testing.assert_allclose(mutual_information(curves), 0, atol=1e-15)
    table = positional_types(curves, 1000)
    assert not table["positional"].any()
    assert set(table["type"]) == {""}


@pytest.mark.parametrize("windows", [10, 12, 40, 400])
def test_chance_makes_no_neuron_positional(windows):
    """Neurons that know nothing of the position: their information is what chance gives."""
    rng = np.random.default_rng(windows)
    rates = np.repeat([0.3, 0.5, 0.7], 300)[:, None]
    curves = rng.binomial(windows, rates, (900, LENGTH)) / windows
    table = positional_types(curves, windows)
    assert table["information"].mean() == pytest.approx(by_chance(windows, LENGTH), rel=0.1)
    assert not table["positional"].any()
    if windows == 10:
        assert (table["information"] > LEAST_INFORMATION).any()


def test_what_exceeds_chance_is_positional():
    rng = np.random.default_rng(0)
    where = np.where(POSITION < LENGTH / 2, 0.2, 0.75)  # 0.157 nats by itself
    for windows in (12, 100):
        curves = rng.binomial(windows, where, (50, LENGTH)) / windows
        assert positional_types(curves, windows)["positional"].all()
    curve = np.where(POSITION < LENGTH / 2, 0.4, 0.75)  # 0.064 nats
    for windows, expected in ((20, False), (10_000, True)):
        table = positional_types(curve[None], windows)
        assert table["positional"].item() == expected


def test_few_windows_tell_of_nobody():
    curve = (POSITION < LENGTH / 2).astype(float)
    for windows in (0, 1, 9):
        table = positional_types(curve[None], windows)
        assert table["information"].item() == pytest.approx(np.log(2))
        assert not table["positional"].item()
        assert table["type"].item() == ""
    assert positional_types(curve[None], 10)["positional"].item()


WAVE = np.sin(POSITION / 15)


@pytest.mark.parametrize(
    ("curve", "kind", "strong"),
    [
        ((WAVE > 0).astype(float), "oscillatory", True),
        (np.clip(0.5 + 0.6 * WAVE, 0.03, 0.97), "oscillatory", False),
        ((POSITION < 200).astype(float), "both_extremes", True),
        (np.where(POSITION < 200, 0.96, 0.04), "both_extremes", False),
        (np.where(POSITION < 200, 0.0, 0.6), "one_extreme", True),
        (np.where(POSITION < 200, 1.0, 0.4), "one_extreme", True),
        (np.where(POSITION < 200, 0.02, 0.6), "one_extreme", False),
        (np.where(POSITION < 200, 0.1, 0.8), "other", False),
    ],
)
def test_types(curve, kind, strong):
    table = positional_types(curve[None], 1000)
    assert table["positional"].all()
    assert (table["type"].item(), table["strong"].item()) == (kind, strong)


def test_a_single_position_is_no_visit():
    curve = np.full(LENGTH, 0.5)
    curve[3] = 0.0
    assert extremes(curve, 0.0, 4) == []
    assert extremes(curve, 0.0, 1) == [0]
    curve[10:20] = 1.0
    curve[30:40] = 1.0
    assert extremes(curve, 0.0, 4) == [1]
