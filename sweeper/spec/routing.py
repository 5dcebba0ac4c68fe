"""Binary routing: where MLPs are nonlinear, and which neurons tell so by firing or not."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from sweeper.spec.base import Allowed, Count, EntryName, Index, Strict
from sweeper.spec.condition import without_repeats
from sweeper.spec.firing import Threshold

Thresholds = Annotated[
    list[Threshold],
    AfterValidator(without_repeats),
    Allowed("a list of different numbers of at least 0 and at most 1000"),
]


class RoutingSpec(Strict):
    """Which text is read, when a neuron fires, and how the findings are tested."""

    corpus: EntryName
    """Name of the corpus, a key of ``corpus``."""
    length: Annotated[int, Field(ge=8)] = 1024
    """Window length in tokens; cut to the model's context. Windows do not overlap; each is a
    document to the document bootstrap."""
    windows: Count = 512
    """Most windows."""
    threshold: Threshold = 0.1
    """A neuron fires where its value exceeds it."""
    thresholds: Thresholds = Field(default=[0.01, 0.05, 0.1, 0.5, 1.0])
    """Thresholds under which roles are sought again, as a test of robustness."""
    fires: Literal["activation", "product"] = "activation"
    """The value: of the activation function, or in gated MLPs its product with the up
    projection."""
    fit_tokens: Count = 50_000
    """The affine maps are fitted on so many of the first tokens, in whole windows."""
    splits: Index = 1000
    """Random splits of each layer's neurons that the consensus gradient is compared with."""
    resamples: Count = 10_000
    """Bootstrap resamples, of tokens and of documents."""
    predicted_tokens: Index = 20_000
    """Tokens on which predictors of nonlinearity are fitted and judged; 0 leaves them out."""
    removal_windows: Index = 64
    """Windows on which MLPs are taken out and handlers switched; 0 leaves that out."""
