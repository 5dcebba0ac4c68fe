"""Our side: the product's scoring engine."""

from collections.abc import Sequence

import numpy as np

from benchmarks.items import Items, Sums
from sweeper.models.loading import LoadedModel
from sweeper.records import Condition
from sweeper.score.engine import Work, score_texts
from sweeper.score.memory import TokenBudget


def score(
    model: LoadedModel,
    items: Items,
    conditions: Sequence[Condition],
    positions: int,
    *,
    margins_only: bool = False,
    greedy: bool = False,
    work: Work | None = None,
) -> Sums:
    """Sums over the scored tokens, from where the sentences part if only margins are wanted.

    Args:
        model: the loaded model.
        items: what to score.
        conditions: the clamps.
        positions: most token positions in one forward pass.
        margins_only: for pairs.
        greedy: also find the most probable tokens, as the harness does.
        work: takes what the engine computed.
    """
    texts = items.texts(margins_only=margins_only, greedy=greedy)
    scored = score_texts(model, texts, conditions, TokenBudget(positions), work=work)
    return np.array(
        [[values.sum(dtype=np.float64) for values in scores.logprobs] for scores in scored]
    )
