"""Cells that are worth doing together, in units of a wanted length."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from sweeper.records import Cell, Unit, content_hash

UNITS_PER_WORKER = 4


def group_cells(cells: Iterable[Cell], max_cost: float) -> Iterator[tuple[Cell, ...]]:
    """Pack cells of one checkpoint and task, in order, into groups of at most ``max_cost``.

    A cell above ``max_cost`` is a group of its own: cells are never divided. Cells with the same
    key (two names for the same condition) are computed once.

    Args:
        cells: cells of any checkpoints and tasks.
        max_cost: most work of a group, in token positions.
    """

    def place(cell: Cell) -> tuple[str, str, str, str]:
        return cell.kind, cell.model, cell.revision, cell.task

    distinct = {cell.key: cell for cell in cells}
    for _, members in groupby(sorted(distinct.values(), key=place), key=place):
        yield from _pack(list(members), max_cost)


def _pack(cells: Sequence[Cell], max_cost: float) -> Iterator[tuple[Cell, ...]]:
    group: list[Cell] = []
    cost = 0.0
    for cell in cells:
        if group and cost + cell.cost > max_cost:
            yield tuple(group)
            group, cost = [], 0.0
        group.append(cell)
        cost += cell.cost
    if group:
        yield tuple(group)


def make_units(
    cells: Iterable[Cell], max_cost: float, build: Callable[[str, tuple[Cell, ...]], Unit]
) -> list[Unit]:
    """Group cells and build a unit of each group; its id is a hash of its cells' keys."""
    return [
        build(content_hash([cell.key for cell in group])[:16], group)
        for group in group_cells(cells, max_cost)
    ]


def max_unit_cost(total: float, rate: float, unit_seconds: float, workers: int) -> float:
    """Most work of one unit, in token positions.

    As long as the job wants its units, but at least ``UNITS_PER_WORKER`` for each worker, so that
    the last one does not keep the others waiting.

    Args:
        total: work to divide.
        rate: token positions per second of one worker.
        unit_seconds: wanted length of a unit.
        workers: number of workers.
    """
    return min(rate * unit_seconds, total / (UNITS_PER_WORKER * workers))
