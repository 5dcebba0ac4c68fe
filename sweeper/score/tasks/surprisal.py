"""Surprisal by part of speech: how probable are the tokens of nouns, determiners, auxiliaries?

Every scored token counts for the word that it shares the most characters with, so the sums over all
parts of speech are those of perplexity over the same windows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweeper.errors import UserError
from sweeper.records import TaskFacts
from sweeper.score import corpus as corpora
from sweeper.score.pos.alignment import categories
from sweeper.score.pos.taggers import Tagger, choose
from sweeper.score.pos.tagging import tagged_words
from sweeper.score.pos.tags import CATEGORIES
from sweeper.score.tasks.kept_tokens import KeptTokens, keep_tokens
from sweeper.score.tasks.windows import (
    text_of,
    window_facts,
    window_names,
    window_places,
    window_texts,
)
from sweeper.score.texts import Scores, Texts
from sweeper.score.tokens import Span
from sweeper.spec.corpus import CorpusSpec
from sweeper.spec.task import SurprisalSpec

RULES = 1
"""Part of every cell key of this task: a change of how it tokenises, cuts, aligns or sums raises
it. How words are found and tagged is part of the tagger's identity."""


@dataclass(frozen=True)
class PreparedSurprisal:
    """Windows of a corpus; an item is what a window has of one part of speech.

    Shapes: T scored tokens of all windows, I items.
    """

    texts: Texts
    rows: pd.DataFrame
    """I rows: name, part of speech and window of each item."""
    item_T: NDArray[np.int64]
    """Item of each token."""
    kept: KeptTokens | None
    versions: Mapping[str, str]
    """Which tagger it was."""

    def items(self, scores: Scores) -> pd.DataFrame:
        """One row per window and part of speech in it.

        ``group`` is the part of speech, ``cluster`` the window; the log-probability is the sum
        over the tokens of such words, ``num_tokens`` their number.
        """
        logprobs_T = np.concatenate([np.empty(0), *scores.logprobs])  # in double precision
        sums = np.bincount(self.item_T, weights=logprobs_T, minlength=len(self.rows))
        counts = np.bincount(self.item_T, minlength=len(self.rows))
        return self.rows.assign(
            logprob=sums,
            logprob_bad=None,
            margin=None,
            correct=None,
            num_tokens=counts.astype(np.int32),
            num_tokens_bad=None,
        )

    def tables(self, scores: Scores) -> dict[str, pd.DataFrame]:
        """Every token's surprisal, where the job keeps it; its item tells the part of speech."""
        return {} if self.kept is None else self.kept.tables(scores)


def facts(spec: SurprisalSpec, corpus: CorpusSpec | None) -> TaskFacts:
    """Fingerprint, rules and size of a surprisal task; loads no tagger.

    The fingerprint of the data names the tagger, so that a worker that has another one refuses. The
    number of items is that of windows; each has one for every part of speech in it.

    Raises:
        UserError: the tagger is not installed.
    """
    text, tagger = text_of(corpus), choose(spec.tagger)
    data = f"{corpora.fingerprint_of(text)} tagged by {tagger.label}"
    rules = {"rules": RULES, "tagger": dict(tagger.identity)}
    return window_facts(spec, text, data, spec.kind, rules)


def prepare(
    tokenizer: Any, context: int, spec: SurprisalSpec, corpus: CorpusSpec | None
) -> PreparedSurprisal:
    """Tokenise and tag the corpus, and cut it into windows of ``min(length, context)`` tokens.

    Raises:
        UserError: the corpus has fewer than two tokens, the tagger is not installed, or the
            tokenizer does not tell which characters its tokens stand for.
    """
    text = text_of(corpus)
    texts = window_texts(tokenizer, context, spec, text)
    places = window_places(tokenizer, context, spec, text)
    if places is None:
        raise UserError(
            "surprisal by part of speech needs a tokenizer that tells the characters of its "
            f"tokens; {type(tokenizer).__name__} does not (transformers calls those that do fast)"
        )
    tagger = choose(spec.tagger)
    codes_T = _categories(text, places, tagger)
    counts = [len(row) - 1 for row in texts.rows]
    rows, item_T = _items(np.repeat(np.arange(len(counts)), counts), codes_T)
    kept = _kept(texts, item_T, places) if spec.keep_tokens else None
    return PreparedSurprisal(texts, rows, item_T, kept, {"tagger": tagger.label})


def _categories(text: str, places: Sequence[Sequence[Span]], tagger: Tagger) -> NDArray[np.int8]:
    """Category of each scored token; a window's first token is not scored."""
    scored = [span for window in places for span in window[1:]]
    stop = max((end for _, end in scored), default=0)
    return categories(scored, tagged_words(text, stop, tagger))


def _items(
    window_T: NDArray[np.int64], codes_T: NDArray[np.int8]
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Number the pairs of window and category that occur, in that order."""
    pairs, item_T = np.unique(window_T * len(CATEGORIES) + codes_T, return_inverse=True)
    windows, codes = np.divmod(pairs, len(CATEGORIES))
    names = window_names(int(windows[-1]) + 1)
    groups = [CATEGORIES[code] for code in codes]
    clusters = [names[window] for window in windows]
    named = zip(clusters, groups, strict=True)
    rows = pd.DataFrame(
        {
            "item": np.arange(len(pairs), dtype=np.int32),
            "item_id": [f"{cluster}/{group}" for cluster, group in named],
            "group": groups,
            "cluster": clusters,
        }
    )
    return rows, item_T


def _kept(texts: Texts, item_T: NDArray[np.int64], places: Sequence[Sequence[Span]]) -> KeptTokens:
    count = len(texts.rows)
    kept = keep_tokens(texts, range(count), [0] * count, places)
    return KeptTokens(kept.rows.assign(item=item_T.astype(np.int32)))
