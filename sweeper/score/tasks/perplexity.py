"""Perplexity over non-overlapping windows: exp(mean token NLL)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sweeper.records import TaskFacts
from sweeper.score import corpus as corpora
from sweeper.score.tasks.base import total
from sweeper.score.tasks.kept_tokens import KeptTokens, keep_tokens
from sweeper.score.tasks.windows import (
    text_of,
    window_facts,
    window_names,
    window_places,
    window_texts,
)
from sweeper.score.texts import Scores, Texts
from sweeper.spec.corpus import CorpusSpec
from sweeper.spec.task import PerplexitySpec

RULES = 1
"""Part of every cell key of this task: a change of how it tokenises, cuts or sums raises it."""


@dataclass(frozen=True)
class PreparedPerplexity:
    """Windows of a corpus; one item and one cluster each, no group."""

    texts: Texts
    kept: KeptTokens | None

    def items(self, scores: Scores) -> pd.DataFrame:
        """One row per window: the sum of its token log-probabilities and their number."""
        names = window_names(len(self.texts.rows))
        return pd.DataFrame(
            {
                "item": np.arange(len(names), dtype=np.int32),
                "item_id": names,
                "group": "all",
                "cluster": names,
                "logprob": [total(values) for values in scores.logprobs],
                "logprob_bad": None,
                "margin": None,
                "correct": None,
                "num_tokens": [len(values) for values in scores.logprobs],
                "num_tokens_bad": None,
            }
        )

    def tables(self, scores: Scores) -> dict[str, pd.DataFrame]:
        """Every token's surprisal, where the job keeps it."""
        return {} if self.kept is None else self.kept.tables(scores)


def facts(spec: PerplexitySpec, corpus: CorpusSpec | None) -> TaskFacts:
    """Fingerprint, rules and size of a perplexity task."""
    text = text_of(corpus)
    return window_facts(spec, text, corpora.fingerprint_of(text), spec.kind, {"rules": RULES})


def prepare(
    tokenizer: Any, context: int, spec: PerplexitySpec, corpus: CorpusSpec | None
) -> PreparedPerplexity:
    """Tokenise the corpus and cut it into windows of ``min(length, context)`` tokens.

    Raises:
        UserError: the corpus has fewer than two tokens.
    """
    text = text_of(corpus)
    texts = window_texts(tokenizer, context, spec, text)
    if not spec.keep_tokens:
        return PreparedPerplexity(texts, kept=None)
    places = window_places(tokenizer, context, spec, text)
    count = len(texts.rows)
    return PreparedPerplexity(texts, keep_tokens(texts, range(count), [0] * count, places))
