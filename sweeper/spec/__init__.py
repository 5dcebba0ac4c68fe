"""What a job says: its frozen models, and how job files, options and overrides become one."""

from sweeper.spec.cluster import ClusterSpec
from sweeper.spec.compose import load_job, load_training, model_option, validate_job
from sweeper.spec.condition import (
    ByStatistic,
    ConditionSpec,
    CumulativeLayers,
    ExplicitSet,
    LabelledSet,
    LayerGroups,
    MatchedSet,
    RandomSet,
    WholeLayers,
)
from sweeper.spec.corpus import CensusSpec, CorpusSpec, FileCorpus, HubCorpus, TopicsCorpus
from sweeper.spec.firing import FiringSpec
from sweeper.spec.job import JobSpec, StatisticsSpec
from sweeper.spec.model import ModelSpec, WheelFallback
from sweeper.spec.profile import ProfileSpec
from sweeper.spec.routing import RoutingSpec
from sweeper.spec.task import (
    Columns,
    FilePairs,
    GrammarPairs,
    HubPairs,
    LmEvalSpec,
    MinimalPairsSpec,
    PerplexitySpec,
    SurprisalSpec,
    TaskSpec,
    WindowsSpec,
)
from sweeper.spec.training import TrainingJob

__all__ = [
    "ByStatistic",
    "CensusSpec",
    "ClusterSpec",
    "Columns",
    "ConditionSpec",
    "CorpusSpec",
    "CumulativeLayers",
    "ExplicitSet",
    "FileCorpus",
    "FilePairs",
    "FiringSpec",
    "GrammarPairs",
    "HubCorpus",
    "HubPairs",
    "JobSpec",
    "LabelledSet",
    "LayerGroups",
    "LmEvalSpec",
    "MatchedSet",
    "MinimalPairsSpec",
    "ModelSpec",
    "PerplexitySpec",
    "ProfileSpec",
    "RandomSet",
    "RoutingSpec",
    "StatisticsSpec",
    "SurprisalSpec",
    "TaskSpec",
    "TopicsCorpus",
    "TrainingJob",
    "WheelFallback",
    "WholeLayers",
    "WindowsSpec",
    "load_job",
    "load_training",
    "model_option",
    "validate_job",
]
