"""Cells of the firing census, of n-grams, of routing and of removal, and their parts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sweeper.plan.analysis_keys import (
    firing_key,
    firing_part_key,
    ngrams_key,
    ngrams_part_key,
    removal_key,
    routing_key,
)
from sweeper.plan.census import MIN_WINDOWS, part_windows
from sweeper.records import Cell, CellKind, Checkpoint
from sweeper.spec.firing import FiringSpec
from sweeper.spec.routing import RoutingSpec

ROUTING_PASSES = 2
"""A routing analysis reads its text twice: maps are fitted first, then what they leave is used."""

INTERVENTIONS = 3
"""What is done to each layer with a quorum: its MLP taken out, its handler off, its handler on."""

ABOVE = 0.5
"""Part of a model that is above a layer, on average over its layers; what is below is computed
once for all. Every layer is expected to have a quorum, since none is known beforehand."""

TOKEN_CLASSES = 513
"""Classes of tokens that a firing census tells apart."""

Fingerprints = Mapping[str, str]
"""Name of a corpus -> fingerprint of its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some windows of one corpus as a cell."""

    cell: Cell
    corpus: str
    windows: tuple[int, int]
    """The first window, and the one after the last."""


def num_parts(firing: FiringSpec, num_workers: int, num_checkpoints: int = 1) -> int:
    """Into how many parts each corpus is cut.

    As the job says; else so many that every worker has one, of at least ``MIN_WINDOWS`` windows,
    where there are fewer corpora of all checkpoints than workers.

    Args:
        firing: the firing census of the job.
        num_workers: workers of the run.
        num_checkpoints: checkpoints whose firing is to be counted.
    """
    if firing.parts != "auto":
        return min(firing.parts, firing.windows)
    idle = math.ceil(num_workers / max(num_checkpoints * len(firing.corpora), 1))
    return max(min(idle, firing.windows // MIN_WINDOWS), 1)


def firing_cell(checkpoint: Checkpoint, firing: FiringSpec, fingerprints: Fingerprints) -> Cell:
    """The firing census of a checkpoint over all corpora; its cost is that of all its parts."""
    key = firing_key(checkpoint, firing, fingerprints)
    return _cell("firing", key, checkpoint, ",".join(firing.corpora), _cost(checkpoint, firing))


def firing_parts(
    checkpoint: Checkpoint, firing: FiringSpec, fingerprints: Fingerprints, count: int
) -> list[Part]:
    """Its parts: each corpus is cut into as many, in the order of the job."""
    return [
        _part(
            "firing_part",
            firing_part_key(checkpoint, firing, fingerprints[corpus], windows),
            checkpoint,
            firing,
            corpus,
            windows,
        )
        for corpus in firing.corpora
        for windows in part_windows(firing, count)
    ]


def ngrams_cell(checkpoint: Checkpoint, firing: FiringSpec, fingerprints: Fingerprints) -> Cell:
    """The n-grams after which a checkpoint's neurons are active; costs as much as the firing."""
    key = ngrams_key(firing_key(checkpoint, firing, fingerprints), firing)
    return _cell("ngrams", key, checkpoint, ",".join(firing.corpora), _cost(checkpoint, firing))


def ngrams_parts(
    checkpoint: Checkpoint, firing: FiringSpec, fingerprints: Fingerprints, count: int
) -> list[Part]:
    """Its parts: the same windows as those of the firing."""
    whole = firing_key(checkpoint, firing, fingerprints)
    return [
        _part(
            "ngrams_part",
            ngrams_part_key(whole, firing, fingerprints[corpus], windows),
            checkpoint,
            firing,
            corpus,
            windows,
        )
        for corpus in firing.corpora
        for windows in part_windows(firing, count)
    ]


def routing_cell(checkpoint: Checkpoint, routing: RoutingSpec, fingerprint: str) -> Cell:
    """The routing analysis of all layers of a checkpoint."""
    key = routing_key(checkpoint, routing, fingerprint)
    positions = routing.windows * min(routing.length, checkpoint.context)
    return _cell("routing", key, checkpoint, routing.corpus, float(ROUTING_PASSES * positions))


def removal_cell(checkpoint: Checkpoint, routing: RoutingSpec, fingerprint: str) -> Cell:
    """The removal of MLPs in layers with a quorum, and switching their handlers.

    Cost: one pass of the model as it is, and for each layer the interventions from there upwards.
    """
    key = removal_key(routing_key(checkpoint, routing, fingerprint), routing)
    positions = routing.removal_windows * min(routing.length, checkpoint.context)
    passes = 1 + INTERVENTIONS * checkpoint.num_layers * ABOVE
    return _cell("removal", key, checkpoint, routing.corpus, positions * passes)


def firing_bytes(checkpoint: Checkpoint, firing: FiringSpec) -> float:
    """Memory of the counts of a firing census beside the model.

    4 bytes by neuron for each position and each class of tokens, and 24 (``neurons.firing``).
    """
    positions = min(firing.length, checkpoint.context)
    each = 4.0 * (positions + TOKEN_CLASSES) + 24.0
    return checkpoint.num_layers * checkpoint.num_neurons * each


def _cost(checkpoint: Checkpoint, firing: FiringSpec) -> float:
    """Token positions of one pass over all corpora, if none ends before its last window."""
    length = min(firing.length, checkpoint.context)
    return float(len(firing.corpora) * firing.windows * length)


def _part(
    kind: CellKind,
    key: str,
    checkpoint: Checkpoint,
    firing: FiringSpec,
    corpus: str,
    windows: tuple[int, int],
) -> Part:
    first, end = windows
    cost = float((end - first) * min(firing.length, checkpoint.context))
    cell = _cell(kind, key, checkpoint, corpus, cost)
    return Part(cell=cell, corpus=corpus, windows=windows)


def _cell(kind: CellKind, key: str, checkpoint: Checkpoint, task: str, cost: float) -> Cell:
    return Cell(
        key=key,
        kind=kind,
        model=checkpoint.model,
        revision=checkpoint.revision,
        condition=kind.removesuffix("_part"),
        seed=None,
        condition_key=None,
        task=task,
        cost=cost,
    )
