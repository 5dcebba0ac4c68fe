"""Rows of the table ``tokens``: the surprisal of every scored token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweeper.score.texts import Scores, Texts
from sweeper.score.tokens import Span


@dataclass(frozen=True, slots=True)
class KeptTokens:
    """What the rows are under every condition, so that only the surprisal is filled in."""

    rows: pd.DataFrame

    def tables(self, scores: Scores) -> dict[str, pd.DataFrame]:
        """The table, by its name."""
        surprisal = -np.concatenate([np.empty(0, np.float32), *scores.logprobs])
        return {"tokens": self.rows.assign(surprisal=surprisal)}


def keep_tokens(
    texts: Texts,
    items: Sequence[int] | NDArray[np.int32],
    members: Sequence[int] | NDArray[np.int32],
    spans: Sequence[Sequence[Span]] | None,
) -> KeptTokens:
    """Prepare the rows of all scored tokens.

    Args:
        texts: the task's texts.
        items: number of each text's item.
        members: which text of its item each one is (column ``text``).
        spans: the characters of each text's tokens; None where the tokenizer does not tell.
    """
    starts = [texts.start(index) for index in range(len(texts.rows))]
    counts = [len(row) - start for row, start in zip(texts.rows, starts, strict=True)]
    scored = list(zip(texts.rows, starts, strict=True))
    columns: dict[str, Any] = {
        "item": np.repeat(np.asarray(items, np.int32), counts),
        "text": np.repeat(np.asarray(members, np.int32), counts),
        "position": _joined([range(start, len(row)) for row, start in scored]),
        "token": _joined([row[start:] for row, start in scored]),
    }
    if spans is not None:
        pairs = zip(spans, starts, strict=True)
        flat = [span for text, start in pairs for span in text[start:]]
        ends = np.array(flat, np.int64).reshape(-1, 2)
        absent = ends[:, 0] < 0
        columns["char_begin"] = pd.arrays.IntegerArray(ends[:, 0].copy(), absent)
        columns["char_end"] = pd.arrays.IntegerArray(ends[:, 1].copy(), absent)
    return KeptTokens(pd.DataFrame(columns))


def _joined(parts: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    return np.array([value for part in parts for value in part], np.int32)
