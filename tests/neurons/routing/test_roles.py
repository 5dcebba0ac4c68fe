import math

import numpy as np
import pytest

from sweeper.neurons.routing.bits import FiringBits
from sweeper.neurons.routing.roles import (
    BARELY,
    HIGHLY,
    LINEAR,
    Rates,
    Regimes,
    enrichment,
    exclusivity,
    find_gateway,
    find_quorum,
    find_roles,
    gateway_candidates,
    phase,
    regime,
)


def test_regimes_are_shares_of_the_ranks():
    residuals = np.random.default_rng(0).permutation(1000).astype(float)
    for share, low, high in ((LINEAR, 0, 250), (BARELY, 500, 700), (HIGHLY, 950, 1000)):
        assert sorted(residuals[regime(residuals, share)]) == list(range(low, high))
    tied = np.zeros(8)
    assert regime(tied, LINEAR).tolist() == [True, True] + [False] * 6


def rates(size=40, **named):
    """All neurons fire at half of the tokens; the named ones as told: neuron -> rate."""
    columns = {name: np.full(size, 0.5) for name in ("overall", "linear", "barely", "highly")}
    for name, changes in named.items():
        for neuron, value in changes.items():
            columns[name][neuron] = value
    return Rates(**columns)


def test_a_quorum():
    found = find_quorum(
        rates(
            overall={3: 0.1, 4: 0.1, 7: 0.9, 8: 0.7, 9: 0.5},
            linear={3: 0.0, 4: 0.0, 7: 1.0, 8: 0.9, 9: 0.9},
            highly={3: 0.9, 4: 0.8, 7: 0.2, 8: 0.0, 9: 0.1},
        )
    )
    # 9 shifts as much as 7, but fires at half of the tokens only.
    assert (found.handler, found.consensus) == (3, (8, 7))
    assert phase(found, None) == phase(found, 5) == "decision"


@pytest.mark.parametrize(
    "given",
    [
        {"overall": {3: 0.1}, "linear": {3: 0.0}, "highly": {3: 0.9}},  # nobody to agree
        {"overall": {7: 0.9}, "linear": {7: 1.0}, "highly": {7: 0.2}},  # nobody to handle
        {  # the handler fires too often
            "overall": {3: 0.35, 7: 0.9},
            "linear": {3: 0.0, 7: 1.0},
            "highly": {3: 0.9, 7: 0.2},
        },
    ],
)
def test_both_must_exist(given):
    assert find_quorum(rates(**given)) is None


def test_a_gateway():
    rng = np.random.default_rng(0)
    barely, linear = np.zeros(40_000, bool), np.zeros(40_000, bool)
    barely[:8000], linear[-10_000:] = True, True
    fires = rng.random((40_000, 8)) < 0.5
    fires[:, 2] = rng.random(40_000) < np.where(barely, 0.9, 0.1)
    table = enrichment(fires, barely, linear)
    assert table["count"].min() >= 50
    assert table["enrichment"].is_monotonic_decreasing
    first = table.iloc[0]
    same = (fires == [(int(first["pattern"]) >> bit) & 1 for bit in range(8)]).all(1)
    assert first["count"] == same.sum()
    assert first["enrichment"] == pytest.approx(same[barely].mean() / same[linear].mean())
    candidates = np.array([11, 12, 13, 14, 15, 16, 17, 18])
    assert find_gateway(table, candidates) == 13
    without = enrichment(rng.random((40_000, 8)) < 0.5, barely, linear)
    assert find_gateway(without, candidates) is None
    assert phase(None, 13) == "scaffold"
    assert phase(None, None) == "diffuse"


def test_candidates_shift_most():
    found = gateway_candidates(rates(barely={5: 0.9, 6: 0.0}, linear={7: 0.2}))
    assert set(found[:3].tolist()) == {5, 6, 7}
    assert len(found) == 8


def test_exclusivity():
    one, other = np.array([1, 1, 0, 0], bool), np.array([0, 1, 1, 1], bool)
    assert exclusivity(one, other) == 1 - 1 / 4
    assert exclusivity(one, ~one) == 1
    assert math.isnan(exclusivity(np.zeros(3, bool), np.zeros(3, bool)))


def test_roles_of_a_layer():
    rng = np.random.default_rng(0)
    residuals = rng.random(8000)
    fires = rng.random((8000, 20)) < 0.5
    fires[:, 4] = residuals > rng.uniform(0.9, 1, size=8000)
    fires[:, 11] = residuals < rng.uniform(0.8, 1, size=8000)
    bits = FiringBits(20, 8000)
    bits.put(0, fires)
    regimes = Regimes.of(residuals)
    found = find_roles(bits, regimes)
    assert (found.quorum.handler, found.quorum.consensus) == (4, (11,))
    assert found.routing_neurons == (11, 4)
    assert found.phase == "decision"
    order = np.argsort(residuals)
    np.testing.assert_allclose(found.rates.highly, fires[order[7600:]].mean(0))
    np.testing.assert_allclose(found.rates.barely, fires[order[4000:5600]].mean(0))
    np.testing.assert_allclose(found.rates.linear, fires[order[:2000]].mean(0))
    without = FiringBits(20, 8000)
    without.put(0, rng.random((8000, 20)) < 0.5)
    found = find_roles(without, regimes)
    assert found.quorum is None
    assert len(found.routing_neurons) == 8
