"""Which cells a job asks for."""

from collections.abc import Iterable, Mapping, Sequence

from sweeper.plan.keys import census_key, score_key
from sweeper.records import Cell, Checkpoint, Condition, TaskFacts
from sweeper.spec.condition import ByStatistic, ConditionSpec, RandomSet
from sweeper.spec.corpus import CensusSpec
from sweeper.spec.job import JobSpec


def seeds_of(spec: ConditionSpec, num_seeds: int) -> Sequence[int | None]:
    """The seeds of a condition: one number per draw, or a single None where nothing is drawn."""
    return range(num_seeds) if isinstance(spec.neurons, RandomSet) else [None]


def needs_census(job: JobSpec, name: str) -> bool:
    """Whether the condition's neurons are known only after the census."""
    neurons = job.condition[name].neurons
    if isinstance(neurons, RandomSet) and neurons.match is not None:
        return needs_census(job, neurons.match)
    return isinstance(neurons, ByStatistic)


def num_score_cells(job: JobSpec) -> int:
    """Number of scored cells per checkpoint."""
    drawn = sum(len(seeds_of(spec, job.seeds)) for spec in job.condition.values())
    return drawn * len(job.suite)


def census_cell(checkpoint: Checkpoint, census: CensusSpec, corpus_fingerprint: str) -> Cell:
    """The census of a checkpoint as a cell."""
    length = min(census.length, checkpoint.context)
    return Cell(
        key=census_key(checkpoint, census, corpus_fingerprint),
        kind="census",
        model=checkpoint.model,
        revision=checkpoint.revision,
        condition="census",
        seed=None,
        condition_key=None,
        task=census.corpus,
        cost=float(census.windows * length),
    )


def score_cells(
    checkpoint: Checkpoint, conditions: Iterable[Condition], tasks: Mapping[str, TaskFacts]
) -> list[Cell]:
    """One cell for each task and condition, tasks in the outer order."""
    known = list(conditions)
    return [
        Cell(
            key=score_key(checkpoint, condition, facts.identity),
            kind="score",
            model=checkpoint.model,
            revision=checkpoint.revision,
            condition=condition.name,
            seed=condition.seed,
            condition_key=condition.key,
            task=task,
            cost=facts.positions,
        )
        for task, facts in tasks.items()
        for condition in known
    ]
