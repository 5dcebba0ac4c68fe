"""A job made ready to run: checkpoints resolved, data fingerprinted, everything checked.

Nothing here loads a model or needs torch.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sweeper.errors import UserError
from sweeper.models.revisions import resolve_all
from sweeper.plan import analysis
from sweeper.plan.analysis import Part
from sweeper.plan.cells import census_cell, drift_cell, profile_cell
from sweeper.plan.census import census_parts, num_parts, part_windows
from sweeper.plan.layers import concrete_conditions
from sweeper.plan.revisions import check_revisions, predecessor
from sweeper.records import Cell, Checkpoint, NeuronSet, TaskFacts
from sweeper.run.workers import num_workers
from sweeper.score import corpus as corpora
from sweeper.score import pairs
from sweeper.score.pos import taggers
from sweeper.score.tasks import FACTS
from sweeper.spec.cluster import ClusterSpec
from sweeper.spec.condition import ByStatistic, ExplicitSet, LabelledSet, RandomSet, WholeLayers
from sweeper.spec.corpus import CorpusSpec
from sweeper.spec.job import JobSpec
from sweeper.spec.task import LmEvalSpec, MinimalPairsSpec, SurprisalSpec, WindowsSpec

WITH_LAYERS = (ByStatistic, RandomSet, WholeLayers, LabelledSet)
"""Sets that a job restricts to layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A checked job with the facts that its cell keys are made of."""

    job: JobSpec
    checkpoints: tuple[Checkpoint, ...]
    tasks: Mapping[str, TaskFacts]
    fingerprints: Mapping[str, str]
    """Of the texts that the census, firing and routing read, by name of the corpus."""
    num_workers: int
    """Workers that an embedded run starts on this machine."""
    gpus: float | None = 0.0
    """GPUs of one worker; None for as many as each model's memory asks for."""

    @property
    def census_fingerprint(self) -> str | None:
        """Fingerprint of the census' corpus; None where the job takes no census."""
        return None if self.job.census is None else self.fingerprints[self.job.census.corpus]

    def census_cell(self, checkpoint: Checkpoint) -> Cell | None:
        """The checkpoint's census; None where the job takes none."""
        if self.job.census is None or self.census_fingerprint is None:
            return None
        return census_cell(checkpoint, self.job.census, self.census_fingerprint)

    def census_parts(self, checkpoint: Checkpoint) -> list[tuple[Cell, tuple[int, int]]]:
        """The parts of the checkpoint's census with their windows; none where it is not cut."""
        census = self.job.census
        if census is None or self.census_fingerprint is None:
            return []
        count = num_parts(census, self.num_workers, len(self.checkpoints))
        if count == 1:
            return []
        cells = census_parts(checkpoint, census, self.census_fingerprint, count)
        return list(zip(cells, part_windows(census, count), strict=True))

    def profile_cell(self, checkpoint: Checkpoint, neurons: NeuronSet) -> Cell | None:
        """What some neurons of a checkpoint do; None where the job wants no profiles."""
        census, profiles = self.job.census, self.job.profiles
        if census is None or profiles is None or self.census_fingerprint is None:
            return None
        return profile_cell(checkpoint, census, profiles, self.census_fingerprint, neurons)

    def previous(self, checkpoint: Checkpoint) -> Checkpoint | None:
        """The revision that the checkpoint's weights are compared with; None without one."""
        return predecessor(self.job, self.checkpoints, checkpoint)

    def drift_cell(self, checkpoint: Checkpoint) -> Cell | None:
        """How far the checkpoint's neurons have turned; None where it is compared with nothing."""
        previous = self.previous(checkpoint)
        return None if previous is None else drift_cell(checkpoint, previous)

    def firing_cell(self, checkpoint: Checkpoint) -> Cell | None:
        """The checkpoint's firing census; None where the job takes none."""
        if self.job.firing is None:
            return None
        return analysis.firing_cell(checkpoint, self.job.firing, self.fingerprints)

    def firing_parts(self, checkpoint: Checkpoint) -> list[Part]:
        """What the firing census is put together from; each corpus is one part at least."""
        firing = self.job.firing
        if firing is None:
            return []
        count = analysis.num_parts(firing, self.num_workers, len(self.checkpoints))
        return analysis.firing_parts(checkpoint, firing, self.fingerprints, count)

    def ngrams_cell(self, checkpoint: Checkpoint) -> Cell | None:
        """The n-grams of the checkpoint's neurons; None where the job counts none."""
        firing = self.job.firing
        if firing is None or not firing.counts_ngrams:
            return None
        return analysis.ngrams_cell(checkpoint, firing, self.fingerprints)

    def ngrams_parts(self, checkpoint: Checkpoint) -> list[Part]:
        """What the n-grams are put together from: the windows of the firing's parts."""
        firing = self.job.firing
        if firing is None or not firing.counts_ngrams:
            return []
        count = analysis.num_parts(firing, self.num_workers, len(self.checkpoints))
        return analysis.ngrams_parts(checkpoint, firing, self.fingerprints, count)

    def routing_cell(self, checkpoint: Checkpoint) -> Cell | None:
        """The checkpoint's routing analysis; None where the job wants none."""
        routing = self.job.routing
        if routing is None:
            return None
        return analysis.routing_cell(checkpoint, routing, self.fingerprints[routing.corpus])

    def removal_cell(self, checkpoint: Checkpoint) -> Cell | None:
        """The removal of MLPs with a quorum; None where the job wants none."""
        routing = self.job.routing
        if routing is None or routing.removal_windows == 0:
            return None
        return analysis.removal_cell(checkpoint, routing, self.fingerprints[routing.corpus])

    def corpus_of(self, name: str) -> CorpusSpec | None:
        """The corpus that a task reads; None for tasks that carry their own text."""
        task = self.job.suite[name]
        return self.job.corpus[task.corpus] if isinstance(task, WindowsSpec) else None


