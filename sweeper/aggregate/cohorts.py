"""Cohorts: sets of neurons that are the same at all revisions, and what becomes of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweeper.aggregate.summary import as_frame
from sweeper.aggregate.trajectories import Place, places_of
from sweeper.records import Checkpoint
from sweeper.store.dynamics import CohortPoint

ReadTable = Callable[[str, str, Sequence[str]], pd.DataFrame]
"""Rows of a table that belong to a cell, in some columns; none where the cell is not done."""

STATISTICS = {
    "census": ("neurons", {"wd": "wd"}),
    "drift": ("drift", {"drift": "dissimilarity", "relative_drift": "relative"}),
}
"""Kind of cell -> its table, and the statistics with their columns."""
PLACE = ["layer", "neuron"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """A set of neurons of a model that conditions clamp at all its revisions."""

    name: str
    """The first condition with that set."""
    members: frozenset[tuple[int, int]]
    """Layer and neuron."""


def cohorts(
    manifest: pd.DataFrame,
    sets: pd.DataFrame,
    checkpoints: Sequence[Checkpoint],
    read: ReadTable,
) -> pd.DataFrame:
    """Describe WD and drift of every cohort and of the rest, one row per ``CohortPoint``.

    A cohort is the set of a condition that is not drawn at random, and not repeated for groups of
    layers, if it is the same at two revisions or more and at all that are known. Whole layers leave
    no rest to be compared with, and are no cohort. One revision's neurons are read at a time.

    Args:
        manifest: the cells of the run, one row per cell and condition.
        sets: rows of the table ``conditions``.
        checkpoints: all of the run; those of a model in the job's order.
        read: gives rows of the tables ``neurons`` and ``drift``.
    """
    places, rows = places_of(checkpoints), list[CohortPoint]()
    for model in dict.fromkeys(model for model, _ in places):
        mine = manifest[manifest["model"] == model]
        found = cohorts_of(mine, sets)
        for place in (places[pair] for pair in places if pair[0] == model):
            here = mine[mine["revision"] == place.checkpoint.revision]
            rows += _points(found, here, place, read) if found else []
    return as_frame(CohortPoint, rows)


def cohorts_of(manifest: pd.DataFrame, sets: pd.DataFrame) -> list[Cohort]:
    """The cohorts of one model, each set once, in the order of the manifest."""
    scored = manifest[
        (manifest["kind"] == "score")
        & manifest["operation"].notna()
        & manifest["seed"].isna()
        & manifest["first_layer"].isna()
    ]
    wanted = sets[sets["condition_key"].isin(scored["condition_key"])]
    members = {
        str(key): frozenset(
            (int(layer), int(neuron))
            for layer, chosen in zip(rows["layer"], rows["neurons"], strict=True)
            for neuron in chosen
        )
        for key, rows in wanted.groupby("condition_key")
    }
    found: dict[frozenset[tuple[int, int]], str] = {}
    for name, cells in scored.groupby("condition", sort=False):
        known = cells[cells["condition_key"].isin(members.keys())]
        own = {members[key] for key in known["condition_key"]}
        if known["revision"].nunique() > 1 and len(own) == 1:
            found.setdefault(own.pop(), str(name))
    return [Cohort(name=name, members=chosen) for chosen, name in found.items()]


def _points(
    found: Sequence[Cohort], manifest: pd.DataFrame, place: Place, read: ReadTable
) -> Iterator[CohortPoint]:
    """All cohorts at one revision."""
    for kind, (table, columns) in STATISTICS.items():
        for cell in manifest[manifest["kind"] == kind].to_dict("records"):
            neurons = read(table, str(cell["cell_key"]), [*PLACE, *columns.values()])
            previous = str(cell["task"]) if kind == "drift" else None
            for cohort in found if len(neurons) else ():
                for part, mine in _parts(cohort, neurons).items():
                    for statistic, column in columns.items():
                        values = neurons[column].to_numpy(np.float64, na_value=np.nan)[mine]
                        yield _point(place, cohort, part, statistic, previous, values)


def _parts(cohort: Cohort, neurons: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Which neurons are of the cohort, and which of the rest of its layers; none without a rest."""
    of_layers = neurons["layer"].isin({layer for layer, _ in cohort.members}).to_numpy()
    members = pd.MultiIndex.from_tuples(sorted(cohort.members))
    inside = pd.MultiIndex.from_frame(neurons[PLACE]).isin(members)
    rest = of_layers & ~inside
    return {"cohort": inside, "rest": rest} if rest.any() else {}


def _point(
    place: Place,
    cohort: Cohort,
    part: str,
    statistic: str,
    previous: str | None,
    values: NDArray[np.float64],
) -> CohortPoint:
    known = values[np.isfinite(values)]
    quartiles = np.quantile(known, [0.25, 0.5, 0.75]) if len(known) else np.full(3, np.nan)
    return CohortPoint(
        model=place.checkpoint.model,
        revision=place.checkpoint.revision,
        step=place.checkpoint.step,
        place=place.index,
        cohort=cohort.name,
        part=part,
        statistic=statistic,
        previous=previous,
        num_neurons=len(known),
        mean=float(known.mean()) if len(known) else float("nan"),
        first=float(quartiles[0]),
        median=float(quartiles[1]),
        third=float(quartiles[2]),
    )
