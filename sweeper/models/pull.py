"""Fetch a model ahead of a run, so that the run itself needs no network."""

from sweeper.models.source import resolve, weights_folder
from sweeper.records import Checkpoint
from sweeper.spec.model import ModelSpec


def pull(name: str, spec: ModelSpec) -> Checkpoint:
    """Resolve a model and bring all its files to this machine.

    Raises:
        UserError: as :func:`sweeper.models.resolve` and :func:`sweeper.models.weights_folder`.
    """
    checkpoint = resolve(name, spec, "cpu")
    weights_folder(checkpoint, spec)
    return checkpoint
