"""A model's revisions in a job: at which one a set is chosen, which one comes before another."""

from collections.abc import Mapping, Sequence

from sweeper.errors import UserError
from sweeper.plan.layers import Concrete
from sweeper.records import Checkpoint
from sweeper.spec.condition import ByStatistic, MatchedSet, RandomSet, SetSpec
from sweeper.spec.job import JobSpec
from sweeper.spec.wording import hint

Conditions = Mapping[str, Concrete]

ENDS = {"first": 0, "last": -1}
"""Words for a revision by its place among those of its model."""


def followed_from(conditions: Conditions, name: str) -> str | None:
    """The revision, in the job's words, at which the set of a condition is chosen for all.

    None where it is chosen anew at each revision. A control follows what it controls.
    """
    neurons = conditions[name].spec.neurons
    if isinstance(neurons, RandomSet | MatchedSet) and neurons.match is not None:
        return followed_from(conditions, neurons.match)
    return _revision(neurons)


def reference(checkpoints: Sequence[Checkpoint], checkpoint: Checkpoint, word: str) -> Checkpoint:
    """The revision of the same model that the job calls so.

    Args:
        checkpoints: all of the sweep; those of a model in the job's order.
        checkpoint: one of them.
        word: ``first``, ``last`` or the revision's name.

    Raises:
        UserError: the model has no such revision in this job.
    """
    mine = _of_model(checkpoints, checkpoint)
    if word in ENDS:
        return mine[ENDS[word]]
    by_name = {other.revision: other for other in mine}
    if word not in by_name:
        first, last = mine[0].revision, mine[-1].revision
        own = first if len(mine) == 1 else f"the {len(mine)} revisions {first} to {last}"
        raise UserError(
            f"{word!r} is no revision of model {checkpoint.model!r} in this job; allowed: first, "
            f"last and {own}{hint(word, by_name)}"
        )
    return by_name[word]


def chosen_here(
    conditions: Conditions, checkpoints: Sequence[Checkpoint], checkpoint: Checkpoint, name: str
) -> bool:
    """Whether a condition's set is chosen at this very revision, and not taken from another."""
    word = followed_from(conditions, name)
    return word is None or reference(checkpoints, checkpoint, word) == checkpoint


def predecessor(
    job: JobSpec, checkpoints: Sequence[Checkpoint], checkpoint: Checkpoint
) -> Checkpoint | None:
    """The revision that a checkpoint's weights are compared with; None where there is none."""
    if job.drift is None:
        return None
    mine = _of_model(checkpoints, checkpoint)
    place, every = mine.index(checkpoint), job.drift.every
    return mine[place - every] if place and place % every == 0 else None


def check_revisions(job: JobSpec, checkpoints: Sequence[Checkpoint]) -> None:
    """The revisions that sets are chosen at must exist, and drift needs two to compare.

    Raises:
        UserError: one is missing, or there is nothing to compare.
    """
    for checkpoint in {other.model: other for other in checkpoints}.values():
        for name, condition in job.condition.items():
            word = _revision(condition.neurons)
            if word is not None:
                try:
                    reference(checkpoints, checkpoint, word)
                except UserError as error:
                    raise UserError(f"condition.{name}.neurons.revision: {error}") from None
    compared = (predecessor(job, checkpoints, checkpoint) for checkpoint in checkpoints)
    if job.drift is not None and not any(compared):
        most = max(len(_of_model(checkpoints, checkpoint)) for checkpoint in checkpoints)
        raise UserError(
            f"drift.every = {job.drift.every}: no model has more than {most} revisions, so there "
            "are no two to compare; model.NAME.revisions lists them"
        )


def _revision(neurons: SetSpec | None) -> str | None:
    return neurons.revision if isinstance(neurons, ByStatistic | RandomSet) else None


def _of_model(checkpoints: Sequence[Checkpoint], checkpoint: Checkpoint) -> list[Checkpoint]:
    return [other for other in checkpoints if other.model == checkpoint.model]
