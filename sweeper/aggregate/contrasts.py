"""Pairing: from rows of items to numerators and denominators by cluster.

Shapes: K cells of one task, N items of the task, S strata (group x cluster), C clusters of a group.

Items are put into one order (group, cluster, item_id) before anything is added up, so that the
order of the rows cannot change a single bit of a result.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweeper.aggregate.intervals import FloatArray, Measure, Ratio, centre
from sweeper.aggregate.metrics import COLUMNS, METRICS, SHIFTED, Presence

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
NameArray = NDArray[np.object_]

ALL = "all"
"""Name of the group that holds every item."""
OUTCOME = "outcome "
"""What the columns of further metrics begin with (``with_outcomes``)."""
_NAMED = 5
"""Cells that a message names."""
_log = logging.getLogger("sweeper")


@dataclass(frozen=True, slots=True, eq=False)
class GroupSums:
    """Totals by cluster of one group of items, for every cell."""

    group: str
    numerators: FloatArray
    """(C, K)."""
    denominators: FloatArray
    """(C,): items, or tokens for ``nll``."""
    clusters: NameArray
    """(C,) names."""
    num_items: int
    whole: "GroupSums | None" = None
    """All items of the same clusters, where the metric is the group's rate minus theirs."""

    @property
    def num_clusters(self) -> int:
        """Clusters with items of the group."""
        return int(np.count_nonzero(self.denominators))

    def values(self) -> FloatArray:
        """Give every cell's mean or rate, (K,)."""
        return centre([self.measure()])

    def measure(self) -> Measure:
        """Give the ratios that the metric is the sum of."""
        mine = Ratio(self.numerators, self.denominators)
        if self.whole is None:
            return (mine,)
        return (mine, Ratio(self.whole.numerators, self.whole.denominators, weight=-1.0))

    def of(self, columns: Sequence[int], minus: Sequence[int] | None = None) -> "GroupSums":
        """Take some cells; ``minus`` others, one for each or each from the one that is taken."""
        whole = None if self.whole is None else self.whole.of(columns, minus)
        numerators = self.numerators[:, list(columns)]
        if minus is not None:
            numerators = numerators - self.numerators[:, list(minus)]
        return replace(self, numerators=numerators, whole=whole)

    def combined(self, weights: FloatArray) -> "GroupSums":
        """Give J weighted sums of the cells, by weights of shape (K, J)."""
        whole = None if self.whole is None else self.whole.combined(weights)
        return replace(self, numerators=self.numerators @ weights, whole=whole)


