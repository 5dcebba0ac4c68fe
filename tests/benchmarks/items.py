"""What the sides of a row score: token rows of public evaluation data.

Shapes: ``C`` conditions, ``R`` texts, ``P`` pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweeper.score.pairs import load_pairs
from sweeper.score.texts import Texts
from sweeper.score.tokens import Row, encode
from sweeper.spec.task import Columns, FilePairs, MinimalPairsSpec

Sums = NDArray[np.float64]
"""(C, R): log-probability (nats) of each text's scored tokens under each condition."""


BLIMP_PARADIGMS = 67
WARM_UP = 8
"""Pairs, or texts that are none, that every side scores before it is timed."""


class SkippedError(RuntimeError):
    """A row cannot be measured here; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """Texts that all sides of a row score."""

    rows: Sequence[Row]
    """Of pairs: first all acceptable sentences, then all unacceptable ones."""
    starts: Sequence[int]
    """First token of each row that belongs to the answer: what every side scores from."""
    margin_starts: Sequence[int] | None = None
    """Of pairs: where the two sentences part; what comes before cancels in the margin."""

    @property
    def alike(self) -> list[bool]:
        """Of pairs: rows whose sentences have the first token in common, so that what follows the
        same tokens is compared."""
        half = len(self.rows) // 2
        return [self.rows[i][0] == self.rows[i + half][0] for i in range(half)] * 2

    @property
    def file_order(self) -> list[int]:
        """Indices of the rows as they stand in the file: the sentences of a pair side by side."""
        if self.margin_starts is None:
            return list(range(len(self.rows)))
        half = len(self.rows) // 2
        return [index + side for index in range(half) for side in (0, half)]

    def texts(self, *, margins_only: bool = False, greedy: bool = False) -> Texts:
        """What our engine is asked."""
        if not margins_only:
            return Texts(rows=self.rows, starts=self.starts, greedy=greedy)
        return Texts(rows=self.rows, starts=self.margin_starts, greedy=greedy, relative=self.alike)

    def margins(self, sums: Sums) -> Sums:
        """(C, P): log-probability of the acceptable sentence minus that of the other."""
        half = len(self.rows) // 2
        return sums[:, :half] - sums[:, half:]

    def few(self) -> "Items":
        """Some of these, to warm up with."""
        if self.margin_starts is None:
            return Items(rows=self.rows[:WARM_UP], starts=self.starts[:WARM_UP])
        half = len(self.rows) // 2
        kept = [*range(half)[:WARM_UP], *range(half, 2 * half)[:WARM_UP]]
        return sentences(
            [self.rows[index] for index in kept], [self.starts[index] for index in kept]
        )

    def require_context(self, context: int) -> "Items":
        """These items, all of which fit into the model.

        Raises:
            SkippedError: a row is longer than the model's context.
        """
        longest = max(len(row) for row in self.rows) - 1
        if longest > context:
            raise SkippedError(f"a text of {longest} tokens exceeds the model's context {context}")
        return self


def blimp_pairs(data: Path, per_paradigm: int) -> pd.DataFrame:
    """The first pairs of every paradigm of BLiMP."""
    spec = MinimalPairsSpec(
        source=FilePairs(path=str(_existing(data / "blimp" / "blimp.parquet"))),
        limit=per_paradigm,
    )
    return load_pairs(spec)


def blimp_sample(data: Path, size: int) -> pd.DataFrame:
    """About equally many pairs of every paradigm of BLiMP, ``size`` in all."""
    return blimp_pairs(data, -(-size // BLIMP_PARADIGMS)).head(size)


def tse_pairs(data: Path, per_template: int) -> pd.DataFrame:
    """The first pairs of every template of the targeted syntactic evaluation."""
    spec = MinimalPairsSpec(
        source=FilePairs(path=str(_existing(data / "tse" / "tse.parquet"))),
        columns=Columns(good="good", bad="bad", cluster="template", group="template", id=None),
        limit=per_template,
    )
    return load_pairs(spec)


def hellaswag_file(data: Path) -> Path:
    """The validation split of HellaSwag."""
    return _existing(data / "mc" / "hellaswag" / "validation.parquet")


def pair_items(tokenizer: Any, pairs: pd.DataFrame) -> Items:
    """Tokenise pairs as the product's minimal-pair task does."""
    rows = encode(tokenizer, [*pairs["good"], *pairs["bad"]])
    return sentences(rows, [1] * len(rows))


def sentences(rows: Sequence[Row], starts: Sequence[int]) -> Items:
    """Items of pairs: first all acceptable sentences, then all unacceptable ones."""
    half = len(rows) // 2
    parting = [_parting(*pair) for pair in zip(rows[:half], rows[half:], strict=True)]
    return Items(rows=rows, starts=starts, margin_starts=parting * 2)


def _parting(good: Row, bad: Row) -> int:
    both = zip(good, bad, strict=False)
    common = next((place for place, (a, b) in enumerate(both) if a != b), min(len(good), len(bad)))
    # The first token is not predicted; a sentence that begins the other keeps its last token.
    return min(max(common, 1), len(good) - 1, len(bad) - 1)


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise SkippedError(f"no {'/'.join(file.parts[-3:])} in the data folder (--data)")
    return file
