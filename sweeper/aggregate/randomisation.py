"""Randomisation test of a condition against its random controls."""

import math

import numpy as np

from sweeper.aggregate.intervals import FloatArray

_RELATIVE = 1e-9
_ABSOLUTE = 1e-12


def randomisation_p(effect: float, controls: FloatArray) -> float:
    """Two-sided ``p = (1 + #{|control| >= |effect|}) / (1 + #controls)``; NaN without controls.

    Counting the condition itself keeps the test valid at any number of controls (Phipson and
    Smyth 2010). Effects that differ by rounding alone are ties, and ties count as at least as
    extreme.

    Args:
        effect: the condition's effect.
        controls: one effect per random set, (S,).
    """
    if len(controls) == 0:
        return math.nan
    threshold = abs(effect) * (1 - _RELATIVE) - _ABSOLUTE
    extreme = int(np.count_nonzero(np.abs(controls) >= threshold))
    return (1 + extreme) / (1 + len(controls))


def distance_p(value: float, others: FloatArray) -> float:
    """Two-sided p of a value among others like it, by distance from the median of them all.

    ``p = #{distance >= the value's} / (1 + #others)``, the value itself counted, with ties as in
    ``randomisation_p``; NaN without others. The median belongs to all of them alike: where any of
    them could as well have been the value, p is valid, and adding a constant to all changes
    nothing. It is for values without a zero of their own, ``randomisation_p`` for effects.
    """
    middle = float(np.median(np.append(others, value)))
    return randomisation_p(value - middle, others - middle)


def randomisation_floor(num_controls: int) -> float:
    """Smallest p that so many controls can give; 1 without any."""
    return 1 / (1 + num_controls)


def needed_controls(level: float) -> int:
    """Fewest controls with which the randomisation p can fall to a level: 19 for 0.05."""
    return math.ceil(round(1 / level, 9)) - 1