def gpus_per_worker(cluster: ClusterSpec) -> float | None:
    """GPUs of one worker, as the job says; None for as many as each model's memory asks for.

    Raises:
        UserError: the cluster that would have the GPUs cannot be reached.
    """
    asked = cluster.gpus_per_worker
    if asked != "auto":
        return float(asked)
    if cluster.executor == "in_process" or cluster.address == "local":
        return None if _gpus_here() else 0.0
    # Here: Ray takes a second to import.
    from sweeper.run.ray_executor import has_gpus

    try:
        return None if has_gpus(cluster.address, cluster.labels) else 0.0
    except UserError as error:
        hint = "cluster.gpus_per_worker can tell without it whether to use GPUs"
        raise UserError(f"{error}; {hint}") from error


def _gpus_here() -> bool:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all") not in ("", "-1")
    return visible and Path("/proc/driver/nvidia/gpus").is_dir()


def prepare(job: JobSpec, say: Callable[[str], Any] = lambda _: None) -> Sweep:
    """Resolve and check all that a job names before any model is loaded.

    Args:
        job: the validated job.
        say: told in one line what goes on, since downloads can take long.

    Raises:
        UserError: a model, file, column, layer or neuron that does not exist.
    """
    _check_data(job)
    gpus = gpus_per_worker(job.cluster)
    device: Literal["cpu", "cuda"] = "cpu" if gpus == 0 else "cuda"
    checkpoints: list[Checkpoint] = []
    for name, spec in job.model.items():
        say(f"model {name}: {spec.path}")
        found = resolve_all(name, spec, device)
        if len(found) > 1:
            first, last = found[0].revision, found[-1].revision
            say(f"model {name}: {len(found)} revisions, {first} to {last}")
        # What is checked depends on these alone, which revisions share as a rule.
        sizes = {(c.num_layers, c.num_neurons, c.context, c.activation): c for c in found}
        for checkpoint in sizes.values():
            _check_sets(job, checkpoint)
            _check_census_memory(job, checkpoint)
            if job.firing is not None and checkpoint.activation:
                job.firing.needed_threshold(name, checkpoint.activation)
        checkpoints += found
    check_revisions(job, checkpoints)
    say("reading the tasks' data")
    return Sweep(
        job=job,
        checkpoints=tuple(checkpoints),
        tasks=task_facts(job),
        fingerprints={
            name: corpora.fingerprint(job.corpus[name], f"corpus.{name}")
            for name in sorted(_read_corpora(job))
        },
        num_workers=num_workers(job, checkpoints, say),
        gpus=gpus,
    )


