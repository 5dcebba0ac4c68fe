"""From rows of items to effects with intervals; numpy, scipy and pandas only."""

from sweeper.aggregate.comparisons import Comparison, contrast
from sweeper.aggregate.contrasts import with_outcomes
from sweeper.aggregate.estimates import estimate
from sweeper.aggregate.levels import Level, levels
from sweeper.aggregate.power import (
    PlannedTask,
    minimal_detectable_contrast,
    minimal_detectable_effect,
    paired_accuracy_sd,
)
from sweeper.aggregate.seed_effects import SeedEffect, seed_effects

__all__ = [
    "Comparison",
    "Level",
    "PlannedTask",
    "SeedEffect",
    "contrast",
    "estimate",
    "levels",
    "minimal_detectable_contrast",
    "minimal_detectable_effect",
    "paired_accuracy_sd",
    "seed_effects",
    "with_outcomes",
]
