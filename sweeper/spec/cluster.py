"""Where the sweep runs."""

import os
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sweeper.spec.base import Allowed, Count, PathText, Strict, Text


def _whole_above_one(gpus: float) -> float:
    if gpus > 1 and not gpus.is_integer():
        raise ValueError(f"{gpus} GPUs cannot be given; above 1 only whole numbers are allowed")
    return gpus


Gpus = Annotated[
    float,
    Field(ge=0),
    AfterValidator(_whole_above_one),
    Allowed("a number of at least 0, whole above 1"),
]


def _is_absolute(folder: str) -> str:
    if not os.path.isabs(folder):
        raise ValueError(f"{folder!r} means another folder on every machine")
    return os.path.normpath(folder)


SharedFolder = Annotated[PathText, AfterValidator(_is_absolute), Allowed("an absolute path")]


class ClusterSpec(Strict):
    """Executor, number of workers and what each of them gets."""

    executor: Literal["ray", "in_process"] = "ray"
    """``in_process`` needs no Ray: one worker, in the driver itself."""
    address: Text = "local"
    """``local`` starts an embedded Ray; ``auto`` or ``host:port`` joins a running cluster."""
    workers: Literal["auto"] | Count = "auto"
    """``auto``: as many as the cluster's CPUs and GPUs allow."""
    cpus_per_worker: Count = 1
    """CPU cores, and compute threads, of one worker."""
    gpus_per_worker: Literal["auto"] | Gpus = "auto"
    """GPUs of one worker; above 1 whole ones, and the model is spread over them. ``auto``: 0 where
    there are none on this machine or on the running cluster; else by memory. A model that one GPU
    cannot hold gets as few as can, on the nodes where that takes the fewest; where all that fit on
    one GPU leave room, workers share it."""
    labels: Annotated[dict[str, str], Allowed("a mapping of labels to their values")] = Field(
        default_factory=dict
    )
    """Only nodes of a running cluster with all these labels of Ray are used."""
    shared_folders: list[SharedFolder] = Field(default_factory=list)
    """Folders that all nodes of a cluster have at the same place. Local files of a job that is
    submitted from afar must lie below one of them, or below a store that is a folder."""
    wait_seconds: Annotated[float, Field(ge=0)] = 0.0
    """How long a running cluster may take to bring up nodes where it has too few for ``workers``:
    its autoscaler is asked for them. 0: the nodes that are there must do."""
    max_attempts: Count = 3
    """How often a cell is tried before it is recorded as failed."""
    hang_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Time without a sign of progress after which a worker is killed, and its unit tried again; ten
    times longer while it loads a model, or computes but no layer. In process nobody watches."""
    unit_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Aim for the length of one unit of work; a kill loses at most the units in flight."""
    cache_gb: Annotated[float, Field(gt=0)] | None = None
    """Most disk space, in GB (10^9 bytes) of each hub cache, of the checkpoints that sweeper itself
    has fetched there: above it, those that were not used for longest are deleted, but none that a
    worker uses or that the run still needs. None: nothing is deleted."""

    @model_validator(mode="after")
    def _one_worker_in_process(self) -> Self:
        if self.executor == "in_process" and self.workers not in ("auto", 1):
            raise ValueError(f"workers is {self.workers}; executor in_process allows only 1")
        return self

    @model_validator(mode="after")
    def _asks_for_numbers(self) -> Self:
        if not self.wait_seconds:
            return self
        # An autoscaler brings up what is asked for; what "auto" is depends on the nodes there are.
        for key in ("workers", "gpus_per_worker"):
            if getattr(self, key) == "auto":
                raise ValueError(
                    f"wait_seconds is {self.wait_seconds:g}; allowed where {key} is a number"
                )
        if self.executor != "ray" or self.address == "local":
            raise ValueError(
                f"wait_seconds is {self.wait_seconds:g}; allowed on a running cluster of Ray"
            )
        return self
