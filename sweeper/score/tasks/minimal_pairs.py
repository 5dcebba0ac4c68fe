"""Minimal pairs: does the model find the acceptable sentence more probable, strictly?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sweeper.errors import UserError
from sweeper.records import TaskFacts
from sweeper.score import pairs as minimal_pairs
from sweeper.score.tasks.base import CHARACTERS_PER_TOKEN, total
from sweeper.score.tasks.kept_tokens import KeptTokens, keep_tokens
from sweeper.score.texts import Scores, Texts
from sweeper.score.tokens import Row, encode, spans
from sweeper.spec.corpus import CorpusSpec
from sweeper.spec.task import MinimalPairsSpec

RULES = 1
"""Part of every cell key of this task: a change of how it tokenises or sums raises it."""


@dataclass(frozen=True)
class PreparedPairs:
    """Tokenised pairs: first all good sentences, then all bad ones, in the same order."""

    texts: Texts
    pairs: pd.DataFrame
    mean: bool
    """Compare the mean log-probability per token instead of the sum."""
    kept: KeptTokens | None

    def items(self, scores: Scores) -> pd.DataFrame:
        """One row per pair: both log-probabilities, the margin (nats), and whether it is > 0.

        Where only margins are scored, the log-probabilities of whole sentences are unknown.
        """
        sums = np.array([total(values) for values in scores.logprobs])
        counts = np.array([len(row) - 1 for row in self.texts.rows], np.int32)
        compared = sums / counts if self.mean else sums
        num_pairs = len(self.pairs)
        margin = compared[:num_pairs] - compared[num_pairs:]
        if self.texts.starts is not None:
            sums = np.full_like(sums, np.nan)
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

    def tables(self, scores: Scores) -> dict[str, pd.DataFrame]:
        """Every scored token's surprisal, where the job keeps it."""
        return {} if self.kept is None else self.kept.tables(scores)

    def sentences(self) -> pd.DataFrame:
        """Both sentences of every pair."""
        columns = {"good": "text", "bad": "text_bad"}
        return self.pairs[["item", *columns]].rename(columns=columns)


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
            "scores": spec.scores,
            "prefix": spec.prefix,
            "keep_tokens": spec.keep_tokens,
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
    sentences = [*pairs["good"], *pairs["bad"]]
    rows = encode(tokenizer, sentences, spec.prefix)
    for index, row in enumerate(rows):
        if not 2 <= len(row) <= context + 1:
            item = pairs["item_id"].iloc[index % len(pairs)]
            raise UserError(
                f"pair {item}: a sentence of {len(row)} tokens; allowed are 2 to {context + 1}"
            )
    starts = _first_differences(rows) if spec.scores == "margins" else None
    # Sentences that differ in their first token follow different ones: nothing cancels.
    relative = None if starts is None or spec.keep_tokens else _begin_alike(rows)
    texts, kept = Texts(rows=rows, starts=starts, relative=relative), None
    if spec.keep_tokens:
        items = np.tile(pairs["item"].to_numpy(np.int32), 2)
        members = np.repeat(np.array([0, 1], np.int32), len(pairs))
        kept = keep_tokens(texts, items, members, spans(tokenizer, sentences, spec.prefix))
    return PreparedPairs(texts, pairs, mean=spec.reduce == "mean", kept=kept)


def _first_differences(rows: Sequence[Row]) -> list[int]:
    """Where the sentences of each pair part: what comes before cancels in a difference of sums."""
    num_pairs = len(rows) // 2
    pairs = zip(rows[:num_pairs], rows[num_pairs:], strict=True)
    return [_first_difference(good, bad) for good, bad in pairs] * 2


def _begin_alike(rows: Sequence[Row]) -> list[bool]:
    """Whether the sentences of each pair have their first token in common."""
    num_pairs = len(rows) // 2
    pairs = zip(rows[:num_pairs], rows[num_pairs:], strict=True)
    return [good[0] == bad[0] for good, bad in pairs] * 2


def _first_difference(good: Row, bad: Row) -> int:
    both = zip(good, bad, strict=False)
    common = next((place for place, (a, b) in enumerate(both) if a != b), min(len(good), len(bad)))
    # The first token is not predicted; a sentence that begins the other keeps its last token.
    return min(max(common, 1), len(good) - 1, len(bad) - 1)
