"""Perplexity over non-overlapping windows: exp(mean token NLL)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sweeper.errors import UserError
from sweeper.records import TaskFacts
from sweeper.score import corpus as corpora
from sweeper.score.tasks.base import CHARACTERS_PER_TOKEN, total
from sweeper.score.tasks.kept_tokens import KeptTokens, keep_tokens
from sweeper.score.texts import Scores, Texts
from sweeper.score.tokens import window_spans, windows
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
        names = [f"window{index:05d}" for index in range(len(self.texts.rows))]
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
    text = corpora.text(_required(corpus))
    # At most one token per character; the true number needs the tokenizer.
    count = max(int(len(text) / CHARACTERS_PER_TOKEN / spec.length), 1)
    num_windows = count if spec.limit is None else min(count, spec.limit)
    return TaskFacts(
        identity={
            "kind": spec.kind,
            "rules": RULES,
            "data": corpora.fingerprint_of(text),
            "length": spec.length,
            "limit": spec.limit,
            "prefix": spec.prefix,
            "keep_tokens": spec.keep_tokens,
        },
        positions=float(min(num_windows * spec.length, len(text) / CHARACTERS_PER_TOKEN)),
        num_items=num_windows,
        num_clusters=num_windows,
        has_accuracy=False,
    )


def prepare(
    tokenizer: Any, context: int, spec: PerplexitySpec, corpus: CorpusSpec | None
) -> PreparedPerplexity:
    """Tokenise the corpus and cut it into windows of ``min(length, context)`` tokens.

    Raises:
        UserError: the corpus has fewer than two tokens.
    """
    length = min(spec.length, context)
    text = corpora.text(_required(corpus))
    rows = windows(tokenizer, text, length, length, spec.limit, spec.prefix)
    if not rows:
        raise UserError(f"corpus {spec.corpus!r} holds no text to measure perplexity on")
    texts = Texts(rows=rows)
    if not spec.keep_tokens:
        return PreparedPerplexity(texts, kept=None)
    places = window_spans(tokenizer, text, length, length, spec.limit, spec.prefix)
    return PreparedPerplexity(texts, keep_tokens(texts, range(len(rows)), [0] * len(rows), places))


def _required(corpus: CorpusSpec | None) -> CorpusSpec:
    if corpus is None:
        raise ValueError("perplexity needs a corpus")
    return corpus
