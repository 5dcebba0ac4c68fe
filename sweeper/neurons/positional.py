"""Positional neurons: those whose activation depends on the place in the window, not on the text.

Voita, Ferrando and Nalmpantis (2024), section 6: the mutual information between a neuron's
activity and the position, and types of curves of activation frequency over positions.

Shapes: ``F`` neurons, ``T`` positions.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import entr

Floats = NDArray[np.float64]

LEAST_INFORMATION = 0.05
"""Nats beyond chance from which on a neuron counts as positional."""

LEAST_WINDOWS = 10
"""Fewer tell of no neuron whether it is positional; the study has thousands."""

AT_ONCE = 256
"""Neurons whose curves are looked at together: what is made of them stays in the cache."""

TYPES = ("oscillatory", "both_extremes", "one_extreme", "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeRule:
    """What the types of curves mean; the study shows them and gives no numbers."""

    weak: float = 0.05
    """A weak curve comes so close to 0 or 1 where a strong one reaches them."""
    least_share: float = 0.01
    """Share of the positions for which an extreme must last, one after the other."""
    least_turns: int = 3
    """Changes between the extremes from which on a curve oscillates: a step has one, a band two."""


def mutual_information(frequency_FT: Floats) -> Floats:
    """I(activity, position) in nats, positions being equally frequent; shape (F,).

    The mean over positions of p ln(p / q) + (1 - p) ln((1 - p) / (1 - q)), p being the frequency at
    the position and q over all positions; 0 for a neuron that is always or never active. This is
    the plug-in value, which chance alone makes positive (``by_chance``).

    Args:
        frequency_FT: share of the windows in which the neuron is active at the position.
    """
    overall_F = frequency_FT.mean(1)
    left_F = (entr(frequency_FT) + entr(1 - frequency_FT)).mean(1)
    # The same as the mean divergence; rounding must not make it negative.
    information: Floats = np.maximum(entr(overall_F) + entr(1 - overall_F) - left_F, 0.0)
    return information


def by_chance(num_windows: int, length: int) -> float:
    """Plug-in information of a neuron whose activity has nothing to do with the position, in nats.

    The first term of its bias, (number of positions - 1) / (2 x number of observations), after
    Miller (1955); a neuron that is active in few of the windows has less.

    Args:
        num_windows: at least 1.
        length: positions of a window.
    """
    return (length - 1) / (2 * num_windows * length)


def positional_types(
    frequency_FT: Floats, num_windows: int, rule: TypeRule | None = None
) -> pd.DataFrame:
    """Which neurons are positional, and the type of their curves.

    A neuron is positional if its information exceeds what chance gives by ``LEAST_INFORMATION``;
    none is where there are fewer than ``LEAST_WINDOWS`` windows. Chance is no part of the study,
    whose windows are so many that it does not matter.

    Args:
        frequency_FT: share of the windows in which the neuron is active at the position.
        num_windows: how many there are.
        rule: what the types mean.

    Returns:
        ``information`` (nats, with what chance gives), ``positional``, ``type`` (one of ``TYPES``;
        empty where the neuron is not positional) and ``strong`` (whether the extremes that make the
        type are exactly 0 and 1).
    """
    rule = rule or TypeRule()
    parts = [
        mutual_information(frequency_FT[first : first + AT_ONCE])
        for first in range(0, len(frequency_FT), AT_ONCE)
    ]
    information = np.concatenate([np.empty(0), *parts])
    positional = np.zeros(len(information), bool)
    if num_windows >= LEAST_WINDOWS:
        beyond = information - by_chance(num_windows, frequency_FT.shape[1])
        positional = beyond > LEAST_INFORMATION
    found = [
        _type(curve, rule) if is_positional else ("", False)
        for curve, is_positional in zip(frequency_FT, positional, strict=True)
    ]
    return pd.DataFrame(
        {
            "information": information,
            "positional": positional,
            "type": [kind for kind, _ in found],
            "strong": [strong for _, strong in found],
        }
    )


def _type(curve_T: Floats, rule: TypeRule) -> tuple[str, bool]:
    """The first type that the curve is strongly, or else weakly; those of no extreme are weak."""
    strong, weak = _shape(curve_T, 0.0, rule), _shape(curve_T, rule.weak, rule)
    # Weakly of an earlier type is of that one: oscillation is seen before its depth.
    kind = min(strong, weak, key=TYPES.index)
    return kind, kind == strong and kind != "other"


def _shape(curve_T: Floats, near: float, rule: TypeRule) -> str:
    visits = extremes(curve_T, near, max(round(rule.least_share * len(curve_T)), 1))
    if len(visits) > rule.least_turns:
        return "oscillatory"
    return {2: "both_extremes", 1: "one_extreme", 0: "other"}[len(set(visits))]


def extremes(curve_T: Floats, near: float, least: int) -> list[int]:
    """The extremes (0, 1) that a curve visits one after the other, each change once.

    Args:
        curve_T: activation frequencies.
        near: how close to 0 or 1 counts as being there.
        least: positions in a row that make a visit.
    """
    state_T = np.where(curve_T <= near, 0, np.where(curve_T >= 1 - near, 1, -1))
    changes = np.flatnonzero(np.diff(state_T)) + 1
    starts, ends = np.append(0, changes), np.append(changes, len(state_T))
    lasts = (state_T[starts] >= 0) & (ends - starts >= least)
    visits = state_T[starts[lasts]]
    differs = np.diff(visits, prepend=-1) != 0
    visited: list[int] = visits[differs].tolist()
    return visited
