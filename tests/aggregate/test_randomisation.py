import math

import numpy as np
import pytest

from sweeper.aggregate.randomisation import (
    distance_p,
    needed_controls,
    randomisation_floor,
    randomisation_p,
)


@pytest.mark.parametrize(
    ("effect", "controls", "expected"),
    [
        # None of four is as large: 1 / 5.
        (-0.30, [0.01, -0.02, 0.05, 0.0], 1 / 5),
        # 0.30 and -0.40 are, whatever the sign: (1 + 2) / 5.
        (-0.30, [0.30, -0.40, 0.05, 0.0], 3 / 5),
        # A tie up to rounding counts: 0.1 + 0.2 > 0.3 in float64.
        (0.1 + 0.2, [0.3, 0.1], 2 / 3),
        (0.3, [0.1 + 0.2, 0.1], 2 / 3),
        # No effect anywhere: all are ties.
        (0.0, [0.0, 0.0, 0.0], 1.0),
        (1e-17, [0.0, 0.0], 1.0),
    ],
)
def test_p_by_hand(effect, controls, expected):
    assert randomisation_p(effect, np.array(controls)) == expected


@pytest.mark.parametrize(
    ("value", "others", "expected"),
    [
        # Median 2 of 0, 1, 2, 3, 9: distances 2, 1, 0, 1, 7.
        (9.0, [0.0, 1.0, 2.0, 3.0], 1 / 5),
        (0.0, [9.0, 1.0, 2.0, 3.0], 2 / 5),
        (2.0, [9.0, 1.0, 0.0, 3.0], 1.0),
        # Median 1.5 of 0, 1, 2, 3: both ends are as far, up to rounding.
        (0.3, [0.1, 0.2, 0.0], 2 / 4),
        (0.1 + 0.2, [0.1, 0.2, 0.0], 2 / 4),
        # Two values are as far from their middle.
        (1.0, [0.0], 1.0),
    ],
)
@pytest.mark.parametrize("constant", [0.0, -0.7, 5.0])
def test_distance_p_by_hand_whatever_is_added(value, others, expected, constant):
    assert distance_p(value + constant, np.array(others) + constant) == expected


def test_no_controls_give_no_p():
    assert math.isnan(randomisation_p(0.5, np.array([])))
    assert math.isnan(distance_p(0.5, np.array([])))
    assert randomisation_floor(0) == 1.0


def test_floor_is_the_smallest_p():
    controls = np.zeros(10)
    assert randomisation_p(1.0, controls) == randomisation_floor(10) == 1 / 11


@pytest.mark.parametrize("level", [0.05, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("step", [None, 0.5])
@pytest.mark.parametrize("test", [randomisation_p, distance_p])
def test_true_null_is_rejected_at_most_as_often_as_stated(level, step, test):
    # The condition is an eleventh draw of the same kind; with a step, ties are frequent.
    effects = np.random.default_rng(11).standard_normal((20_000, 11))
    if step:
        effects = np.round(effects / step) * step
    p = np.array([test(row[0], row[1:]) for row in effects])
    # The true rate is floor(11 * level) / 11 or less; 0.05 is below the floor of 1 / 11.
    attainable = math.floor(11 * level) / 11
    assert (p <= level).mean() <= attainable + 4 * math.sqrt(0.25 / 20_000) * (attainable > 0)
    if step is None:
        error = 4 * math.sqrt(attainable * (1 - attainable) / 20_000)
        assert (p <= level).mean() == pytest.approx(attainable, abs=error)


@pytest.mark.parametrize(("level", "number"), [(0.05, 19), (1 - 0.95, 19), (0.01, 99), (0.3, 3)])
def test_needed_controls_are_the_fewest_that_reach_a_level(level, number):
    assert needed_controls(level) == number
    assert randomisation_floor(number) <= level + 1e-12
    assert randomisation_floor(number - 1) > level
