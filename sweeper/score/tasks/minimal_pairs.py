"""Minimal pairs: does the model find the acceptable sentence more probable, strictly?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweeper.errors import UserError
from sweeper.records import TaskFacts
from sweeper.score import pairs as minimal_pairs
from sweeper.score.tasks.base import CHARACTERS_PER_TOKEN, total
from sweeper.score.tokens import Row, encode
from sweeper.spec.corpus import CorpusSpec
from sweeper.spec.task import MinimalPairsSpec

RULES = 1
"""Part of every cell key of this task: a change of how it tokenises or sums raises it."""


@dataclass(frozen=True)
class PreparedPairs:
    """Tokenised pairs: first all good sentences, then all bad ones, in the same order."""

    rows: list[Row]
    pairs: pd.DataFrame
    mean: bool
    """Compare the mean log-probability per scored token instead of the sum."""

    def items(self, logprobs: Sequence[NDArray[np.float32]]) -> pd.DataFrame:
        """One row per pair: both log-probabilities, the margin (nats), and whether it is > 0."""
        sums = np.array([total(values) for values in logprobs])
        counts = np.array([len(values) for values in logprobs], np.int32)
        scores = sums / counts if self.mean else sums
        num_pairs = len(self.pairs)
        margin = scores[:num_pairs] - scores[num_pairs:]
        return pd.DataFrame(
            {
                "item": self.pairs["item"].to_numpy(np.int32),
                "item_id": self.pairs["item_id"].to_numpy(),
                "group": self.pairs["group"].to_numpy(),
                "cluster": self.pairs["cluster"].to_numpy(),
                "logprob": sums[:num_pairs],
                "logprob_bad": sums[num_pairs:],
                "margin": margin,
                "correct": margin > 0,
                "num_tokens": counts[:num_pairs],
                "num_tokens_bad": counts[num_pairs:],
            }
        )


def facts(spec: MinimalPairsSpec, corpus: CorpusSpec | None) -> TaskFacts:
    """Fingerprint, rules and size of a minimal-pair task."""
    del corpus  # pairs carry their own text
    pairs = minimal_pairs.load_pairs(spec)
    characters = pairs["good"].str.len().sum() + pairs["bad"].str.len().sum()
    return TaskFacts(
        identity={
            "kind": spec.kind,
            "rules": RULES,
            "data": minimal_pairs.fingerprint(pairs),
            "reduce": spec.reduce,
        },
        positions=float(characters / CHARACTERS_PER_TOKEN),
        num_items=len(pairs),
        num_clusters=int(pairs["cluster"].nunique()),
    )


def prepare(
    tokenizer: Any, context: int, spec: MinimalPairsSpec, corpus: CorpusSpec | None
) -> PreparedPairs:
    """Tokenise both sentences of every pair.

    Raises:
        UserError: a sentence is longer than the model's context or has no token to predict.
    """
    del corpus
    pairs = minimal_pairs.load_pairs(spec)
    rows = encode(tokenizer, [*pairs["good"], *pairs["bad"]])
    for index, row in enumerate(rows):
        if not 2 <= len(row) <= context + 1:
            item = pairs["item_id"].iloc[index % len(pairs)]
            raise UserError(
                f"pair {item}: a sentence of {len(row)} tokens; allowed are 2 to {context + 1}"
            )
    return PreparedPairs(rows=rows, pairs=pairs, mean=spec.reduce == "mean")
