"""Positional neurons: those whose activation depends on the place in the window, not on the text.

Voita, Ferrando and Nalmpantis (2024), section 6: the mutual information between a neuron's
activity and the position, and types of curves of activation frequency over positions.

Shapes: ``F`` neurons, ``T`` positions.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST_INFORMATION = 0.05
"""Nats from which on a neuron counts as positional."""

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
    the position and q over all positions; 0 for a neuron that is always or never active.

    Args:
        frequency_FT: share of the windows in which the neuron is active at the position.
    """
    overall_F1 = frequency_FT.mean(1, keepdims=True)
    parts_FT = _relative(frequency_FT, overall_F1) + _relative(1 - frequency_FT, 1 - overall_F1)
    information: Floats = parts_FT.mean(1)
    return information


def _relative(share_FT: Floats, overall_F1: Floats) -> Floats:
    """Divergence p ln(p / q), which is 0 where p is 0."""
    ratio_FT = np.divide(share_FT, overall_F1, out=np.ones_like(share_FT), where=share_FT > 0)
    relative: Floats = share_FT * np.log(ratio_FT)
    return relative


def positional_types(frequency_FT: Floats, rule: TypeRule | None = None) -> pd.DataFrame:
    """The type of each neuron's curve.

    Args:
        frequency_FT: share of the windows in which the neuron is active at the position.
        rule: what the types mean.

    Returns:
        ``information`` (nats), ``positional``, ``type`` (one of ``TYPES``; empty where the neuron
        is not positional) and ``strong`` (whether the extremes that make the type are exactly 0
        and 1).
    """
    rule = rule or TypeRule()
    information = mutual_information(frequency_FT)
    found = [
        _type(curve, rule) if bits > LEAST_INFORMATION else ("", False)
        for curve, bits in zip(frequency_FT, information, strict=True)
    ]
    return pd.DataFrame(
        {
            "information": information,
            "positional": information > LEAST_INFORMATION,
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
    visits = [
        int(state_T[start])
        for start, end in zip(starts, ends, strict=True)
        if state_T[start] >= 0 and end - start >= least
    ]
    return [state for index, state in enumerate(visits) if index == 0 or visits[index - 1] != state]
