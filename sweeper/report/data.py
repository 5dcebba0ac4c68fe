"""What a report is made from: frames of the store and of the aggregation, and the job."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from sweeper.aggregate.levels import Level
from sweeper.records import ContrastEstimate, Estimate
from sweeper.report.firing_data import FiringData
from sweeper.store.dynamics import CohortPoint, Correlation, TrajectoryPoint

CHECKPOINT = ["model", "revision"]
ESTIMATE_COLUMNS = [item.name for item in fields(Estimate)]
LEVEL_COLUMNS = [item.name for item in fields(Level)]
SEED_COLUMNS = [*CHECKPOINT, "task", "metric", "group", "condition", "seed", "effect"]
CONTRAST_COLUMNS = [item.name for item in fields(ContrastEstimate)]
TRAJECTORY_COLUMNS = [item.name for item in fields(TrajectoryPoint)]
COHORT_COLUMNS = [item.name for item in fields(CohortPoint)]
CORRELATION_COLUMNS = [item.name for item in fields(Correlation)]
ALL_ITEMS = "all"
"""Name of the group that holds every item of a task."""
MAX_CHECKPOINTS = 6
"""Most checkpoints in figures and examples that are not over steps; the tables have all of them."""


def complete(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Give a frame the columns that readers of it name.

    Those that are not there (no rows, or rows of an older version) hold nothing but NaN.
    """
    if frame.empty:
        return frame.reindex(columns=columns)
    return frame.reindex(columns=[*frame.columns, *(c for c in columns if c not in frame.columns)])


def with_family(frame: pd.DataFrame) -> pd.DataFrame:
    """Fill in the family where it is not noted: a condition is then its own."""
    return frame.assign(family=frame["family"].where(frame["family"].notna(), frame["condition"]))


