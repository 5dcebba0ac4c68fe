"""Pairing in passing: the cells of a task are read from the store one after the other and added up.

Shapes: N items of the task, k cells that are added up at once.

A cell whose rows name the same items in the same order as those of the reference is brought into
the order of ``contrasts`` by one permutation. All others, and those of harness tasks, whose metrics
depend on the documents, go through ``ItemTable`` a few at a time; so do those that do not fit at
all, which is where it is said why.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sweeper.aggregate.contrasts import (
    BlockSums,
    GroupSums,
    IntArray,
    ItemTable,
    Panel,
    block_sums,
    with_outcomes,
)
from sweeper.aggregate.intervals import FloatArray
from sweeper.aggregate.metrics import COLUMNS, METRICS, SHIFTED, Presence
from sweeper.aggregate.summary import beside
from sweeper.store import Store

VALUES_AT_ONCE = 2_000_000
"""Numbers of one metric that are added up at once: 16 MB."""
ROWS_AT_ONCE = 500_000
"""Rows that go through pandas at once."""
_KEY = "cell_key"
_NAMES = ("group", "cluster")
_IDENTITY = ("item_id", *_NAMES)

Part = tuple[list[str], dict[str, BlockSums]]
"""Cells, and their sums by metric."""


def add_up(
    store: Store, cell_keys: Sequence[str], task_kind: str, baseline: int | None
) -> dict[str, BlockSums]:
    """Add up the items of the cells of one task out of a store; see ``ItemTable.sums``.

    Raises:
        ValueError: as for ``ItemTable.panels``.
        UserError: a file of the store is missing or damaged.
    """
    reference = cell_keys[baseline or 0]
    if task_kind == "lm_eval":
        parts = _of_harness(store, reference, [key for key in cell_keys if key != reference])
    else:
        parts = list(_of_kind(store, reference, cell_keys, task_kind))
    names = [key for keys, _ in parts for key in keys]
    place = {key: number for number, key in enumerate(names)}
    order = np.array([place[key] for key in cell_keys])
    found = {
        metric: _joined([sums[metric] for _, sums in parts], order)
        for metric in parts[0][1]
        if all(metric in sums for _, sums in parts)
    }
    if baseline is None:
        return {metric: replace(sums, differences=[]) for metric, sums in found.items()}
    return found


def _of_kind(
    store: Store, reference: str, cell_keys: Sequence[str], task_kind: str
) -> Iterator[Part]:
    """Sums of a task whose metrics are known."""
    pairing = _Pairing(_frame(store, [reference]), reference, task_kind)
    others: list[str] = []
    columns = (_KEY, *_IDENTITY, *pairing.columns)
    batch = _Batch(pairing)
    for table in store.stream("items", cell_keys, columns, encoded=(_KEY, *_NAMES)):
        for key, rows in _by_cell(table):
            if not pairing.fits(rows):
                others.append(key)
                continue
            batch.add(key, rows)
            if batch.is_full:
                yield batch.sums()
    if batch.keys:
        yield batch.sums()
    for keys in _chunks(others, pairing.num_items):
        table = ItemTable(_frame(store, [reference, *keys]), [reference, *keys])
        yield keys, _without_first(table.sums([reference, *keys], task_kind, 0))


def _of_harness(store: Store, reference: str, others: Sequence[str]) -> list[Part]:
    """Sums of a harness task: of the metrics that every document has in every cell."""
    parts: list[Part] = []
    complete: list[frozenset[str]] = []
    ragged: set[str] = set()
    first = _frame(store, [reference], harness=True)
    for keys in [[], *_chunks(others, len(first))]:
        rows = _frame(store, [reference, *keys], harness=True) if keys else first
        table = ItemTable(rows, [reference, *keys])
        sums, presence = table.complete_sums([reference, *keys], 0)
        complete.append(presence.complete)
        ragged |= presence.ragged
        parts.append((keys, _without_first(sums)) if keys else ([reference], sums))
    wanted = Presence(frozenset.intersection(*complete), frozenset(ragged)).metrics()
    return [(keys, {metric: sums[metric] for metric in wanted}) for keys, sums in parts]


def _frame(store: Store, keys: Sequence[str], *, harness: bool = False) -> pd.DataFrame:
    columns = (_KEY, *_IDENTITY, *COLUMNS.values(), "num_tokens")
    items: pd.DataFrame = store.table("items", keys, columns).to_pandas()
    if not harness:
        return items
    return with_outcomes(items, store.table("outcomes", keys).to_pandas())


def _chunks(keys: Sequence[str], num_items: int) -> Iterator[list[str]]:
    size = max(1, ROWS_AT_ONCE // num_items)
    for begin in range(0, len(keys), size):
        yield list(keys[begin : begin + size])


def _by_cell(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Rows of each cell, its columns in one chunk each."""
    if not len(table):
        return
    table = table.unify_dictionaries().combine_chunks()
    keys = table[_KEY].chunk(0)
    codes = keys.indices.to_numpy()
    starts = _starts(codes)
    if len(np.unique(codes[starts])) < len(starts):
        order = np.argsort(codes, kind="stable")
        table, codes = table.take(order).combine_chunks(), codes[order]
        starts = _starts(codes)
    for start, stop in pairwise([*starts.tolist(), len(codes)]):
        yield keys.dictionary[int(codes[start])].as_py(), table.slice(start, stop - start)


