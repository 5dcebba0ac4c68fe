"""What a run compares: the manifest as blocks of arms."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from sweeper.aggregate.metrics import METRICS


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One condition inside a block, with its seeds."""

    condition: str
    operation: str | None
    control_of: str | None
    family: str
    layers: tuple[int, int] | None
    """First and last layer of the condition's group; None outside of a sweep over layers."""
    is_baseline: bool
    seeds: tuple[int | None, ...]
    columns: tuple[int, ...]
    """Places of the arm's cells among the block's; the same where two names have one cell."""
    num_neurons: float
    """Mean over seeds."""

    @property
    def num_seeds(self) -> int:
        """Number of random draws; 0 where nothing is drawn at random."""
        return sum(seed is not None for seed in self.seeds)

    @property
    def first_layer(self) -> int | None:
        """First layer of the group."""
        return self.layers[0] if self.layers else None

    @property
    def last_layer(self) -> int | None:
        """Last layer of the group."""
        return self.layers[1] if self.layers else None


@dataclass(frozen=True, kw_only=True)
class Block:
    """All cells of one model, revision and task that have results."""

    model: str
    revision: str
    task: str
    task_kind: str
    cell_keys: tuple[str, ...]
    """Without repeats: two names may have one cell."""
    arms: tuple[Arm, ...]
    """Sorted by condition."""

    @cached_property
    def _controlling(self) -> dict[str | None, list[Arm]]:
        """Condition -> the arms that control it."""
        found: dict[str | None, list[Arm]] = {}
        for arm in self.arms:
            found.setdefault(arm.control_of, []).append(arm)
        return found

    def baseline(self) -> int | None:
        """Place of the baseline's cell, or None where it has no results.

        Raises:
            ValueError: several baselines with different cells.
        """
        columns = sorted({column for arm in self.arms if arm.is_baseline for column in arm.columns})
        if len(columns) > 1:
            raise ValueError(
                f"model {self.model}, revision {self.revision}, task {self.task} has "
                f"{len(columns)} different baselines"
            )
        return columns[0] if columns else None

    def controls(self, arm: Arm) -> list[int]:
        """Places of the random controls of an arm; none for an arm that is itself random.

        A random set under another operation is no control: the test exchanges neurons alone. A set
        that several conditions draw is one control.
        """
        return list(dict.fromkeys(self.named_controls(arm).values()))

    def named_controls(self, arm: Arm) -> dict[tuple[str, int], int]:
        """Places of an arm's random controls by condition and seed: the same draws in any task.

        Several names have the same place where several conditions draw the same set.
        """
        if arm.num_seeds:
            return {}
        return {
            (other.condition, seed): column
            for other in self._controlling.get(arm.condition, ())
            if other.operation == arm.operation
            for seed, column in zip(other.seeds, other.columns, strict=True)
            if seed is not None
        }


def blocks(manifest: pd.DataFrame, has_results: Callable[[str], bool]) -> list[Block]:
    """Sort the score cells that have results into blocks, ordered by model, revision and task.

    Raises:
        ValueError: an unknown kind of task, or a cell named twice.
    """
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in manifest[manifest["kind"] == "score"].to_dict("records"):
        if has_results(row["cell_key"]):
            key = (str(row["model"]), str(row["revision"]), str(row["task"]))
            found.setdefault(key, []).append({str(name): value for name, value in row.items()})
    return [_block(key, found[key]) for key in sorted(found)]


def _block(key: tuple[str, str, str], rows: list[dict[str, Any]]) -> Block:
    model, revision, task = key
    for row in rows:
        row["seed"] = None if pd.isna(row["seed"]) else int(row["seed"])
    rows.sort(key=lambda row: (row["condition"], -1 if row["seed"] is None else row["seed"]))
    kinds = {str(row["task_kind"]) for row in rows}
    if len(kinds) > 1 or not kinds <= METRICS.keys():
        raise ValueError(
            f"task {task} has the kinds {sorted(kinds)}; allowed is one of {sorted(METRICS)}"
        )
    by_condition: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_condition.setdefault(str(row["condition"]), []).append(row)
    cell_keys = tuple(dict.fromkeys(str(row["cell_key"]) for row in rows))
    places = {key: place for place, key in enumerate(cell_keys)}
    return Block(
        model=model,
        revision=revision,
        task=task,
        task_kind=kinds.pop(),
        cell_keys=cell_keys,
        arms=tuple(_arm(name, mine, places) for name, mine in by_condition.items()),
    )


def _arm(condition: str, mine: list[dict[str, Any]], places: dict[str, int]) -> Arm:
    seeds = tuple(row["seed"] for row in mine)
    if len(set(seeds)) < len(seeds) or (None in seeds and len(seeds) > 1):
        raise ValueError(
            f"manifest: condition {condition} of task {mine[0]['task']} has the seeds "
            f"{list(seeds)}, which name a cell twice"
        )
    return Arm(
        condition=condition,
        operation=_text(mine[0]["operation"]),
        control_of=_text(mine[0]["control_of"]),
        family=str(mine[0]["family"]),
        layers=_layers(mine[0]["first_layer"], mine[0]["last_layer"]),
        is_baseline=bool(mine[0]["is_baseline"]),
        seeds=seeds,
        columns=tuple(places[str(row["cell_key"])] for row in mine),
        num_neurons=math.fsum(row["num_neurons"] for row in mine) / len(mine),
    )


def _text(value: Any) -> str | None:
    return None if pd.isna(value) else str(value)


def _layers(first: Any, last: Any) -> tuple[int, int] | None:
    return None if pd.isna(first) else (int(first), int(last))
