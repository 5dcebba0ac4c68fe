"""Keys of firing, n-grams, routing and removal: everything that their numbers depend on.

Where a text is cut into parts, a part's key depends on its windows alone, not on how many parts
there are. The corpora's names are no ingredients of a firing census' parts, but of what builds upon
the whole: its rows tell them, and the n-grams in parts of the text are counted by what it says.
"""

from collections.abc import Mapping
from typing import Any

from sweeper.records import SCHEMA_VERSION, Checkpoint, content_hash
from sweeper.spec.firing import FiringSpec
from sweeper.spec.routing import RoutingSpec

FIRING_RULES = 2
"""A change of what counts as active, or of which windows are read, raises it, and one of what is
positional."""

NGRAM_RULES = 2
"""A change of which n-grams are counted, or of what makes or describes a detector, raises it."""

ROUTING_RULES = 2
"""A change of how roles are found, or of how the findings are tested, raises it."""

REMOVAL_RULES = 1
"""A change of what is taken out or switched, or of how its effect is measured, raises it."""

Windows = tuple[int, int]
"""First window of a part, and the one after its last."""


def firing_part_key(
    checkpoint: Checkpoint, firing: FiringSpec, fingerprint: str, windows: Windows
) -> str:
    """Key of the firing over some windows of one corpus.

    Args:
        checkpoint: the model at a revision.
        firing: how the text is cut, and what counts as active.
        fingerprint: of the corpus' text.
        windows: which of them.
    """
    return content_hash(
        {
            **_firing("firing_part", checkpoint, firing),
            "corpus": fingerprint,
            "windows": list(windows),
        }
    )


def firing_key(checkpoint: Checkpoint, firing: FiringSpec, fingerprints: Mapping[str, str]) -> str:
    """Key of the firing over all corpora; their names are part, since its rows tell them.

    Args:
        checkpoint: the model at a revision.
        firing: how the texts are cut, and what counts as active.
        fingerprints: of the corpora's texts by name; those that are not read are left out.
    """
    return content_hash(
        {
            **_firing("firing", checkpoint, firing),
            "corpora": [[name, fingerprints[name]] for name in firing.corpora],
            "windows": firing.windows,
        }
    )


def _firing(kind: str, checkpoint: Checkpoint, firing: FiringSpec) -> dict[str, Any]:
    return {
        "schema": SCHEMA_VERSION,
        "kind": kind,
        "rules": FIRING_RULES,
        "checkpoint": checkpoint.identity(),
        "length": min(firing.length, checkpoint.context),
        "threshold": _threshold(checkpoint, firing),
    }


def _threshold(checkpoint: Checkpoint, firing: FiringSpec) -> Any:
    """The number for the model; all that the job says where its activation is not known yet."""
    number = firing.threshold_of(checkpoint.activation)
    return firing.threshold if number is None else number


def ngrams_part_key(firing: str, spec: FiringSpec, fingerprint: str, windows: Windows) -> str:
    """Key of the n-grams in some windows of one corpus.

    Args:
        firing: key of the firing over all corpora, which tells what can be explained at all.
        spec: which n-grams are counted.
        fingerprint: of the corpus' text.
        windows: which of them.
    """
    return content_hash(
        {
            **_ngrams("ngrams_part", firing, spec),
            "corpus": fingerprint,
            "windows": list(windows),
        }
    )


def ngrams_key(firing: str, spec: FiringSpec) -> str:
    """Key of the n-grams over all corpora, with what detectors promote and suppress.

    Args:
        firing: key of the firing over all corpora.
        spec: which n-grams are counted, what a detector is, and how many tokens are listed.
    """
    further = {"tokens": spec.tokens, "least_activations": spec.least_activations}
    return content_hash({**_ngrams("ngrams", firing, spec), **further})


def _ngrams(kind: str, firing: str, spec: FiringSpec) -> dict[str, Any]:
    return {
        "schema": SCHEMA_VERSION,
        "kind": kind,
        "rules": NGRAM_RULES,
        "firing": firing,
        "ngrams": sorted(spec.ngrams),
        "most_ngrams": spec.most_ngrams,
    }


def routing_key(checkpoint: Checkpoint, routing: RoutingSpec, fingerprint: str) -> str:
    """Key of a routing analysis: model, numerics, text, and all that the job says of it.

    Neither the corpus' name nor what is read for the removal is part, nor the order of thresholds.
    """
    asked = routing.model_dump(exclude={"corpus", "removal_windows"})
    return content_hash(
        {
            "schema": SCHEMA_VERSION,
            "kind": "routing",
            "rules": ROUTING_RULES,
            "checkpoint": checkpoint.identity(),
            "corpus": fingerprint,
            **asked,
            "thresholds": sorted(routing.thresholds),
            "length": min(routing.length, checkpoint.context),
        }
    )


def removal_key(routing: str, spec: RoutingSpec) -> str:
    """Key of the removal of the MLPs in which a routing analysis finds a quorum.

    Args:
        routing: key of that analysis.
        spec: on how many windows MLPs are taken out.
    """
    return content_hash(
        {
            "schema": SCHEMA_VERSION,
            "kind": "removal",
            "rules": REMOVAL_RULES,
            "routing": routing,
            "windows": spec.removal_windows,
        }
    )
