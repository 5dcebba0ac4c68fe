import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.neurons.match import GRIDS, SHARES_PER_PASS, search


class Curve:
    """Increase of perplexity by share, as a function; counts what it is asked."""

    def __init__(self, function):
        self.function, self.asked = function, []

    def __call__(self, shares):
        self.asked.append(list(shares))
        return [float(self.function(share)) for share in shares]


@given(
    power=st.floats(0.3, 4),
    height=st.floats(0.01, 50),
    crossing=st.floats(0.004, 0.999),
    tolerance=st.sampled_from([0.005, 0.02, 0.1]),
)
def test_on_a_rising_curve_the_share_is_that_of_the_inverse(power, height, crossing, tolerance):
    curve = Curve(lambda share: height * share**power)
    target = height * crossing**power
    found = search(target, tolerance, 1e-6, curve)
    assert found.outcome == "matched"
    assert curve.function(found.share) == pytest.approx(target, rel=tolerance)
    # The share itself, by the inverse of the curve at both ends of the tolerance.
    ends = [crossing * (1 + sign * tolerance) ** (1 / power) for sign in (-1, 1)]
    assert ends[0] * (1 - 1e-9) <= found.share <= ends[1] * (1 + 1e-9)
    assert found.tried[found.share] == curve.function(found.share)


@given(st.integers(0, 1000))
def test_a_noisy_curve_still_gives_a_share_within_the_tolerance(seed):
    noise = np.random.default_rng(seed).normal(0, 0.02, 10_001)
    curve = Curve(lambda share: share**2 + noise[round(share * 10_000)])
    found = search(0.3, 0.05, 1e-4, curve)
    assert found.outcome in ("matched", "too coarse")
    if found.outcome == "matched":
        assert abs(curve.function(found.share) - 0.3) <= 0.05 * 0.3
        others = [s for s, v in found.tried.items() if abs(v - 0.3) <= 0.05 * 0.3]
        assert found.share == min(others)


def test_the_first_crossing_is_followed_where_the_curve_falls_again():
    curve = Curve(lambda share: np.sin(share * np.pi * 2.2) + share)  # rises, falls, rises
    found = search(0.9, 0.02, 1e-4, curve)
    assert curve.function(found.share) == pytest.approx(0.9, rel=0.02)
    assert found.share < 0.2


def test_a_curve_that_dips_below_zero_first_is_followed_up():
    curve = Curve(lambda share: share * (share - 0.1))
    found = search(0.05, 0.02, 1e-4, curve)
    assert curve.function(found.share) == pytest.approx(0.05, rel=0.02)


def test_a_pool_that_cannot_reach_the_target_is_reported_with_the_most_it_does():
    curve = Curve(lambda share: 0.1 * share)
    found = search(0.2, 0.02, 1e-3, curve)
    assert (found.outcome, found.share) == ("out of reach", None)
    assert found.nearest(0.2) == 1.0
    assert curve.asked == [list(GRIDS[0]), list(GRIDS[1])]


def test_a_leap_over_the_tolerance_is_reported_and_the_nearest_named():
    curve = Curve(lambda share: np.floor(share * 50) / 50)  # 50 neurons, one more at a time
    found = search(0.3 + 0.008, 0.01, 1 / 50, curve)
    assert (found.outcome, found.share) == ("too coarse", None)
    assert curve.function(found.nearest(0.308)) == 0.3


def test_several_shares_are_asked_in_each_pass_and_none_twice():
    curve = Curve(lambda share: share**3)
    search(0.4321, 0.001, 1e-6, curve)
    shares = [share for asked in curve.asked for share in asked]
    assert len(shares) == len(set(shares))
    assert {len(asked) for asked in curve.asked} == {SHARES_PER_PASS}
    # Each pass divides the bracket by five: 0.15 wide at first, 0.0004 is enough.
    assert len(curve.asked) <= 2 + 4
