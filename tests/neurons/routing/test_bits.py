import numpy as np
import pytest

from sweeper.neurons.routing.bits import FiringBits


@pytest.mark.parametrize("sizes", [[100], [1, 7, 8, 3, 81], [13] * 7 + [9]])
def test_bits_come_back(sizes):
    rng = np.random.default_rng(0)
    fires = rng.random((sum(sizes), 6)) < 0.3
    bits = FiringBits(6, len(fires))
    first = 0
    for size in sizes:
        bits.put(first, fires[first : first + size])
        first += size
    np.testing.assert_array_equal(bits.of(range(6)), fires.T)
    np.testing.assert_array_equal(bits.of([4, 1]), fires[:, [4, 1]].T)
    np.testing.assert_allclose(bits.rates(), fires.mean(0))
    bits.put(3, ~fires[3:90])  # in place of what was there, and nothing else
    np.testing.assert_array_equal(bits.of(range(6))[:, 3:90], ~fires[3:90].T)
    bits.put(3, fires[3:90])
    np.testing.assert_array_equal(bits.of(range(6)), fires.T)
    some = rng.random(len(fires)) < 0.2
    np.testing.assert_allclose(bits.rates(some), fires[some].mean(0))
    assert np.isnan(bits.rates(np.zeros(len(fires), bool))).all()
