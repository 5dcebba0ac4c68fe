"""Which cells a job asks for."""

from collections.abc import Iterable, Mapping, Sequence

from sweeper.plan.keys import census_key, drift_key, match_key, profile_key, score_key
from sweeper.plan.layers import Concrete
from sweeper.records import Cell, Checkpoint, Condition, NeuronSet, TaskFacts
from sweeper.spec.condition import (
    ByStatistic,
    ConditionSpec,
    LabelledSet,
    MatchedSet,
    RandomSet,
)
from sweeper.spec.corpus import CensusSpec
from sweeper.spec.job import JobSpec
from sweeper.spec.profile import ProfileSpec

EXPECTED_TRIALS = 14
"""Conditions that a match usually tries, the model as it is and the matched one among them."""

DRIFT_POSITIONS = 200.0
"""Reading the weights of two checkpoints takes a CPU about as long as so many token positions."""

Conditions = Mapping[str, Concrete]


def seeds_of(spec: ConditionSpec, num_seeds: int) -> Sequence[int | None]:
    """The seeds of a condition: one number per draw, or a single None where nothing is drawn."""
    return range(num_seeds) if isinstance(spec.neurons, RandomSet) else [None]


def needs_census(conditions: Conditions, name: str) -> bool:
    """Whether the condition's neurons, or what is put into them, are known only by the census."""
    spec = conditions[name].spec
    if isinstance(spec.neurons, RandomSet) and spec.neurons.match is not None:
        return needs_census(conditions, spec.neurons.match)
    return spec.operation == "mean" or isinstance(spec.neurons, ByStatistic | MatchedSet)


def needs_match(conditions: Conditions, name: str) -> str | None:
    """The condition whose match must be found before this one's neurons are known, if any."""
    neurons = conditions[name].spec.neurons
    if isinstance(neurons, RandomSet) and neurons.match is not None:
        return needs_match(conditions, neurons.match)
    return name if isinstance(neurons, MatchedSet) and neurons.by == "perplexity" else None


def labelled(conditions: Conditions, name: str) -> str | None:
    """The condition whose labelled neurons decide which ones this condition has, if any.

    That is itself, or what it controls.
    """
    neurons = conditions[name].spec.neurons
    if isinstance(neurons, RandomSet | MatchedSet) and neurons.match is not None:
        return labelled(conditions, neurons.match)
    return name if isinstance(neurons, LabelledSet) else None


def needs_label(conditions: Conditions, name: str) -> str | None:
    """The label that must be known before this condition's neurons are, if any."""
    source = labelled(conditions, name)
    neurons = conditions[source].spec.neurons if source is not None else None
    return neurons.label if isinstance(neurons, LabelledSet) else None


def matched_by_perplexity(conditions: Conditions) -> dict[str, MatchedSet]:
    """The conditions that have a match of their own, by name."""
    return {
        name: concrete.spec.neurons
        for name, concrete in conditions.items()
        if isinstance(concrete.spec.neurons, MatchedSet)
        and concrete.spec.neurons.by == "perplexity"
    }


def num_draws(job: JobSpec, conditions: Conditions) -> int:
    """Number of conditions, each random one as often as it is drawn."""
    return sum(len(seeds_of(concrete.spec, job.seeds)) for concrete in conditions.values())


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


def match_cell(
    checkpoint: Checkpoint,
    name: str,
    neurons: MatchedSet,
    target: Condition,
    census: str,
    facts: TaskFacts,
) -> Cell:
    """The search for a set that raises perplexity as much as another one does, as a cell.

    Args:
        checkpoint: the checkpoint.
        name: the matched condition's name.
        neurons: how it is matched.
        target: the condition that it is matched to.
        census: key of the census.
        facts: of the task on whose text the match is made.
    """
    return Cell(
        key=match_key(checkpoint, neurons, target, census, facts.identity),
        kind="match",
        model=checkpoint.model,
        revision=checkpoint.revision,
        condition=name,
        seed=None,
        condition_key=target.key,
        task=str(neurons.task),
        cost=facts.positions * EXPECTED_TRIALS,
    )


def profile_cell(
    checkpoint: Checkpoint,
    census: CensusSpec,
    profiles: ProfileSpec,
    corpus_fingerprint: str,
    neurons: NeuronSet,
) -> Cell:
    """What single neurons of a checkpoint do, as a cell.

    Args:
        checkpoint: the checkpoint.
        census: the job's census, whose text is read.
        profiles: how much is recorded.
        corpus_fingerprint: of that text.
        neurons: which neurons; the cell's key and nothing else depends on them.
    """
    return Cell(
        key=profile_key(checkpoint, census, profiles, corpus_fingerprint, neurons),
        kind="profile",
        model=checkpoint.model,
        revision=checkpoint.revision,
        condition="profile",
        seed=None,
        condition_key=None,
        task=census.corpus,
        cost=float(profiles.windows * min(census.length, checkpoint.context)),
    )


def drift_cell(checkpoint: Checkpoint, previous: Checkpoint) -> Cell:
    """How far a checkpoint's neurons have turned since an earlier one, as a cell."""
    return Cell(
        key=drift_key(checkpoint, previous),
        kind="drift",
        model=checkpoint.model,
        revision=checkpoint.revision,
        condition="drift",
        seed=None,
        condition_key=None,
        task=previous.revision,
        cost=DRIFT_POSITIONS,
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
