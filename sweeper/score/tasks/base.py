"""What every task gives once it is tokenised: texts to score, and rows of results."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweeper.records import Condition
from sweeper.score.texts import Scores, Texts

if TYPE_CHECKING:  # computing needs torch, and this file does not
    from sweeper.models.loading import LoadedModel
    from sweeper.score.memory import TokenBudget


class PreparedTask(Protocol):
    """A task tokenised for one model; used again for every condition."""

    @property
    def texts(self) -> Texts:
        """What to score."""
        ...

    def items(self, scores: Scores) -> pd.DataFrame:
        """Rows of the table ``items`` from what a condition says of ``texts``.

        All columns of the table except ``cell_key`` and ``attempt``.
        """
        ...


@runtime_checkable
class WithTables(Protocol):
    """A prepared task that has rows for more tables than ``items``."""

    def tables(self, scores: Scores) -> Mapping[str, pd.DataFrame]:
        """Rows of the other tables by name, without ``cell_key`` and ``attempt``; may be empty."""
        ...


@runtime_checkable
class WithSentences(Protocol):
    """A prepared task whose items people can read."""

    def sentences(self) -> pd.DataFrame:
        """Rows of the table ``texts``, without ``cell_key`` and ``attempt``."""
        ...


@runtime_checkable
class Writes(Protocol):
    """A prepared task that also makes the model write."""

    def write(
        self, model: "LoadedModel", condition: Condition, scores: Scores, budget: "TokenBudget"
    ) -> Scores:
        """Add what the model writes under a condition, and the values clamped meanwhile."""
        ...


@runtime_checkable
class WithVersions(Protocol):
    """A prepared task that used more programs than the model's, which may change a number."""

    @property
    def versions(self) -> Mapping[str, str]:
        """What they are for -> which they are; kept in the cell's ``versions``."""
        ...


CHARACTERS_PER_TOKEN = 4.0
"""Rough length of a token in English text, for cost estimates only."""


def total(values: NDArray[np.float32]) -> float:
    """Sum of token log-probabilities (nats) in double precision."""
    return float(values.sum(dtype=np.float64))
