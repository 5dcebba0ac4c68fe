"""What a worker does for a drift: it compares the weights of two revisions, without a model."""

from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
from pydantic import TypeAdapter

from sweeper.models import leased_folder
from sweeper.models.neuron_weights import Rows, open_rows
from sweeper.neurons.drift import drift
from sweeper.records import Checkpoint, Unit
from sweeper.spec.model import ModelSpec


def drift_rows(unit: Unit) -> pd.DataFrame:
    """Compute a unit of kind ``drift``: rows of the table ``drift``.

    The files are read layer by layer, so that neither model is in memory as a whole.

    Raises:
        ValueError: the unit is no drift, or its revisions differ in shape.
        UserError: the files of a revision cannot be had here.
        MissingWeightError: they lack a weight.
    """
    if unit.previous is None:
        raise ValueError("the unit is no drift")
    spec = TypeAdapter(ModelSpec).validate_python(unit.model)
    with _rows(unit.previous, spec) as before, _rows(unit.checkpoint, spec) as after:
        table = drift(before, after, unit.checkpoint.num_layers)
    return table.assign(previous=unit.previous.revision)


@contextmanager
def _rows(checkpoint: Checkpoint, spec: ModelSpec) -> Iterator[Rows]:
    with leased_folder(checkpoint, spec) as folder, open_rows(checkpoint, spec, folder) as rows:
        yield rows
