"""The firing census: when each neuron is active, where in the window, and after which n-grams."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from sweeper.errors import UserError
from sweeper.spec.base import Allowed, Count, EntryName, Index, Strict, Text
from sweeper.spec.condition import without_repeats

Domains = Annotated[
    list[EntryName],
    Field(min_length=1),
    AfterValidator(without_repeats),
    Allowed("a list of different names of corpora"),
]

Lengths = Annotated[
    list[Literal[1, 2, 3]],
    AfterValidator(without_repeats),
    Allowed("a list of different ones of 1, 2 and 3; empty for no n-grams"),
]

Threshold = Annotated[float, Field(ge=0, le=1000)]
"""Of an activation. A neuron at rest has 0, and none has thousands."""


Thresholds = Annotated[
    Threshold | dict[Text, Threshold],
    Allowed("a number of at least 0 and at most 1000, or one for each activation function"),
]


class FiringSpec(Strict):
    """Which text is read, what counts as active, and which n-grams are counted."""

    corpora: Domains
    """Names of corpora: domains, each counted by itself and all together."""
    length: Annotated[int, Field(ge=8)] = 2048
    """Window length in tokens; cut to the model's context. Windows do not overlap; what is left of
    a text after its last whole window is not read."""
    windows: Count = 256
    """Most windows of each corpus."""
    threshold: Thresholds = 0.0
    """A neuron is active where its activation exceeds it: one number, or one for each activation
    function by its name in the model's configuration (``relu``, ``gelu_new``, ``silu``)."""
    ngrams: Lengths = Field(default=[1, 2, 3])
    """Lengths of the n-grams that are counted, in a second pass over the text."""
    most_ngrams: Count = 50
    """Up to so many n-grams it is told how many explain a neuron. What a detector is does not
    depend on it."""
    least_activations: Count = 1
    """A neuron that is active less often after n-grams is no detector of these: few activations are
    explained by few n-grams, whatever the neuron does. The study has no such rule."""
    tokens: Index = 10
    """Tokens that each detector promotes and suppresses most, so many of both."""
    parts: Count | Literal["auto"] = "auto"
    """Units that the windows of each corpus are divided into, which workers compute side by
    side."""

    def threshold_of(self, activation: str) -> float | None:
        """The threshold for an activation function by name; None where the job gives none."""
        if isinstance(self.threshold, dict):
            return self.threshold.get(activation)
        return self.threshold

    def needed_threshold(self, model: str, activation: str) -> float:
        """The threshold for a model's activation function.

        Raises:
            UserError: the job gives none.
        """
        threshold = self.threshold_of(activation)
        if threshold is None:
            raise UserError(
                f"firing.threshold: {self.threshold!r} has no number for {activation!r}, the "
                f"activation function of model {model!r}; allowed is one number, or one for each "
                f"activation function, {activation!r} among them"
            )
        return threshold

    @property
    def counts_ngrams(self) -> bool:
        """Whether there is a second pass."""
        return bool(self.ngrams)
