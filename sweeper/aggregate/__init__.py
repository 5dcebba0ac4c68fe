"""From rows of items to effects with intervals; numpy, scipy and pandas only."""

from sweeper.aggregate.cohorts import cohorts
from sweeper.aggregate.comparisons import Comparison, contrast
from sweeper.aggregate.contrasts import with_outcomes
from sweeper.aggregate.correlation import correlations
from sweeper.aggregate.estimates import estimate
from sweeper.aggregate.imported import document_values, imported_levels
from sweeper.aggregate.levels import Level, levels
from sweeper.aggregate.power import (
    PlannedTask,
    minimal_detectable_contrast,
    minimal_detectable_effect,
    paired_accuracy_sd,
)
from sweeper.aggregate.seed_effects import SeedEffect, seed_effects
from sweeper.aggregate.step_changes import StepChange, step_changes
from sweeper.aggregate.step_levels import StepLevel
from sweeper.aggregate.trajectories import by_revision, trajectories

__all__ = [
    "Comparison",
    "Level",
    "PlannedTask",
    "SeedEffect",
    "StepChange",
    "StepLevel",
    "by_revision",
    "cohorts",
    "contrast",
    "correlations",
    "document_values",
    "estimate",
    "imported_levels",
    "levels",
    "minimal_detectable_contrast",
    "minimal_detectable_effect",
    "paired_accuracy_sd",
    "seed_effects",
    "step_changes",
    "trajectories",
    "with_outcomes",
]
