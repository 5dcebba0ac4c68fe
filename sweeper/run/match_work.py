"""What a worker does for a match: it tries sets until one does as much as another one does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import TypeAdapter

from sweeper.neurons.match import Found, search
from sweeper.neurons.paired import Mean, paired_mean
from sweeper.neurons.select import LayerNeurons, bottom_of_others, put_in
from sweeper.records import Condition, Unit
from sweeper.score.texts import Scores
from sweeper.spec.condition import ConditionSpec, MatchedSet
from sweeper.store import read_attempt

Score = Callable[[Sequence[Condition]], Sequence[Scores]]
"""Scores the windows of a perplexity task under conditions, all in one pass."""


def ordering_census(unit: Unit, store: str) -> pd.DataFrame:
    """The census by which a match orders neurons, out of the store at an address."""
    if unit.match is None:
        raise ValueError("the unit is no match")
    table: pd.DataFrame = read_attempt(store, "neurons", unit.match["attempt"]).to_pandas()
    rows: pd.DataFrame = table[table["cell_key"] == unit.match["census"]]
    return rows


def find_match(unit: Unit, neurons: pd.DataFrame, target: Condition, score: Score) -> pd.DataFrame:
    """Search for the bottom set that raises mean NLL as much as the target does.

    Args:
        unit: of the match.
        neurons: the census that orders the neurons.
        target: the condition to be matched.
        score: scores the text of the match.

    Returns:
        One row for each share that was tried: the table ``matches``.

    Raises:
        FloatingPointError: a log-probability is NaN or infinite.
    """
    if unit.match is None:
        raise ValueError("the unit is no match")
    spec = TypeAdapter(ConditionSpec).validate_python(unit.match["spec"])
    if not isinstance(spec.neurons, MatchedSet):
        raise ValueError("the unit's condition is not matched")
    base = Condition(name="baseline", seed=None, operation=None)
    scores = score([base, target])
    trials = _Trials(
        spec=spec,
        statistic=spec.neurons.statistic,
        neurons=neurons,
        target=target,
        score=score,
        counts=np.array([len(values) for values in scores[0].logprobs], np.float64),
        base=_losses(scores[0]),
        target_losses=_losses(scores[1]),
    )
    goal = paired_mean(trials.target_losses - trials.base, trials.counts)
    # NaN, from a single window, tells nothing against the increase.
    if goal.value <= 0 or goal.low <= 0:
        found = Found(share=None, outcome="no increase", tried={0.0: 0.0})
    else:
        finest = 1 / int(neurons.groupby("layer").size().max())
        found = search(goal.value, spec.neurons.tolerance, finest, trials.increases)
    return _rows(trials, found, goal, spec.neurons.tolerance)


@dataclass(slots=True, kw_only=True)
class _Trials:
    """The sets that were tried, and what each window lost under them."""

    spec: ConditionSpec
    statistic: str
    neurons: pd.DataFrame
    target: Condition
    score: Score
    counts: NDArray[np.float64]
    """Scored tokens of each window."""
    base: NDArray[np.float64]
    """Sum of each window's NLL without a clamp."""
    target_losses: NDArray[np.float64]
    losses: dict[float, NDArray[np.float64]] = field(init=False)

    def __post_init__(self) -> None:
        self.losses = {0.0: self.base}

    def increases(self, shares: Sequence[float]) -> list[float]:
        """Increase of mean NLL at some shares, in nats per token."""
        scored = self.score([self._condition(share) for share in shares])
        self.losses |= {s: _losses(scores) for s, scores in zip(shares, scored, strict=True)}
        return [self.increase(share).value for share in shares]

    def increase(self, share: float) -> Mean:
        """Increase of mean NLL at a share that was tried."""
        return paired_mean(self.losses[share] - self.base, self.counts)

    def difference(self, share: float) -> Mean:
        """That increase minus the target's."""
        return paired_mean(self.losses[share] - self.target_losses, self.counts)

    def chosen(self, share: float) -> LayerNeurons:
        """The neurons at a share."""
        return bottom_of_others(self.neurons, self.statistic, share, dict(self.target.neurons))

    def _condition(self, share: float) -> Condition:
        chosen = self.chosen(share)
        return Condition(
            name=f"bottom {share:g}",
            seed=None,
            operation=self.target.operation,
            neurons=chosen,
            values=put_in(self.spec.operation, self.spec.value, self.neurons, chosen),
        )


def _losses(scores: Scores) -> NDArray[np.float64]:
    scores.require_finite()
    return np.array([-values.sum(dtype=np.float64) for values in scores.logprobs])


def _rows(trials: _Trials, found: Found, goal: Mean, tolerance: float) -> pd.DataFrame:
    """The shares that were tried, with the one that is taken, or came nearest, marked."""
    shares = sorted(trials.losses)
    marked = found.nearest(goal.value) if found.share is None else found.share
    increases = [trials.increase(share) for share in shares]
    differences = [trials.difference(share) for share in shares]
    return pd.DataFrame(
        {
            "target_key": trials.target.key,
            "statistic": trials.statistic,
            "fraction": shares,
            "num_neurons": [sum(map(len, trials.chosen(share).values())) for share in shares],
            "num_windows": len(trials.counts),
            "target_increase": goal.value,
            "target_low": goal.low,
            "target_high": goal.high,
            "increase": [mean.value for mean in increases],
            "low": [mean.low for mean in increases],
            "high": [mean.high for mean in increases],
            "difference": [mean.value for mean in differences],
            "difference_low": [mean.low for mean in differences],
            "difference_high": [mean.high for mean in differences],
            "tolerance": tolerance,
            "chosen": [share == marked for share in shares],
            "reached": found.share is not None,
            "outcome": found.outcome,
        }
    )
