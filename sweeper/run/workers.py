"""How many workers an embedded run starts: as many as cores and memory allow."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from sweeper.models.shape import MOST_PACKED
from sweeper.plan.analysis import firing_bytes
from sweeper.plan.census import census_bytes
from sweeper.records import Checkpoint
from sweeper.score.memory import BYTES
from sweeper.spec.job import JobSpec

PROCESS_BYTES = 0.8e9
"""A worker without model and batches: Python with its packages, and pieces of the output head."""

CGROUP = Path("/sys/fs/cgroup")


def num_workers(
    job: JobSpec,
    checkpoints: Sequence[Checkpoint],
    say: Callable[[str], Any] = lambda _: None,
    available: float | None = None,
) -> int:
    """Workers that an embedded run starts on this machine.

    Args:
        job: the job.
        checkpoints: its models; each worker holds one at a time.
        say: told in one line when there is memory for fewer workers than cores.
        available: free memory in bytes; None to ask the machine.
    """
    cluster = job.cluster
    if cluster.executor == "in_process":
        return 1
    if cluster.workers != "auto":
        return cluster.workers
    cores = max((os.cpu_count() or 1) // cluster.cpus_per_worker, 1)
    if cluster.address != "local" or any(c.device != "cpu" for c in checkpoints):
        return cores
    return _within_memory(job, checkpoints, cores, say, available)


def _within_memory(
    job: JobSpec,
    checkpoints: Sequence[Checkpoint],
    cores: int,
    say: Callable[[str], Any],
    available: float | None,
) -> int:
    free = available_bytes() if available is None else available
    weights, largest = max(((_weight_bytes(c), c) for c in checkpoints), key=lambda pair: pair[0])
    batches = max(spec.batch_memory_gb for spec in job.model.values()) * 1e9
    census = max((census_bytes(c, job.census) for c in checkpoints if job.census), default=0.0)
    # An exact census is one unit, so one worker has its activations.
    once = census if job.census and job.census.method == "exact" else 0.0
    firing = max((firing_bytes(c, job.firing) for c in checkpoints if job.firing), default=0.0)
    counted = max(census - once, firing)  # one after the other
    each = weights + batches + PROCESS_BYTES + counted
    fitting = max(int((free - once) // each), 1)
    if fitting < cores:
        say(
            f"{fitting} worker(s) on {cores} cores: {free / 1e9:.1f} GB are free, and each worker "
            f"needs about {each / 1e9:.1f} ({largest.model} {weights / 1e9:.1f}, batches "
            f"{batches / 1e9:.1f}, Python {PROCESS_BYTES / 1e9:.1f}, census "
            f"{counted / 1e9:.1f}); change that with "
            "model.NAME.batch_memory_gb, or set cluster.workers"
        )
    return min(fitting, cores)


def _weight_bytes(checkpoint: Checkpoint) -> float:
    """Weights of a model on CPU, and their second layout."""
    size = checkpoint.num_parameters * BYTES[checkpoint.dtype]
    packed = checkpoint.dtype == "float32" and size <= MOST_PACKED
    return 2 * size if packed else size


def available_bytes() -> float:
    """Memory that processes started here can still take: the machine's, or the container's."""
    free = float(psutil.virtual_memory().available)
    try:
        limit, used = ((CGROUP / name).read_text() for name in ("memory.max", "memory.current"))
        return min(free, float(limit) - float(used) + _droppable_bytes())
    except (OSError, ValueError):  # no such limits here, or "max" for none
        return free


def _droppable_bytes() -> float:
    """Contents of files that count as used in a container until somebody needs the memory."""
    try:
        facts = (CGROUP / "memory.stat").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(float(line.split()[1]) for line in facts if line.startswith("inactive_file "))