@dataclass(frozen=True, slots=True, eq=False)
class BlockSums:
    """One metric of a block of cells: all items first, then each group where there are several."""

    levels: list[GroupSums]
    differences: list[GroupSums]
    """Paired differences from the baseline, in the order of ``levels``; none without a baseline."""


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One metric of one task: the same items in the same order for every cell."""

    values: FloatArray
    """(K, N)."""
    weights: FloatArray
    """(N,): 1, or the tokens of a window."""
    groups: tuple[str, ...]
    """Names of the groups."""
    group_codes: IntArray
    """(N,) ascending."""
    clusters: NameArray
    """Names of the clusters."""
    cluster_codes: IntArray
    """(N,) ascending inside a group."""
    shifted: bool = False
    """Whether groups are measured from the whole: the metric ``shifted``."""

    def minus(self, row: int) -> "Panel":
        """Give the paired differences of every cell against the cell in ``row``."""
        return replace(self, values=self.values - self.values[row])

    def sums(self) -> list[GroupSums]:
        """Add up by cluster: all items first, then each group where there are several.

        Groups that are measured from the whole have all its clusters, and the whole is left out.

        Raises:
            ValueError: a group beside others has the name of the whole.
        """
        starts = self._strata()
        numerators = np.add.reduceat(self.values, starts, axis=1).T
        denominators = np.add.reduceat(self.weights, starts)
        sizes = np.diff(starts, append=len(self.weights))
        group_codes, cluster_codes = self.group_codes[starts], self.cluster_codes[starts]
        clusters, places = np.unique(cluster_codes, return_inverse=True)
        everything = GroupSums(
            group=ALL,
            numerators=_added(numerators, places, len(clusters)),
            denominators=_added(denominators, places, len(clusters)),
            clusters=self.clusters[clusters],
            num_items=int(sizes.sum()),
        )
        present = np.unique(group_codes)
        if len(present) == 1:
            return [] if self.shifted else [everything]
        if ALL in (self.groups[code] for code in present):
            raise ValueError(f'items.group holds "{ALL}" beside other groups; the name is reserved')
        parts = []
        for code in present:
            mine = group_codes == code
            part = GroupSums(
                group=self.groups[code],
                numerators=numerators[mine],
                denominators=denominators[mine],
                clusters=self.clusters[cluster_codes[mine]],
                num_items=int(sizes[mine].sum()),
            )
            parts.append(_within(everything, part, places[mine]) if self.shifted else part)
        return parts if self.shifted else [everything, *parts]

    def _strata(self) -> IntArray:
        """First positions of the runs of one group and cluster, (S,)."""
        changes = np.diff(self.group_codes, prepend=-1) != 0
        changes |= np.diff(self.cluster_codes, prepend=-1) != 0
        return np.flatnonzero(changes)


class ItemTable:
    """The items of a run, indexed by cell."""

    def __init__(self, items: pd.DataFrame, cell_keys: Collection[str]) -> None:
        """Index the rows of the wanted cells; rows of other cells are of other runs.

        Raises:
            ValueError: a row lacks its cell, item, group or cluster.
        """
        self._items = items[items["cell_key"].isin(list(cell_keys))]
        cells, self._cells = _factorise(self._items, "cell_key")
        self._position = {key: code for code, key in enumerate(self._cells)}
        self._rows = np.argsort(cells, kind="stable")
        self._bounds = np.searchsorted(cells[self._rows], np.arange(len(self._cells) + 1))
        self._index_items()

    def __contains__(self, cell_key: object) -> bool:
        return cell_key in self._position

    def panels(self, cell_keys: Sequence[str], task_kind: str) -> dict[str, Panel]:
        """Pair the items of the cells of one task, metric by metric.

        A harness task has the metrics that every one of its documents has. Where only some cells
        lack a value, the metric is left out with a warning.

        Args:
            cell_keys: K cells, not necessarily distinct (two names may have one cell).
            task_kind: key of ``METRICS``.

        Raises:
            ValueError: the cells differ in their items, an item is doubled, or a score is missing,
                NaN or infinite.
        """
        rows = self._align(cell_keys)
        metrics = METRICS[task_kind]
        if task_kind == "lm_eval":
            metrics = tuple(self._presence(rows).metrics())
        return self._panels(rows, metrics)

    def sums(
        self, cell_keys: Sequence[str], task_kind: str, baseline: int | None
    ) -> dict[str, BlockSums]:
        """Add up the items of the cells of one task, metric by metric (see ``panels``).

        Args:
            cell_keys: as for ``panels``.
            task_kind: as for ``panels``.
            baseline: place of the cell that the others are compared with.

        Raises:
            ValueError: as for ``panels``.
        """
        panels = self.panels(cell_keys, task_kind)
        return {metric: block_sums(panel, baseline) for metric, panel in panels.items()}

    def complete_sums(
        self, cell_keys: Sequence[str], baseline: int
    ) -> tuple[dict[str, BlockSums], Presence]:
        """Add up every metric that each document of a harness task has, and tell which they are.

        Other cells of the task may have less: what is compared is for the caller to choose.
        """
        rows = self._align(cell_keys)
        presence = self._presence(rows)
        panels = self._panels(rows, sorted(presence.complete))
        return {name: block_sums(one, baseline) for name, one in panels.items()}, presence

    def order(self, cell_key: str) -> IntArray:
        """Rows of a cell's items in their order, (N,), of the table that was indexed."""
        rows: IntArray = self._align([cell_key])[0]
        return rows

    def _panels(self, rows: IntArray, metrics: Sequence[str]) -> dict[str, Panel]:
        found = {metric: self._panel(rows, metric) for metric in metrics if metric != SHIFTED}
        if SHIFTED in metrics:
            found[SHIFTED] = replace(found["nll"], shifted=True)
        return found

    def _presence(self, rows: IntArray) -> Presence:
        """Which metrics every one of a harness task's documents has, in every cell."""
        outcomes = sorted(name for name in self._items.columns if name.startswith(OUTCOME))
        further = {name.removeprefix(OUTCOME): name for name in outcomes}
        columns = COLUMNS | {name: further[name] for name in further if name not in COLUMNS}
        has = self._items.notna()
        known = {name: has[column].to_numpy()[rows] for name, column in columns.items()}
        ragged = {name for name, mask in known.items() if (mask != mask[0]).any()}
        found = Presence(
            complete=frozenset(name for name, mask in known.items() if mask.all()),
            ragged=frozenset(ragged),
        )
        # The log-probability of the right one of given answers is not compared anyway.
        unused = {"nll"} if "margin" in found.complete | found.ragged else set()
        for name in sorted(ragged - unused):
            self._warn(name, known[name], rows)
        return found

    def _warn(self, metric: str, known: BoolArray, rows: IntArray) -> None:
        """Say which cells lack what others have; a task without the metric lacks it in all."""
        lacking = ~known & known.any(axis=0)
        places = rows[lacking]
        cells, tasks = (
            sorted({str(name) for name in self._items[column].iloc[places]})
            for column in ("cell_key", "group")
        )
        more = f" and {len(cells) - _NAMED} more" if len(cells) > _NAMED else ""
        _log.warning(
            "task %s: metric %s is left out for all conditions: %d values are missing in %s%s",
            ", ".join(tasks[:_NAMED]),
            metric,
            len(places),
            ", ".join(cells[:_NAMED]),
            more,
        )

    def _index_items(self) -> None:
        """Number the items by (group, cluster, item_id) in sorted order."""
        groups, self._groups = _factorise(self._items, "group")
        clusters, names = _factorise(self._items, "cluster")
        ids, unique_ids = _factorise(self._items, "item_id")
        identity = (groups * len(names) + clusters) * len(unique_ids) + ids
        codes, uniques = pd.factorize(identity, sort=True)
        self._codes = codes.astype(np.int64)
        strata = np.asarray(uniques, dtype=np.int64) // max(1, len(unique_ids))
        self._clusters = np.array(names, dtype=object)
        self._group_codes, self._cluster_codes = np.divmod(strata, max(1, len(names)))

    def _cell_rows(self, key: str) -> IntArray:
        position = self._position[key]
        return self._rows[self._bounds[position] : self._bounds[position + 1]]

    def _align(self, cell_keys: Sequence[str]) -> IntArray:
        """Row of every cell and item, (K, N), items in their order."""
        reference = np.unique(self._codes[self._cell_rows(cell_keys[0])])
        lookup = np.full(len(self._group_codes), -1)
        lookup[reference] = np.arange(len(reference))
        aligned = np.full((len(cell_keys), len(reference)), -1)
        for line, key in zip(aligned, cell_keys, strict=True):
            rows = self._cell_rows(key)
            places = lookup[self._codes[rows]]
            line[places[places >= 0]] = rows[places >= 0]
            if len(rows) != len(reference) or (line < 0).any():
                raise ValueError(self._difference(cell_keys[0], key))
        return aligned

    def _difference(self, first: str, second: str) -> str:
        """Say what keeps two cells from being paired."""
        codes = self._codes[self._cell_rows(second)]
        one, two = set(self._codes[self._cell_rows(first)].tolist()), set(codes.tolist())
        if len(two) < len(codes):
            return f"items of cell {second}: {len(codes) - len(two)} rows repeat an item"
        return (
            f"cells {first} and {second} of one task have different items: "
            f"{len(one - two)} only in the first, {len(two - one)} only in the second"
        )

    def _panel(self, rows: IntArray, metric: str) -> Panel:
        values = self._numbers(COLUMNS.get(metric, OUTCOME + metric), rows)
        weights = np.ones(rows.shape[1])
        if metric == "nll":
            tokens = self._numbers("num_tokens", rows)
            if (tokens != tokens[0]).any() or (tokens <= 0).any():
                raise ValueError("items.num_tokens is not the same positive number in all cells")
            values, weights = -values, tokens[0]
        codes = self._codes[rows[0]]
        return Panel(
            values=values,
            weights=weights,
            groups=tuple(self._groups),
            group_codes=self._group_codes[codes],
            clusters=self._clusters,
            cluster_codes=self._cluster_codes[codes],
        )

    def _numbers(self, column: str, rows: IntArray) -> FloatArray:
        series = self._items[column].iloc[rows.ravel()]
        numbers = series.to_numpy(dtype=np.float64, na_value=np.nan).reshape(rows.shape)
        bad = ~np.isfinite(numbers).all(axis=1)
        if bad.any():
            cell = self._items["cell_key"].iloc[rows[int(np.argmax(bad)), 0]]
            raise ValueError(f"items.{column} of cell {cell} holds missing or non-finite values")
        return numbers


