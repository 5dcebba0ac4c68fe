"""Cell keys: content hashes of everything that a number depends on.

Same key, same number: a cell in any store is computed once. A forgotten ingredient would report
one model's numbers as another's, so each is named here and nowhere else.
"""

from collections.abc import Mapping
from typing import Any

from sweeper.records import SCHEMA_VERSION, Checkpoint, Condition, NeuronSet, content_hash
from sweeper.spec.condition import MatchedSet
from sweeper.spec.corpus import CensusSpec
from sweeper.spec.profile import ProfileSpec

CENSUS_RULES = 2
"""A change of how the census cuts text or computes a statistic raises it."""

MATCH_RULES = 1
"""A change of which sets a match tries, or of when it is satisfied, raises it."""

PROFILE_RULES = 1
"""A change of which tokens and pairs a profile records, or of how, raises it."""

DRIFT_RULES = 1
"""A change of what is compared, or of how, raises it."""


def census_key(checkpoint: Checkpoint, census: CensusSpec, corpus_fingerprint: str) -> str:
    """Key of a census: model, numerics, text, windows and method.

    Neither memory limits nor the number of parts are part of it.
    """
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
            "method": census.method,
            "bins": census.bins if census.method == "streaming" else None,
            "pairs": census.pairs,
        }
    )


def match_key(
    checkpoint: Checkpoint,
    neurons: MatchedSet,
    target: Condition,
    census: str,
    task: Mapping[str, Any],
) -> str:
    """Key of a match: model, numerics, what is matched to what, and on which text.

    Args:
        checkpoint: the model at a revision.
        neurons: how the set is matched; the names in it are not part.
        target: the condition that it is matched to; the operation is this one's.
        census: key of the census that orders the neurons.
        task: identity of the perplexity task on whose text the match is made.
    """
    return content_hash(
        {
            "schema": SCHEMA_VERSION,
            "kind": "match",
            "rules": MATCH_RULES,
            "checkpoint": checkpoint.identity(),
            "target": target.key,
            "census": census,
            # What is kept of a pass has no influence on where the search ends.
            "task": {name: value for name, value in task.items() if name != "keep_tokens"},
            "statistic": neurons.statistic,
            "tolerance": neurons.tolerance,
        }
    )


def profile_key(
    checkpoint: Checkpoint,
    census: CensusSpec,
    profiles: ProfileSpec,
    corpus_fingerprint: str,
    neurons: NeuronSet,
) -> str:
    """Key of a profile: model, numerics, text, and which neurons.

    How the neurons were found is no part of it, and of the census only the length of windows.
    """
    return content_hash(
        {
            "schema": SCHEMA_VERSION,
            "kind": "profile",
            "rules": PROFILE_RULES,
            "checkpoint": checkpoint.identity(),
            "corpus": corpus_fingerprint,
            "length": min(census.length, checkpoint.context),
            "windows": profiles.windows,
            "pairs": profiles.pairs,
            "neurons": {str(layer): list(chosen) for layer, chosen in sorted(neurons.items())},
        }
    )


def drift_key(checkpoint: Checkpoint, previous: Checkpoint) -> str:
    """Key of a drift: the two sets of weights, which are compared as the files hold them.

    Neither number format nor attention is part of it.
    """
    return content_hash(
        {
            "schema": SCHEMA_VERSION,
            "kind": "drift",
            "rules": DRIFT_RULES,
            "weights": checkpoint.fingerprint,
            "previous": previous.fingerprint,
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
