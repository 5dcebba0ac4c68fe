"""From cells to units: everything that a worker needs to know, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from sweeper.plan.layers import concrete_conditions
from sweeper.plan.sharing import layers_shared, neighbours
from sweeper.plan.units import UnitLimits, make_units, saved_part
from sweeper.records import Cell, CellStatus, Checkpoint, Condition, Unit
from sweeper.run.manifest import conditions_table
from sweeper.run.preparation import Preparation
from sweeper.run.rows import arrow
from sweeper.run.sweep import Sweep
from sweeper.store import Store, new_attempt_name
from sweeper.store.schemas import TABLES


def preparing_unit(
    sweep: Sweep, checkpoint: Checkpoint, preparation: Preparation, store: Store
) -> Unit:
    """A cell beside the scored ones, or a part of one, as a unit of its own.

    The set to be matched is written to the store first.
    """
    if preparation.previous is not None:
        return _drift_unit(sweep, checkpoint, preparation.cell, preparation.previous)
    if preparation.analysis is not None:
        return _analysis_unit(sweep, checkpoint, preparation, preparation.analysis)
    if preparation.target is None or preparation.census is None:
        unit = census_unit(sweep, checkpoint, preparation.cell)
        profile = _profile(sweep, preparation)
        return replace(unit, windows=preparation.windows, parts=preparation.parts, profile=profile)
    cell, census = preparation.cell, preparation.census.key
    attempt = _commit_sets(sweep, [preparation.target], store)
    unit = _score_unit(sweep, checkpoint, cell.key[:16], (cell,), [preparation.target], attempt)
    spec = sweep.job.condition[concrete_conditions(sweep.job, checkpoint)[cell.condition].family]
    where = {"census": census, "attempt": store.attempt_of(census)}
    return replace(unit, match={"spec": spec.model_dump(), **where})


def _profile(sweep: Sweep, preparation: Preparation) -> dict[str, Any] | None:
    spec = sweep.job.profiles
    if spec is None or preparation.cell.kind != "profile":
        return None
    return {"spec": spec.model_dump(), "neurons": preparation.neurons}


def _drift_unit(sweep: Sweep, checkpoint: Checkpoint, cell: Cell, previous: Checkpoint) -> Unit:
    return Unit(
        id=cell.key[:16],
        checkpoint=checkpoint,
        cells=(cell,),
        model=sweep.job.model[checkpoint.model].model_dump(),
        task={},
        corpus=None,
        data_fingerprint=previous.fingerprint,
        operations={},
        allow_unchanged=frozenset(),
        conditions_attempt=None,
        previous=previous,
    )


def _analysis_unit(
    sweep: Sweep, checkpoint: Checkpoint, preparation: Preparation, analysis: Mapping[str, Any]
) -> Unit:
    """Firing, n-grams, routing or removal: told what is read by names of corpora."""
    first = next(iter(analysis["corpora"]))
    return Unit(
        id=preparation.cell.key[:16],
        checkpoint=checkpoint,
        cells=(preparation.cell,),
        model=sweep.job.model[checkpoint.model].model_dump(),
        task=analysis["spec"],
        corpus=analysis["corpora"][first],
        data_fingerprint=analysis["fingerprints"][first],
        operations={},
        allow_unchanged=frozenset(),
        conditions_attempt=None,
        windows=preparation.windows,
        analysis=analysis,
    )


def census_unit(sweep: Sweep, checkpoint: Checkpoint, cell: Cell) -> Unit:
    """A cell that reads the census' text as a unit of its own.

    Raises:
        ValueError: the job takes no census.
    """
    census = sweep.job.census
    if census is None:
        raise ValueError("the job takes no census")
    return Unit(
        id=cell.key[:16],
        checkpoint=checkpoint,
        cells=(cell,),
        model=sweep.job.model[checkpoint.model].model_dump(),
        task=census.model_dump(),
        corpus=sweep.job.corpus[census.corpus].model_dump(),
        data_fingerprint=str(sweep.census_fingerprint),
        operations={},
        allow_unchanged=frozenset(),
        conditions_attempt=None,
    )


def score_units(
    sweep: Sweep,
    checkpoint: Checkpoint,
    cells: Sequence[Cell],
    conditions: Sequence[Condition],
    store: Store,
    limits: UnitLimits,
    balance: pd.DataFrame | None = None,
) -> list[Unit]:
    """Group a checkpoint's cells into units; their neuron sets are written to the store first.

    Args:
        sweep: the sweep.
        checkpoint: the checkpoint.
        cells: what is to be computed.
        conditions: the checkpoint's conditions; those of the cells are among them.
        store: where workers and readers find the neuron sets.
        limits: most work of a unit.
        balance: rows of the table ``balance`` for conditions that are matched by moments.
    """
    wanted = {cell.condition_key for cell in cells}
    needed = {c.key: c for c in conditions if c.key in wanted}
    attempt = _commit_sets(sweep, list(needed.values()), store, balance)

    num_layers = checkpoint.num_layers

    def shared(first: Cell, second: Cell) -> float:
        pair = needed[str(first.condition_key)], needed[str(second.condition_key)]
        return layers_shared(*pair, num_layers) / num_layers

    def build(name: str, group: tuple[Cell, ...]) -> Unit:
        here = [needed[key] for key in dict.fromkeys(str(cell.condition_key) for cell in group)]
        unit = _score_unit(sweep, checkpoint, name, group, here, attempt)
        return replace(unit, saved=saved_part(group, shared))

    return make_units(neighbours(cells, needed, num_layers), limits, build, shared)


def _score_unit(
    sweep: Sweep,
    checkpoint: Checkpoint,
    name: str,
    cells: tuple[Cell, ...],
    conditions: Sequence[Condition],
    attempt: str | None,
) -> Unit:
    task = cells[0].task
    corpus = sweep.corpus_of(task)
    return Unit(
        id=name,
        checkpoint=checkpoint,
        cells=cells,
        model=sweep.job.model[checkpoint.model].model_dump(),
        task=sweep.job.suite[task].model_dump(),
        corpus=None if corpus is None else corpus.model_dump(),
        data_fingerprint=str(sweep.tasks[task].identity["data"]),
        operations={condition.key: condition.operation for condition in conditions},
        allow_unchanged=frozenset(c.key for c in conditions if c.allow_unchanged),
        conditions_attempt=attempt,
    )


def _commit_sets(
    sweep: Sweep,
    conditions: Sequence[Condition],
    store: Store,
    balance: pd.DataFrame | None = None,
) -> str | None:
    """Write the neuron sets for workers and readers; None where there are none."""
    frame = conditions_table(conditions)
    if frame.empty:
        return None
    attempt = new_attempt_name("conditions")
    keys = frame["condition_key"].unique().tolist()
    status: dict[str, CellStatus] = dict.fromkeys(keys, "done")
    tables = {"conditions": arrow(frame, TABLES["conditions"])}
    if balance is not None and not balance.empty:
        tables["balance"] = arrow(balance, TABLES["balance"])
    store.writer.commit(attempt, "conditions", sweep.job.name, tables, status)
    return attempt
