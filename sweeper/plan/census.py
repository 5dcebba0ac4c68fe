"""Cutting a census into parts that workers compute side by side."""

import math
from itertools import pairwise

from sweeper.plan.keys import census_key
from sweeper.records import Cell, Checkpoint, content_hash
from sweeper.spec.corpus import CensusSpec
from sweeper.spec.firing import FiringSpec

MIN_WINDOWS = 16
"""Fewest windows of a part: each part reads one window more, to lay out its histograms, and
tokenises the whole text."""

BYTES_PER_BIN = 5
"""Memory of a neuron for each bin: a count of its values, and a quarter of one of its pairs."""


def num_parts(census: CensusSpec, num_workers: int, num_checkpoints: int = 1) -> int:
    """Into how many parts a checkpoint's census is cut.

    As the job says; else so many that every worker has one, of at least ``MIN_WINDOWS`` windows,
    where there are fewer checkpoints than workers.

    Args:
        census: the census of the job.
        num_workers: workers of the run.
        num_checkpoints: checkpoints whose census is to be taken.
    """
    if census.method == "exact":
        return 1
    if census.parts != "auto":
        return min(census.parts, census.windows)
    idle = math.ceil(num_workers / max(num_checkpoints, 1))
    return max(min(idle, census.windows // MIN_WINDOWS), 1)


def part_windows(census: CensusSpec | FiringSpec, num_parts: int) -> list[tuple[int, int]]:
    """First window of each part, and the one after its last; sizes differ by one at most.

    How many windows the text has is not known before it is tokenised: parts beyond its end are
    empty.
    """
    edges = [census.windows * part // num_parts for part in range(num_parts + 1)]
    return list(pairwise(edges))


def census_parts(
    checkpoint: Checkpoint, census: CensusSpec, corpus_fingerprint: str, num_parts: int
) -> list[Cell]:
    """The parts of a checkpoint's census as cells, in the order of ``part_windows``.

    A part's key depends on its windows and not on how many parts there are.
    """
    whole = census_key(checkpoint, census, corpus_fingerprint)
    length = min(census.length, checkpoint.context)
    return [
        Cell(
            key=content_hash({"kind": "census_part", "census": whole, "windows": [first, end]}),
            kind="census_part",
            model=checkpoint.model,
            revision=checkpoint.revision,
            condition="census",
            seed=None,
            condition_key=None,
            task=census.corpus,
            cost=float((end - first) * length),
        )
        for first, end in part_windows(census, num_parts)
    ]


def census_bytes(checkpoint: Checkpoint, census: CensusSpec) -> float:
    """Most memory that a unit of the census takes beside the model and its batches.

    Streaming: its histograms, once more while they are packed for the store or merged. Exact: the
    limit of the job.
    """
    if census.method == "exact":
        return census.memory_gb * 1e9
    return 2.0 * checkpoint.num_layers * checkpoint.num_neurons * census.bins * BYTES_PER_BIN
