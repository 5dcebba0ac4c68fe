"""The whole job."""

import math
from typing import Annotated, Self, TypeVar

from pydantic import Field, model_validator

from sweeper.spec.base import Allowed, Count, EntryName, Name, PathText, Strict
from sweeper.spec.checks import contradictions
from sweeper.spec.cluster import ClusterSpec
from sweeper.spec.condition import ConditionSpec
from sweeper.spec.contrast import ContrastSpec, contrast_contradictions
from sweeper.spec.corpus import CensusSpec, CorpusSpec
from sweeper.spec.drift import DriftSpec
from sweeper.spec.firing import FiringSpec
from sweeper.spec.model import ModelSpec
from sweeper.spec.profile import ProfileSpec
from sweeper.spec.routing import RoutingSpec
from sweeper.spec.task import TaskSpec

GROUPS = ("model", "corpus", "suite", "condition", "cluster")
"""Parts of a job that are chosen among the options of ``conf/``."""

Spec = TypeVar("Spec")
Entries = Annotated[
    dict[EntryName, Spec], Field(min_length=1), Allowed("a mapping with at least one named entry")
]


class StatisticsSpec(Strict):
    """How effects are turned into intervals."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    resamples: Count = 2000
    """Bootstrap resamples."""

    @model_validator(mode="after")
    def _enough_resamples(self) -> Self:
        least = math.ceil(round(self.confidence / (1 - self.confidence), 9))
        if self.resamples < least:
            raise ValueError(
                f"resamples is {self.resamples}; confidence {self.confidence} needs {least}"
            )
        return self


class JobSpec(Strict):
    """Models x conditions x seeds x tasks, and where to run them and keep the results."""

    name: Name
    """Name of the run; a folder of the store."""
    store: PathText = "results"
    """Folder or object-store address that holds the results of any number of runs."""
    model: Entries[ModelSpec]
    corpus: dict[EntryName, CorpusSpec] = Field(default_factory=dict)
    census: CensusSpec | None = None
    """Needed by conditions that choose neurons by a statistic, and by profiles."""
    profiles: ProfileSpec | None = None
    """What single neurons of the census do; nothing is recorded when absent."""
    drift: DriftSpec | None = None
    """How far neurons turn between revisions of a model; not measured when absent."""
    firing: FiringSpec | None = None
    """When neurons are active: needed by conditions on dead, detecting and positional ones."""
    routing: RoutingSpec | None = None
    """Which neurons route: needed by conditions on consensus, handler and gateway ones."""
    suite: Entries[TaskSpec]
    condition: Entries[ConditionSpec]
    seeds: Count = 3
    """Draws of every random set."""
    contrasts: dict[EntryName, ContrastSpec] = Field(default_factory=dict)
    """Pairs of conditions that are compared with each other, beside each with the baseline."""
    statistics: StatisticsSpec = StatisticsSpec()
    cluster: ClusterSpec = ClusterSpec()

    @property
    def baseline(self) -> str:
        """Name of the condition that every effect is measured against."""
        return next(name for name, spec in self.condition.items() if spec.operation is None)

    @property
    def trusted(self) -> list[str]:
        """Keys by which the job lets Python code run that others have written."""
        models = [f"model.{name}.trust_remote_code" for name in self.model]
        tasks = [f"suite.{name}.trust_task_code" for name in self.suite]
        parts = (*self.model.values(), *self.suite.values())
        return [
            key
            for key, part in zip((*models, *tasks), parts, strict=True)
            if getattr(part, key.rpartition(".")[2], False)
        ]

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        found = contradictions(
            condition=self.condition,
            suite=self.suite,
            corpus=self.corpus,
            census=self.census,
            profiles=self.profiles,
            firing=self.firing,
            routing=self.routing,
        ) or contrast_contradictions(self.contrasts, self.condition, self.suite)
        if found:
            raise ValueError(found[0] + (f" (and {len(found) - 1} more)" if found[1:] else ""))
        return self
