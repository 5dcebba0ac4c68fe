"""What a report says about when neurons fire: frames by layer, and of single neurons."""

from dataclasses import dataclass, field

import pandas as pd

from sweeper.aggregate.firing import (
    DETECTOR_COLUMNS,
    EXPLAINED_COLUMNS,
    FIRING_COLUMNS,
    POSITIONAL_COLUMNS,
)

PLACE = ["model", "revision"]
NEURON = [*PLACE, "layer", "neuron"]
N_NAMES = {1: "token", 2: "bigram", 3: "trigram"}
"""What an n-gram is called."""


def frame_of(*columns: str) -> pd.DataFrame:
    """A frame without rows."""
    return pd.DataFrame(columns=[*PLACE, *columns])


@dataclass(frozen=True, kw_only=True)
class FiringData:
    """Everything that a report says about when neurons fire; any frame may be empty.

    All frames have ``model`` and ``revision``. Those by layer are of all checkpoints, those of
    single neurons of the checkpoints that figures draw.
    """

    by_layer: pd.DataFrame = field(default_factory=lambda: frame_of(*FIRING_COLUMNS))
    """Of ``aggregate.firing.firing_by_layer``."""
    positional_by_layer: pd.DataFrame = field(default_factory=lambda: frame_of(*POSITIONAL_COLUMNS))
    """Of ``aggregate.firing.positional_by_layer``."""
    explained: pd.DataFrame = field(default_factory=lambda: frame_of(*EXPLAINED_COLUMNS))
    """Of ``aggregate.firing.explained_by_layer``."""
    detectors_by_layer: pd.DataFrame = field(default_factory=lambda: frame_of(*DETECTOR_COLUMNS))
    """Of ``aggregate.firing.detectors_by_layer``."""
    positional: pd.DataFrame = field(
        default_factory=lambda: frame_of("layer", "neuron", "information", "type", "strong")
    )
    """Every positional neuron."""
    curves: pd.DataFrame = field(
        default_factory=lambda: frame_of(
            *("layer", "neuron", "information", "type", "strong", "rank", "frequency")
        )
    )
    """The most informative ones of each type with their activation frequency by position."""
    detectors: pd.DataFrame = field(
        default_factory=lambda: frame_of(
            *("layer", "neuron", "n", "activations", "num_covered", "projection", "suppresses")
        )
    )
    """The detectors that are active most often, so many of each n."""
    detected: pd.DataFrame = field(
        default_factory=lambda: frame_of("layer", "neuron", "n", "text", "count", "occurrences")
    )
    """The n-grams that those cover."""
    projections: pd.DataFrame = field(
        default_factory=lambda: frame_of("layer", "neuron", "direction", "rank", "text", "logit")
    )
    """Tokens that those promote and suppress most."""