def swept(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of conditions that are repeated for groups of layers."""
    return frame[frame["first_layer"].notna()]


def unswept(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of conditions that stand for themselves."""
    return frame[frame["first_layer"].isna()]


def layers_name(first: int, last: int) -> str:
    """A group of layers, for people."""
    return str(first) if first == last else f"{first}–{last}"


def checkpoint_name(model: str, revision: str) -> str:
    """A model at a revision, for people."""
    return f"{model} @ {revision}"


def first_checkpoints(frame: pd.DataFrame) -> tuple[list[tuple[str, str]], str]:
    """The checkpoints to draw, and a note when there are more.

    Revisions by the numbers in their names; where they are too many, of each of the first models
    the last one, and others at even distances.
    """
    pairs = frame[CHECKPOINT].drop_duplicates().itertuples(index=False)
    of_model: dict[str, list[str]] = {}
    for model, revision in pairs:
        of_model.setdefault(str(model), []).append(str(revision))
    total = sum(map(len, of_model.values()))
    places = len(of_model)
    shown: list[tuple[str, str]] = []
    for index, (model, revisions) in enumerate(of_model.items()):
        room = -((len(shown) - MAX_CHECKPOINTS) // (places - index))  # shared out, rounded up
        ordered = sorted(revisions, key=_by_numbers)
        shown += [(model, revision) for revision in _spread(ordered, room)]
    if total == len(shown):
        return shown, ""
    note = f" {len(shown)} of {total} checkpoints are drawn"
    return shown, f"{note}; the tables have all of them."


def _spread(revisions: list[str], count: int) -> list[str]:
    """So many of them at even distances, counted from the last one."""
    if len(revisions) <= count:
        return revisions
    steps = (round(index * (len(revisions) - 1) / max(count - 1, 1)) for index in range(count))
    return [revisions[-1 - step] for step in steps][::-1]


def _by_numbers(name: str) -> list[tuple[int, int, str]]:
    """Sorts ``step9`` before ``step10``."""
    parts = re.findall(r"(\d+)|(\D+)", name)
    return [(0, int(number), "") if number else (1, 0, text) for number, text in parts]


def of_checkpoints(frame: pd.DataFrame, checkpoints: list[tuple[str, str]]) -> pd.DataFrame:
    """Rows of these checkpoints."""
    keep = pd.Series(False, index=frame.index)
    for model, revision in checkpoints:
        keep |= (frame["model"] == model) & (frame["revision"] == revision)
    return frame[keep]


def random_conditions(estimates: pd.DataFrame) -> list[str]:
    """Families of conditions whose neurons are drawn at random, in order of appearance."""
    drawn = estimates[estimates["num_seeds"].astype(float) > 0]
    return [str(name) for name in drawn["family"].unique()]


def _nothing() -> pd.DataFrame:
    return pd.DataFrame()


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything that a report shows; any frame may be empty."""

    estimates: pd.DataFrame
    """Columns are the fields of :class:`sweeper.records.Estimate`."""
    levels: pd.DataFrame
    """Columns are the fields of :class:`sweeper.aggregate.levels.Level`."""
    neurons: pd.DataFrame
    """Census with ``model`` and ``revision``: layer, neuron, wd; of the checkpoints that figures
    draw."""
    selected: pd.DataFrame
    """model, revision, condition, seed, layer, neuron of every set that is not random."""
    cells: pd.DataFrame
    """One row per committed or failed cell."""
    manifest: pd.DataFrame
    """The cells that the run consists of, under the job's names."""
    job: Mapping[str, Any]
    """The validated job as JSON types."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Model -> where its weights came from."""
    checkpoints: pd.DataFrame = field(default_factory=_nothing)
    """model, revision, num_layers, num_neurons (of a layer), num_parameters (0: not noted), step;
    those of a model in the job's order."""
    seed_effects: pd.DataFrame = field(default_factory=_nothing)
    """Effect of every single seed of the random conditions (``SEED_COLUMNS``)."""
    contrasts: pd.DataFrame = field(default_factory=_nothing)
    """The job's contrasts, part by part: the fields of
    :class:`sweeper.records.ContrastEstimate`."""
    trajectories: pd.DataFrame = field(default_factory=_nothing)
    """Effects and the baseline's levels over revisions: the fields of
    :class:`sweeper.store.dynamics.TrajectoryPoint`."""
    cohorts: pd.DataFrame = field(default_factory=_nothing)
    """WD and drift over revisions: the fields of :class:`sweeper.store.dynamics.CohortPoint`."""
    correlations: pd.DataFrame = field(default_factory=_nothing)
    """Of cohorts' WD with levels: the fields of :class:`sweeper.store.dynamics.Correlation`."""
    step_levels: pd.DataFrame = field(default_factory=_nothing)
    """Of imported results: the fields of :class:`sweeper.aggregate.step_levels.StepLevel`."""
    step_changes: pd.DataFrame = field(default_factory=_nothing)
    """Of imported results: the fields of :class:`sweeper.aggregate.step_changes.StepChange`."""
    matches: pd.DataFrame = field(default_factory=_nothing)
    """Table ``matches`` with model, revision, condition and matched_to."""
    balance: pd.DataFrame = field(default_factory=_nothing)
    """Table ``balance`` with model, revision, condition and matched_to."""
    neuron_pairs: pd.DataFrame = field(default_factory=_nothing)
    """Table ``neuron_pairs`` with model and revision."""
    neuron_tokens: pd.DataFrame = field(default_factory=_nothing)
    """Table ``neuron_tokens`` with model and revision."""
    examples: pd.DataFrame = field(default_factory=_nothing)
    """Single pairs most changed by a clamp (``collect_examples.EXAMPLE_COLUMNS``)."""
    example_tokens: pd.DataFrame = field(default_factory=_nothing)
    """Their tokens, where the job keeps them (``collect_examples.TOKEN_COLUMNS``)."""
    routing: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """Tables of the routing analysis by their name in the store, with model and revision."""
    firing: FiringData = field(default_factory=FiringData)
    """When neurons fire: dead ones, detectors of n-grams, positional ones."""
    written_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def confidence(self) -> float:
        """Confidence of all intervals."""
        return float(self.job.get("statistics", {}).get("confidence", 0.95))

    @property
    def percent(self) -> str:
        """Confidence of all intervals, for people."""
        return f"{100 * self.confidence:g} %"
