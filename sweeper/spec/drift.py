"""Drift: how far each neuron's input weights turn between revisions of a model."""

from sweeper.spec.base import Count, Strict


class DriftSpec(Strict):
    """Which revisions are compared with which."""

    every: Count = 1
    """Of a model's revisions, as the job lists them, the first and every so many are compared, each
    with the one of them before: 1 compares every revision with the one before it."""
