"""Matching by perplexity: the smallest bottom set whose clamp does as much as another set's.

The search knows sets by the share of each layer alone; what a share does is asked of a function,
for several shares at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

GRIDS = ((0.05, 0.1, 0.2, 0.4), (0.55, 0.7, 0.85, 1.0))
"""Shares that are tried first; the second ones where none of the first does enough."""

SHARES_PER_PASS = 4
"""Shares that divide a bracket, tried in one pass of the model."""

Outcome = Literal["matched", "no increase", "out of reach", "too coarse"]
"""``no increase``: the set to be matched does not raise perplexity beyond chance; ``out of reach``:
no share does as much; ``too coarse``: one neuron more in each layer leaps over the tolerance."""

REASONS: Mapping[str, str] = {
    "no increase": (
        "{match} does not raise mean NLL beyond chance: by {target_increase:.3g} nats per token "
        "(95 % interval {target_low:.3g} to {target_high:.3g}), so there is nothing to match"
    ),
    "out of reach": (
        "no share of the other neurons raises mean NLL as much as {match} does: at most by "
        "{increase:.3g} nats per token instead of {target_increase:.3g}"
    ),
    "too coarse": (
        "no share raises mean NLL as much as {match} does within the tolerance {tolerance:g}: the "
        "nearest by {increase:.3g} nats per token instead of {target_increase:.3g}; allow more"
    ),
}
"""Outcome -> why there is no matched set, to be filled in with a row of the table ``matches``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How a search ended."""

    share: float | None
    """None where no share is within the tolerance."""
    outcome: Outcome
    tried: Mapping[float, float]
    """Share -> increase, of all that were tried; 0 neurons raise nothing."""

    def nearest(self, target: float) -> float:
        """The share that came nearest to the target; the smallest of several."""
        return min(sorted(self.tried), key=lambda share: abs(self.tried[share] - target))


def search(
    target: float,
    tolerance: float,
    finest: float,
    increases: Callable[[Sequence[float]], Sequence[float]],
) -> Found:
    """Find the share at which nested sets first do as much as the target.

    Brackets are divided until a share is within the tolerance or they are as narrow as one neuron.
    The increase need not grow with the share everywhere: the first crossing among the shares
    that were tried is followed.

    Args:
        target: increase to match, above 0.
        tolerance: accepted difference, relative to the target.
        finest: share of a layer that one neuron is.
        increases: increases at some shares, in their order.
    """
    tried = {0.0: 0.0}
    for grid in GRIDS:
        tried |= zip(grid, increases(grid), strict=True)
        if max(tried.values()) >= target * (1 - tolerance):
            break
    while True:
        within = [s for s, found in tried.items() if abs(found - target) <= tolerance * target]
        if within:
            return Found(share=min(within), outcome="matched", tried=tried)
        above = [share for share, found in tried.items() if found > target]
        if not above:
            return Found(share=None, outcome="out of reach", tried=tried)
        high = min(above)
        low = max(share for share in tried if share < high)
        if high - low <= finest:
            return Found(share=None, outcome="too coarse", tried=tried)
        step = (high - low) / (SHARES_PER_PASS + 1)
        between = [low + step * place for place in range(1, SHARES_PER_PASS + 1)]
        tried |= zip(between, increases(between), strict=True)
