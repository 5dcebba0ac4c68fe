"""Fetch a model ahead of a run, so that the run itself needs no network."""

from sweeper.models.revisions import resolve_all
from sweeper.models.source import weights_folder
from sweeper.records import Checkpoint
from sweeper.spec.model import ModelSpec


def pull(name: str, spec: ModelSpec) -> tuple[Checkpoint, ...]:
    """Resolve a model and bring all files of its revisions to this machine.

    Raises:
        UserError: as :func:`sweeper.models.resolve_all` and :func:`sweeper.models.weights_folder`.
    """
    checkpoints = resolve_all(name, spec, "cpu")
    for checkpoint in checkpoints:
        weights_folder(checkpoint, spec)
    return checkpoints
