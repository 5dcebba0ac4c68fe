"""Where rows of items come from: a table in memory, or a store that is added up as it is read."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pandas as pd
import pyarrow.compute as pc

from sweeper.aggregate.contrasts import BlockSums, ItemTable
from sweeper.aggregate.pairing import add_up
from sweeper.store import Store

_KEY = "cell_key"
_Place = tuple[tuple[str, ...], str, int | None]


class Source(Protocol):
    """Items of a run's cells."""

    def __contains__(self, cell_key: object) -> bool:
        """Whether a cell has items."""
        ...

    def sums(
        self, cell_keys: Sequence[str], task_kind: str, baseline: int | None
    ) -> dict[str, BlockSums]:
        """Add up the items of the cells of one task (``ItemTable.sums``)."""
        ...


@dataclass(frozen=True, slots=True)
class StoredItems:
    """All items of a store; memory holds those of a few cells at a time, and what they add up to.

    A cell's numbers never change, so what was added up once is kept.
    """

    store: Store
    """What is read is what it held at its last ``refresh``."""
    kept: dict[_Place, dict[str, BlockSums]] = field(default_factory=dict)
    has_items: dict[str, bool] = field(default_factory=dict)
    """Cell -> whether it has rows, of the cells that were asked for."""

    def among(self, cell_keys: Collection[str]) -> frozenset[str]:
        """Cells that have items: an attempt's file may hold those of its other cells only."""
        wanted = self.store.keys_with("items") & set(cell_keys)
        new = wanted - self.has_items.keys()
        self.has_items.update(dict.fromkeys(new, False))
        if new:
            for rows in self.store.stream("items", new, [_KEY], encoded=[_KEY]):
                present = pc.unique(rows.unify_dictionaries()[_KEY]).to_pylist()
                self.has_items.update(dict.fromkeys(present, True))
        return frozenset(key for key in wanted if self.has_items[key])


Items = pd.DataFrame | StoredItems


def source_of(items: Items, cell_keys: Collection[str]) -> Source:
    """The items of some cells, wherever they are.

    Raises:
        ValueError: a row in memory lacks its cell, item, group or cluster.
    """
    if isinstance(items, StoredItems):
        return _StoredCells(items, items.among(cell_keys))
    return ItemTable(items, cell_keys)


@dataclass(frozen=True, slots=True)
class _StoredCells:
    items: StoredItems
    keys: frozenset[str]

    def __contains__(self, cell_key: object) -> bool:
        return cell_key in self.keys

    def sums(
        self, cell_keys: Sequence[str], task_kind: str, baseline: int | None
    ) -> dict[str, BlockSums]:
        place = (tuple(cell_keys), task_kind, baseline)
        kept = self.items.kept
        if place not in kept:
            kept[place] = add_up(self.items.store, cell_keys, task_kind, baseline)
        return kept[place]