def _starts(codes: IntArray) -> IntArray:
    """First rows of the runs of one code."""
    return np.concatenate([[0], 1 + np.flatnonzero(codes[1:] != codes[:-1])])


class _Pairing:
    """The items of the reference in their order, and the rows of other cells brought into it."""

    def __init__(self, frame: pd.DataFrame, reference: str, task_kind: str) -> None:
        table = ItemTable(frame, [reference])
        self.panels: dict[str, Panel] = {
            metric: panel
            for metric, panel in table.panels([reference], task_kind).items()
            if metric != SHIFTED
        }
        """Metric -> the reference's own values."""
        self.is_shifted = SHIFTED in METRICS[task_kind]
        self.columns = [COLUMNS[metric] for metric in self.panels]
        if "nll" in self.panels:
            self.columns.append("num_tokens")
        self.num_items = len(frame)
        self._order: IntArray = table.order(reference)
        self._ids = pa.chunked_array([pa.array(frame["item_id"], pa.string())])
        self._names = {name: pa.array(pd.unique(frame[name]), pa.string()) for name in _NAMES}
        self._codes = {
            name: pc.index_in(pa.array(frame[name], pa.string()), self._names[name]).to_numpy()
            for name in _NAMES
        }

    def fits(self, rows: pa.Table) -> bool:
        """Whether these are the same items in the same order, and in the same clusters."""
        return (
            len(rows) == self.num_items
            and bool(rows["item_id"].equals(self._ids))
            and all(np.array_equal(self._recoded(name, rows), self._codes[name]) for name in _NAMES)
        )

    def _recoded(self, name: str, rows: pa.Table) -> IntArray:
        """Codes of a column as the reference has them, -1 for values that it does not have."""
        column = rows[name].chunk(0)
        indices: IntArray = column.indices.to_numpy()
        if column.dictionary.equals(self._names[name]):
            return indices
        known = pc.fill_null(pc.index_in(column.dictionary, self._names[name]), -1)
        codes: IntArray = known.to_numpy()[indices]
        return codes

    def put(self, target: FloatArray, metric: str, key: str, rows: pa.Table) -> None:
        """Write a cell's numbers in the order of the items, (N,).

        Raises:
            ValueError: one is missing, NaN or infinite, or tokens are not the reference's.
        """
        np.take(self._numbers(COLUMNS[metric], key, rows), self._order, out=target)
        if metric == "nll":
            np.negative(target, out=target)
            tokens = self._numbers("num_tokens", key, rows)[self._order]
            if not np.array_equal(tokens, self.panels["nll"].weights):
                raise ValueError("items.num_tokens is not the same positive number in all cells")

    @staticmethod
    def _numbers(column: str, key: str, rows: pa.Table) -> FloatArray:
        numbers: FloatArray = rows[column].cast(pa.float64()).to_numpy()
        if not np.isfinite(numbers).all():
            raise ValueError(f"items.{column} of cell {key} holds missing or non-finite values")
        return numbers


class _Batch:
    """Cells that are added up at once, after the reference, which stands in the first row."""

    def __init__(self, pairing: _Pairing) -> None:
        self._pairing = pairing
        self._size = max(1, VALUES_AT_ONCE // pairing.num_items)
        self.keys: list[str] = []
        self._values = {
            metric: np.empty((1 + self._size, pairing.num_items)) for metric in pairing.panels
        }
        for metric, panel in pairing.panels.items():
            self._values[metric][0] = panel.values[0]

    @property
    def is_full(self) -> bool:
        return len(self.keys) == self._size

    def add(self, key: str, rows: pa.Table) -> None:
        self.keys.append(key)
        for metric, values in self._values.items():
            self._pairing.put(values[len(self.keys)], metric, key, rows)

    def sums(self) -> Part:
        """Add up what is there, and begin anew."""
        found: dict[str, BlockSums] = {}
        for metric, values in self._values.items():
            own = self._pairing.panels[metric]
            panel = replace(own, values=values[: 1 + len(self.keys)])
            found[metric] = block_sums(panel, 0)
            if metric == "nll" and self._pairing.is_shifted:
                found[SHIFTED] = block_sums(replace(panel, shifted=True), 0)
        keys, self.keys = self.keys, []
        return keys, _without_first(found)


def _without_first(found: dict[str, BlockSums]) -> dict[str, BlockSums]:
    """Leave the reference out, which stands before each part of the cells."""

    def rest(sums: Iterable[GroupSums]) -> list[GroupSums]:
        return [one.of(range(1, one.numerators.shape[1])) for one in sums]

    return {
        metric: BlockSums(rest(sums.levels), rest(sums.differences))
        for metric, sums in found.items()
    }


def _joined(parts: Sequence[BlockSums], order: IntArray) -> BlockSums:
    """Put parts of the cells side by side, in the wanted order."""
    columns = order.tolist()
    levels = zip(*(part.levels for part in parts), strict=True)
    differences = zip(*(part.differences for part in parts), strict=True)
    return BlockSums(
        [beside(one).of(columns) for one in levels],
        [beside(one).of(columns) for one in differences],
    )
