"""What a run says about training: records of results over revisions, as they are kept."""

from dataclasses import dataclass

from sweeper.store.schemas import schema_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryPoint:
    """A condition's effect, or the level of the baseline, at one revision among others of a model.

    NaN stands for "too little data".
    """

    model: str
    revision: str
    step: int | None
    """Training step; None where the revision's name tells none."""
    place: int
    """Among the model's revisions, in the job's order; from 0."""
    task: str
    metric: str
    group: str
    condition: str
    operation: str | None
    family: str
    first_layer: int | None
    last_layer: int | None
    quantity: str
    """``effect`` against the same revision's baseline, or ``level``: that of the baseline."""
    num_revisions: int
    """Revisions with results. The band holds for those of them whose ends are no NaN."""
    num_seeds: int
    num_items: int
    num_clusters: int
    num_neurons: float
    value: float
    low: float
    high: float
    """Cluster-robust t interval of this revision alone."""
    band_low: float
    band_high: float
    """Simultaneous over the revisions that have them: all their true values lie inside with the
    wanted confidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortPoint:
    """Neurons of a set that is the same at all revisions, or the rest, at one revision."""

    model: str
    revision: str
    step: int | None
    place: int
    cohort: str
    """Name of the first condition with that set."""
    part: str
    """``cohort``, or ``rest``: all other neurons of the layers that the cohort is in."""
    statistic: str
    """``wd``; ``drift``, 1 - cosine of the input weights with those of ``previous``; or
    ``relative_drift``, that over the layer's mean."""
    previous: str | None
    """Of a drift: the earlier revision."""
    num_neurons: int
    """Neurons with the statistic."""
    mean: float
    first: float
    median: float
    third: float
    """Quartiles over neurons: how they differ, no interval of the mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """Correlation over revisions between a cohort's mean WD and the model's level on a task.

    The revisions are as they are, the items' clusters random: the intervals tell which correlation
    other items of the same kind would give at these revisions, not other training runs.
    Neighbouring revisions are alike, so no interval takes them for independent draws (as Fisher's z
    would).
    """

    model: str
    cohort: str
    task: str
    metric: str
    group: str
    num_revisions: int
    num_items: int
    num_clusters: int
    pearson: float
    """NaN with fewer than four revisions, and where one side does not change."""
    pearson_low: float
    pearson_high: float
    """Bootstrap of the clusters: symmetric bootstrap-t of atanh of the correlation."""
    spearman: float
    spearman_low: float
    spearman_high: float
    """Symmetric, from the same resamples; inside of [-1, 1]. NaN where Pearson's are, and with
    fewer than four clusters."""


TRAJECTORIES = schema_of(TrajectoryPoint)
"""One row per effect and revision: the fields of ``TrajectoryPoint``."""

COHORTS = schema_of(CohortPoint)
"""One row per cohort, part, statistic and revision: the fields of ``CohortPoint``."""

CORRELATIONS = schema_of(Correlation)
"""One row per cohort and metric: the fields of ``Correlation``."""

DYNAMICS = {"trajectories": TRAJECTORIES, "cohorts": COHORTS, "correlations": CORRELATIONS}
"""The results over training that a run keeps, by name."""
