"""What every task gives once it is tokenised: rows to score, and rows of results."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweeper.score.tokens import Row


class PreparedTask(Protocol):
    """A task tokenised for one model; used again for every condition."""

    @property
    def rows(self) -> list[Row]:
        """Token rows to score."""
        ...

    def items(self, logprobs: Sequence[NDArray[np.float32]]) -> pd.DataFrame:
        """Rows of the table ``items`` from the log-probabilities of ``rows``.

        All columns of the table except ``cell_key`` and ``attempt``.
        """
        ...


CHARACTERS_PER_TOKEN = 4.0
"""Rough length of a token in English text, for cost estimates only."""


def total(values: NDArray[np.float32]) -> float:
    """Sum of token log-probabilities (nats) in double precision."""
    return float(values.sum(dtype=np.float64))
