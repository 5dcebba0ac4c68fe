"""How much memory of a GPU a worker needs for a model: weights, a batch's activations, the rest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.errors import UserError
from sweeper.plan.analysis import firing_bytes
from sweeper.plan.census import census_bytes
from sweeper.records import Checkpoint
from sweeper.score.memory import BYTES, LONGEST_ROW, MOST_POSITIONS
from sweeper.spec.job import JobSpec

PROCESS_BYTES = 1.5e9
"""What a process takes of a GPU without a model: the context of CUDA, workspaces of its libraries,
pieces of the output head, and blocks that the allocator keeps."""

LEAST_POSITIONS = 2048
"""Token positions of a batch that must fit beside the weights: one row of the longest windows."""

SPLIT = 1.1
"""What the fullest of several GPUs holds against an even split: no layer is divided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Memory (bytes) for one model at a time, and how much of the job's work it is."""

    model: str
    layers: float
    """Weights, histograms of a census and counts of a firing census: divided where several GPUs
    hold the model."""
    beside: float
    """With the smallest batches, on each GPU that holds a part of the model."""
    wanted: float
    """With full batches, on one GPU."""
    work: float
    """In parameters times revisions: every revision is scored on the same items."""

    def whole_gpus(self, memory: float) -> int | None:
        """Fewest GPUs of so much memory that hold the model; None where no number does."""
        room = memory - self.beside
        if self.layers <= room:
            return 1
        return math.ceil(self.layers * SPLIT / room) if room > 0 else None


def needs_of(job: JobSpec, checkpoints: Sequence[Checkpoint]) -> list[Need]:
    """What each model of a job needs on GPUs; its revisions have one shape.

    Raises:
        UserError: a model's size is not known.
    """
    models: dict[str, list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        models.setdefault(checkpoint.model, []).append(checkpoint)
    return [_need(job, revisions) for revisions in models.values()]


def _need(job: JobSpec, revisions: Sequence[Checkpoint]) -> Need:
    one = revisions[0]
    if not one.num_parameters:
        raise UserError(f"model.{one.model}: its size is not known; set cluster.gpus_per_worker")
    layers = float(one.num_parameters * BYTES[one.dtype])
    streaming = job.census is not None and job.census.method == "streaming"
    census = census_bytes(one, job.census) if job.census and streaming else 0.0
    # One after the other.
    layers += max(census, firing_bytes(one, job.firing) if job.firing else 0.0)
    asked = job.model[one.model].max_batch_tokens
    most = MOST_POSITIONS if asked == "auto" else asked
    return Need(
        model=one.model,
        layers=layers,
        beside=PROCESS_BYTES + min(most, LEAST_POSITIONS) * position_bytes(one),
        wanted=layers + PROCESS_BYTES + most * position_bytes(one),
        work=float(one.num_parameters * len(revisions)),
    )


def position_bytes(checkpoint: Checkpoint) -> float:
    """Memory for the activations of one token position, at most; see ``score.memory``.

    There it is 13 D + 5 F numbers, and with eager attention the scores of H heads. Of the widths
    only F is known here: D is at most F / 2.5 in all families, and H at most D / 64.
    """
    number, neurons = BYTES[checkpoint.dtype], checkpoint.num_neurons
    hidden = neurons / 2.5
    scores = 0.0
    if checkpoint.attention == "eager":
        scores = hidden / 64 * min(checkpoint.context, LONGEST_ROW) * (8 + number)
    return (13 * hidden + 5 * neurons) * number + scores