def block_sums(panel: Panel, baseline: int | None) -> BlockSums:
    """Add up one metric, as it is and as differences from the cell in a row."""
    differences = [] if baseline is None else panel.minus(baseline).sums()
    return BlockSums(panel.sums(), differences)


def with_outcomes(items: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Give items a column for every further metric that is a mean over items, null where absent.

    Args:
        items: rows of the table ``items``.
        outcomes: rows of the table ``outcomes``.
    """
    averaged = outcomes[outcomes["averaged"].astype(bool)]
    if averaged.empty:
        return items
    place = ["cell_key", "item_id"]
    wide = averaged.pivot(index=place, columns="metric", values="value").add_prefix(OUTCOME)
    return items.merge(wide, left_on=place, right_index=True, how="left")


def _factorise(items: pd.DataFrame, column: str) -> tuple[IntArray, list[str]]:
    """Number the values of a column in sorted order."""
    codes, uniques = pd.factorize(items[column], sort=True)
    if (codes < 0).any():
        raise ValueError(f"items.{column} holds missing values")
    return codes.astype(np.int64), [str(value) for value in uniques]


def _added(totals: FloatArray, places: IntArray, num_clusters: int) -> FloatArray:
    """Add up the strata of each cluster over groups."""
    added = np.zeros((num_clusters, *totals.shape[1:]))
    np.add.at(added, places, totals)
    return added


def _within(whole: GroupSums, part: GroupSums, places: IntArray) -> GroupSums:
    """Give a group the clusters of the whole, and the whole itself to be measured from."""
    return replace(
        part,
        numerators=_added(part.numerators, places, len(whole.denominators)),
        denominators=_added(part.denominators, places, len(whole.denominators)),
        clusters=whole.clusters,
        whole=whole,
    )
