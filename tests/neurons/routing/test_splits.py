import numpy as np
import pandas as pd
import pytest

from sweeper.neurons.routing import splits
from sweeper.neurons.routing.bits import FiringBits
from sweeper.neurons.routing.splits import random_splits


def bits_of(fires):
    bits = FiringBits(fires.shape[1], len(fires))
    bits.put(0, fires)
    return bits


@pytest.mark.parametrize(("tokens", "size"), [(3000, 7), (64 * 20, 7), (3000, 1), (1000, 4)])
def test_random_splits_are_what_they_say(monkeypatch, tokens, size):
    monkeypatch.setattr(splits, "WORDS_AT_ONCE", 8 * 47 * 60)  # several at once, not all
    rng = np.random.default_rng(1)
    chance = np.concatenate([np.full(8, 0.7), [0.99], np.full(4, 0.05), np.full(5, 0.3)])
    fires = rng.random((tokens, 18)) < chance
    found = random_splits(bits_of(fires), size, 200, seed=3)
    again = np.random.default_rng(3)
    usual, rare, some_are_rare = np.arange(9), np.arange(9, 13), False
    for value in found.ranges:
        consensus, handler = again.choice(usual, size, replace=False), again.choice(rare)
        frame = pd.DataFrame({"level": fires[:, consensus].sum(1), "fires": fires[:, handler]})
        by_level = frame.groupby("level")["fires"].agg(["size", "mean"])
        some_are_rare = some_are_rare or by_level["size"].min() < 50
        rates = by_level.loc[by_level["size"] >= 50, "mean"]
        expected = rates.max() - rates.min() if len(rates) > 1 else np.nan
        assert value == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert some_are_rare
    assert found.num_reaching(2.0) == 0
    assert found.num_reaching(np.nanmin(found.ranges)) == np.isfinite(found.ranges).sum() > 100


def test_too_few_neurons():
    assert random_splits(FiringBits(18, 10), 7, 5, seed=0) is None
    fires = np.random.default_rng(0).random((100, 8)) < 0.9
    assert random_splits(bits_of(fires), 7, 5, seed=0) is None  # nobody for a handler
    fires[:, 0] = np.arange(100) % 20 == 0
    assert random_splits(bits_of(fires), 7, 5, seed=0) is not None
    fires[:, 1] = False
    assert random_splits(bits_of(fires), 7, 5, seed=0) is None
    assert random_splits(bits_of(fires), 6, 5, seed=0) is not None
    for number in (0, 8):
        with pytest.raises(ValueError, match="1 to 7 consensus neurons"):
            random_splits(bits_of(fires), number, 5, seed=0)


def test_no_splits():
    chance = np.concatenate([np.full(7, 0.8), [0.05]])
    fires = np.random.default_rng(0).random((500, 8)) < chance
    assert len(random_splits(bits_of(fires), 7, 0, seed=0).ranges) == 0
