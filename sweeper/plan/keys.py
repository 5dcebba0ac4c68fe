"""Cell keys: content hashes of everything that a number depends on.

Same key, same number: a cell in any store is computed once. A forgotten ingredient would report
one model's numbers as another's, so each is named here and nowhere else.
"""

from collections.abc import Mapping
from typing import Any

from sweeper.records import SCHEMA_VERSION, Checkpoint, Condition, content_hash
from sweeper.spec.corpus import CensusSpec

CENSUS_RULES = 1
"""A change of how the census cuts text or computes a statistic raises it."""


def census_key(checkpoint: Checkpoint, census: CensusSpec, corpus_fingerprint: str) -> str:
    """Key of a census: model, numerics, text and windows. Memory limits are not part."""
    return content_hash(
        {
            "schema": SCHEMA_VERSION,
            "kind": "census",
            "rules": CENSUS_RULES,
            "checkpoint": checkpoint.identity(),
            "corpus": corpus_fingerprint,
            "length": min(census.length, checkpoint.context),
            "overlap": census.overlap,
            "windows": census.windows,
        }
    )


def score_key(checkpoint: Checkpoint, condition: Condition, task: Mapping[str, Any]) -> str:
    """Key of a scored cell: model, numerics, operation with its neurons, data and rules.

    Args:
        checkpoint: the model at a revision.
        condition: with its resolved neurons.
        task: the task's identity (fingerprint of the data and scoring rules) as plain data.
    """
    return content_hash(
        {
            "schema": SCHEMA_VERSION,
            "kind": "score",
            "checkpoint": checkpoint.identity(),
            "condition": condition.key,
            "task": dict(task),
        }
    )
