"""What a job says: its frozen models, and how job files, options and overrides become one."""

from sweeper.spec.cluster import ClusterSpec
from sweeper.spec.compose import load_job, model_option, validate_job
from sweeper.spec.condition import ByStatistic, ConditionSpec, ExplicitSet, RandomSet
from sweeper.spec.corpus import CensusSpec, CorpusSpec, FileCorpus, HubCorpus, TopicsCorpus
from sweeper.spec.job import JobSpec, StatisticsSpec
from sweeper.spec.model import ModelSpec, WheelFallback
from sweeper.spec.task import (
    Columns,
    FilePairs,
    GrammarPairs,
    HubPairs,
    LmEvalSpec,
    MinimalPairsSpec,
    PerplexitySpec,
    TaskSpec,
)

__all__ = [
    "ByStatistic",
    "CensusSpec",
    "ClusterSpec",
    "Columns",
    "ConditionSpec",
    "CorpusSpec",
    "ExplicitSet",
    "FileCorpus",
    "FilePairs",
    "GrammarPairs",
    "HubCorpus",
    "HubPairs",
    "JobSpec",
    "LmEvalSpec",
    "MinimalPairsSpec",
    "ModelSpec",
    "PerplexitySpec",
    "RandomSet",
    "StatisticsSpec",
    "TaskSpec",
    "TopicsCorpus",
    "WheelFallback",
    "load_job",
    "model_option",
    "validate_job",
]