def task_facts(job: JobSpec) -> dict[str, TaskFacts]:
    """Fingerprint and size of every task of the job.

    Raises:
        UserError: a task without items.
    """
    facts = {}
    for name, task in job.suite.items():
        corpus = job.corpus[task.corpus] if isinstance(task, WindowsSpec) else None
        facts[name] = FACTS[task.kind](task, corpus)
        if facts[name].num_items == 0:
            raise UserError(f"suite.{name}: the data hold no item to score")
    return facts


def _check_data(job: JobSpec) -> None:
    used = {task.corpus for task in job.suite.values() if isinstance(task, WindowsSpec)}
    for name in sorted(used | _read_corpora(job)):
        corpora.check(job.corpus[name], f"corpus.{name}")
    for name, task in job.suite.items():
        if isinstance(task, MinimalPairsSpec):
            pairs.check(task, f"suite.{name}")
        elif isinstance(task, SurprisalSpec):
            taggers.check(task.tagger, f"suite.{name}")
        elif isinstance(task, LmEvalSpec):
            # Here: only jobs that name such a task wait for the harness.
            from sweeper.score.harness.loading import check as check_harness

            check_harness(task, f"suite.{name}")


def _read_corpora(job: JobSpec) -> set[str]:
    """Names of the corpora that are read beside the tasks."""
    names = set() if job.census is None else {job.census.corpus}
    if job.firing is not None:
        names |= set(job.firing.corpora)
    return names if job.routing is None else names | {job.routing.corpus}


def _check_sets(job: JobSpec, checkpoint: Checkpoint) -> None:
    """Layers and neurons named in the job must exist in the model."""
    concrete_conditions(job, checkpoint)  # its groups of layers fit
    for name, condition in job.condition.items():
        neurons = condition.neurons
        key = f"condition.{name}.neurons"
        if isinstance(neurons, ExplicitSet):
            _check_layers(f"{key}.neurons", neurons.neurons, checkpoint)
            for layer, chosen in neurons.neurons.items():
                _check_range(
                    f"{key}.neurons.{layer}", chosen, checkpoint.num_neurons, "neuron", checkpoint
                )
        elif isinstance(neurons, WITH_LAYERS) and isinstance(neurons.layers, list):
            _check_layers(f"{key}.layers", neurons.layers, checkpoint)


def _check_census_memory(job: JobSpec, checkpoint: Checkpoint) -> None:
    """One layer's kept activations must fit; the text may turn out shorter than the windows."""
    census = job.census
    if census is None or census.method != "exact":
        return
    length = min(census.length, checkpoint.context)
    characters = len(corpora.text(job.corpus[census.corpus]))
    num_tokens = min(census.windows * length, characters / 2 / (1 - census.overlap))
    needed = num_tokens * checkpoint.num_neurons * 4 / 1e9
    if needed > census.memory_gb:
        raise UserError(
            f"census.memory_gb = {census.memory_gb:g}: {census.windows} windows of {length} tokens "
            f"take up to {needed:.1f} for one layer of model {checkpoint.model!r}; allow more, or "
            "read fewer windows"
        )


def _check_layers(key: str, layers: Any, checkpoint: Checkpoint) -> None:
    _check_range(key, layers, checkpoint.num_layers, "layer", checkpoint)


def _check_range(key: str, indices: Any, size: int, what: str, checkpoint: Checkpoint) -> None:
    beyond = [index for index in indices if index >= size]
    if beyond:
        raise UserError(
            f"{key} = {beyond[0]}: model {checkpoint.model!r} has {what}s 0 to {size - 1}"
        )
