"""Cells that are worth doing together, in units of a wanted length."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from sweeper.records import Cell, Unit, content_hash

UNITS_PER_WORKER = 4

WORTH_SHARING = 0.2
"""A cell joins a unit that is full otherwise if this part of its work is done there already."""

LONGER = 8
"""How many times longer than wanted a unit may get by cells that are worth sharing."""

Shared = Callable[[Cell, Cell], float]
"""Part of the second cell's work that the first one has in common with it, 0 to 1."""


def _nothing_shared(_first: Cell, _second: Cell) -> float:
    return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitLimits:
    """Most work of one unit, in token positions. A cell above a limit is still a unit."""

    cost: float
    """What its cells share is counted once."""
    sharing: float
    """The same, while further cells share much with the one before."""
    unshared: float
    """Every cell is counted in full, whatever it shares: bounds how few units there are."""


def group_cells(
    cells: Iterable[Cell], limits: UnitLimits, shared: Shared = _nothing_shared
) -> Iterator[tuple[Cell, ...]]:
    """Pack cells of one checkpoint and task, in order, into groups within the limits.

    A cell above the limit is a group of its own: cells are never divided. Cells with the same
    key (two names for the same condition) are computed once.

    Args:
        cells: cells of any checkpoints and tasks; those that share work next to one another.
        limits: most work of a group.
        shared: which part of a cell's work is shared with the one before.
    """

    def place(cell: Cell) -> tuple[str, str, str, str]:
        return cell.kind, cell.model, cell.revision, cell.task

    distinct = {cell.key: cell for cell in cells}
    for _, members in groupby(sorted(distinct.values(), key=place), key=place):
        yield from _pack(list(members), limits, shared)


def _pack(cells: Sequence[Cell], limits: UnitLimits, shared: Shared) -> Iterator[tuple[Cell, ...]]:
    group: list[Cell] = []
    cost = unshared = 0.0
    for cell in cells:
        part = shared(group[-1], cell) if group else 0.0
        limit = limits.sharing if part >= WORTH_SHARING else limits.cost
        full = cost + cell.cost * (1 - part) > limit or unshared + cell.cost > limits.unshared
        if group and full:
            yield tuple(group)
            group, cost, unshared, part = [], 0.0, 0.0, 0.0
        group.append(cell)
        cost += cell.cost * (1 - part)
        unshared += cell.cost
    if group:
        yield tuple(group)


def saved_part(group: Sequence[Cell], shared: Shared) -> float:
    """Part of a group's work, 0 to 1, that sharing saves: each cell's with the one before it.

    Args:
        group: cells in the order in which they are packed.
        shared: which part of a cell's work is shared with the one before.
    """
    total = sum(cell.cost for cell in group)
    saved = sum(cell.cost * shared(before, cell) for before, cell in pairwise(group))
    return saved / total if total else 0.0


def make_units(
    cells: Iterable[Cell],
    limits: UnitLimits,
    build: Callable[[str, tuple[Cell, ...]], Unit],
    shared: Shared = _nothing_shared,
) -> list[Unit]:
    """Group cells and build a unit of each group; its id is a hash of its cells' keys."""
    return [
        build(content_hash([cell.key for cell in group])[:16], group)
        for group in group_cells(cells, limits, shared)
    ]


def workers_for(part: float, workers: int) -> int:
    """How many of all workers a checkpoint keeps busy that is a part, 0 to 1, of all work."""
    return max(math.ceil(part * workers), 1)


def unit_limits(total: float, rate: float, unit_seconds: float, workers: int) -> UnitLimits:
    """How much work goes into one unit.

    As much as takes the time that the job wants for a unit, or a few times longer where that
    saves work, but at least ``UNITS_PER_WORKER`` units for each worker, so that the last one does
    not keep the others waiting.

    Args:
        total: work to divide, in token positions, every cell counted in full.
        rate: token positions per second of one worker.
        unit_seconds: wanted length of a unit.
        workers: number of workers.
    """
    wanted = rate * unit_seconds
    # Counted as the total is: shared work counted once would let one unit hold all cells.
    most = total / (UNITS_PER_WORKER * workers)
    return UnitLimits(cost=wanted, sharing=wanted * LONGER, unshared=most)
