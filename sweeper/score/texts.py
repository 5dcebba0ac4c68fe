"""What an engine is asked to score: token rows, and which of their tokens matter."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweeper.score.tokens import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Token rows to score under every condition.

    A row's scored tokens are ``row[start:]``, each given all tokens before it. Equal prefixes are
    computed once, so nothing is gained by leaving out duplicates.
    """

    rows: Sequence[Row]
    starts: Sequence[int] | None = None
    """First scored token of each row, at least 1; None for 1 throughout."""
    greedy: bool = False
    """Also find out whether each scored token is the model's most probable one."""
    relative: Sequence[bool] | None = None
    """Rows of whose first scored token the log-probability plus any number will do that is the same
    for all rows with the same tokens before it: where a row is only compared with such rows
    (minimal pairs that part there, behind a common beginning), the number cancels, and the output
    head need not run. None for no row."""

    def start(self, index: int) -> int:
        """First scored token of a row."""
        return 1 if self.starts is None else self.starts[index]

    def is_relative(self, index: int) -> bool:
        """Whether the first scored token of a row is only compared (``relative``)."""
        return self.relative is not None and self.relative[index]

    def check(self, context: int) -> None:
        """Check lengths and starts; ``context`` is the longest input that the model takes.

        Raises:
            ValueError: a row has nothing to score or does not fit.
        """
        if self.relative is not None and self.greedy:
            raise ValueError("relative log-probabilities do not tell the most probable token")
        for name, given in (("starts", self.starts), ("relative", self.relative)):
            if given is not None and len(given) != len(self.rows):
                raise ValueError(f"{len(given)} {name} for {len(self.rows)} texts")
        for index, row in enumerate(self.rows):
            if len(row) < 2:
                raise ValueError(f"a text of {len(row)} token(s) has no token to predict")
            # The last token is not an input, so one more than the context fits.
            if len(row) > context + 1:
                raise ValueError(
                    f"a text of {len(row)} tokens exceeds the model's context {context}"
                )
            if not 1 <= self.start(index) < len(row):
                raise ValueError(
                    f"scoring from token {self.start(index)} of a text of {len(row)} tokens"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What one condition says of all texts."""

    logprobs: Sequence[NDArray[np.float32]]
    """Log-probabilities (nats) of each row's scored tokens, in the order of the rows; of the first
    ones only what ``Texts.relative`` asks for."""
    greedy: Sequence[NDArray[np.bool_]] | None
    """Whether each scored token is the most probable one; None unless asked for."""
    values_seen: int
    """Pre-activations that the condition's clamps saw."""
    values_changed: int
    """Those that they changed. Shared computation is counted once for each condition."""
    written: Sequence[str] = ()
    """What the model wrote, for tasks that make it write."""

    def require_finite(self) -> None:
        """Check the numbers.

        Raises:
            FloatingPointError: a log-probability is NaN or infinite.
        """
        if not all(bool(np.isfinite(values).all()) for values in self.logprobs):
            raise FloatingPointError("a log-probability is NaN or infinite")
