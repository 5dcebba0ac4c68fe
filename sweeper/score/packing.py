"""From a prefix tree to batches: greedy rows of nodes, with tree attention.

A row holds a stretch of the tree's nodes in depth-first order, and in front of it the ancestors
of its first node. A node sees its ancestors and itself and has its own position. Where no node
has two children inside its row, the row is plain text and needs no mask.

Shapes: ``N`` input nodes, ``B`` rows of a batch, ``T`` places of a row, ``E`` scored edges.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sweeper.score.texts import Texts
from sweeper.score.tree import Ints, PrefixTree, build_tree

LOOK_BACK = 0.1
"""Part of a row's end in which the best place to cut is looked for."""

MOST_PADDING = 1 / 16
"""Rows that would be padded by more than this part are computed apart."""

SMALL_BATCH = 128
"""Places that are not worth a batch of their own: the last rows are rather padded by fewer."""

FEW_ROWS = 256
"""So many rows are cut evenly; among more, one short row does not matter."""

Kind = TypeVar("Kind", bound=np.generic)

SHARE_REPEATED = 8
"""A row is closed when it is full and the next one would repeat less than this part of its length
in ancestors; otherwise (many short ends of one long text) it may grow to twice its longest text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows for one forward pass, and what to read off its hidden states."""

    tokens_BT: Ints
    positions_BT: Ints
    ends_BT: Ints
    """One past the last descendant's place in the row."""
    counted_BT: NDArray[np.bool_]
    """Places that stand for their node: not padding, and no ancestor repeated from another row."""
    plain: bool
    """Every row is one text from its first token on: causal attention, no mask."""
    scored: "Wanted"
    """Nodes whose log-probability is wanted."""
    relative: "Wanted"
    """Nodes that are only compared with others after the same place: their logits will do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Nodes of which something is to be read, and where."""

    heads: Ints
    """Places ``b * T + t`` after which the nodes stand."""
    edges: Ints
    """(E,): the nodes of the tree."""
    edge_heads: Ints
    """(E,): index into ``heads`` of the place before the node."""
    edge_tokens: Ints
    """(E,): token of the node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """The texts as a tree and its rows; independent of the model's weights and of conditions."""

    texts: Texts
    tree: PrefixTree
    inputs: Ints
    """(N,): nodes that are computed: those with a child. A text's last token is never one."""
    ends: Ints
    """(N,): index in ``inputs`` one past the last descendant."""
    edges: Ints
    """Nodes of the tree whose log-probability is wanted, in the order of ``edge_parents``."""
    edge_parents: Ints
    """Index in ``inputs`` of the node before each of them; never decreases."""
    edge_relative: NDArray[np.bool_]
    """Whether all that is wanted after the node before may be relative (``Texts.relative``)."""
    parents: Ints
    """(N,): index in ``inputs`` of the node before; -1 for a first token."""
    depths: Ints
    """(N,): position."""

    def cut(self, row_length: int, most: int) -> list["NodeRow"]:
        """All nodes in rows, the longest first and plain rows apart.

        Args:
            row_length: wanted places of a row; a longer text has a row of its own length.
            most: places that a row may grow to where the next one would repeat much of it.
        """
        return _sorted(_even_rows(self, row_length, most))

    def cut_again(self, rows: Sequence["NodeRow"], row_length: int, most: int) -> list["NodeRow"]:
        """Rows that turned out too long for the memory, as shorter ones."""
        parts = (_rows(self, row.begin, row.end, row_length, most) for row in rows)
        return _sorted(part for row in parts for part in row)

    def values(self, per_node: NDArray[Kind], row: int) -> NDArray[Kind]:
        """What belongs to a text's scored tokens, out of values for all nodes of the tree."""
        return per_node[self.tree.path(row)[self.texts.start(row) :]]


@dataclass(frozen=True, slots=True)
class NodeRow:
    """Input nodes ``begin`` to ``end``, after the ancestors of the first one."""

    ancestors: Ints
    begin: int
    end: int
    plain: bool

    @property
    def length(self) -> int:
        """Places of the row."""
        return len(self.ancestors) + self.end - self.begin


def pack(texts: Texts, *, share: bool = True) -> Packing:
    """Build the tree of the texts.

    Args:
        texts: checked texts.
        share: merge equal prefixes; without, every text is a tree and a row of its own.
    """
    tree = build_tree(texts.rows, share=share)
    num_nodes = tree.num_nodes
    is_input = np.zeros(num_nodes, bool)
    is_input[tree.parents[tree.parents >= 0]] = True
    inputs = np.flatnonzero(is_input)
    number = np.cumsum(is_input) - 1
    above = tree.parents[inputs]
    parents = np.where(above >= 0, number[above], -1)
    depths = tree.depths[inputs]
    edges, relative = _edges(texts, tree)
    return Packing(
        texts=texts,
        tree=tree,
        inputs=inputs,
        ends=_ends(parents, depths),
        edges=edges,
        edge_parents=number[tree.parents[edges]],
        edge_relative=relative,
        parents=parents,
        depths=depths,
    )


def _edges(texts: Texts, tree: PrefixTree) -> tuple[Ints, NDArray[np.bool_]]:
    """Scored nodes, sorted by their parents, and whether relative values will do."""
    scored = np.zeros(tree.num_nodes, bool)
    needs_head = np.zeros(tree.num_nodes, bool)
    for index in range(len(texts.rows)):
        path, start = tree.path(index), texts.start(index)
        scored[path[start:]] = True
        needs_head[path[start if texts.is_relative(index) else start - 1 : -1]] = True
    edges = np.flatnonzero(scored)
    edges = edges[np.argsort(tree.parents[edges], kind="stable")]
    return edges, ~needs_head[tree.parents[edges]]


def _ends(parents: Ints, depths: Ints) -> Ints:
    """One past the last descendant of each node: its own number and the size of its subtree."""
    sizes = np.ones(len(parents), np.int64)
    by_depth = np.argsort(depths, kind="stable")
    bounds = np.searchsorted(depths[by_depth], np.arange(1, depths.max(initial=0) + 2))
    for begin, end in zip(bounds[-2::-1], bounds[:0:-1], strict=True):
        level = by_depth[begin:end]
        np.add.at(sizes, parents[level], sizes[level])
    return np.arange(len(parents)) + sizes


def _sorted(rows: Iterable[NodeRow]) -> list[NodeRow]:
    return sorted(rows, key=lambda row: (row.plain, row.length), reverse=True)


def _even_rows(packing: Packing, row_length: int, most: int) -> list[NodeRow]:
    """Rows of about the same length: one short row would be padded to the length of the others."""
    whole = (0, len(packing.inputs))
    rows = list(_rows(packing, *whole, row_length, most))
    if len(rows) > FEW_ROWS:
        return rows
    # The smallest length that needs no more rows.
    low, high = row_length // 2, row_length
    while low + 1 < high:
        middle = (low + high) // 2
        tried = list(_rows(packing, *whole, middle, most))
        low, high = (low, middle) if len(tried) <= len(rows) else (middle, high)
        rows = tried if len(tried) <= len(rows) else rows
    return rows


def _rows(packing: Packing, first: int, stop: int, row_length: int, most: int) -> Iterator[NodeRow]:
    """Cut a stretch of nodes into rows; only between the end of one text and the next."""
    if first == stop:
        return
    # A node that does not follow its parent begins a new branch (or a new tree). The first one
    # may follow it, where the stretch was cut between siblings.
    follows = packing.parents[first:stop] == np.arange(first, stop) - 1
    follows[0] = False
    begins = first + np.flatnonzero(~follows)
    ends = np.append(begins[1:], stop)
    above = packing.depths[begins]
    index = 0
    while index < len(begins):
        after = _last_of_row(begins, ends, above, index, row_length, most)
        begin, end = int(begins[index]), int(ends[after - 1])
        yield NodeRow(_ancestors(packing.parents, begin), begin, end, after == index + 1)
        index = after


def _last_of_row(
    begins: Ints, ends: Ints, above: Ints, index: int, row_length: int, most: int
) -> int:
    """One past the last branch of the row that begins with branch ``index``."""
    before = int(begins[index] - above[index])
    after = max(int(np.searchsorted(ends, before + row_length, side="right")), index + 1)
    if after == len(ends):
        return after
    if above[after] * SHARE_REPEATED <= row_length:
        # A little earlier there may be a place where the next row has less to repeat.
        early = before + round(row_length * (1 - LOOK_BACK))
        since = max(int(np.searchsorted(begins, early)), index + 1)
        return after - int(np.argmin(above[since : after + 1][::-1])) if since < after else after
    texts = above[index:after] + ends[index:after] - begins[index:after]
    grown = min(2 * max(int(texts.max()), row_length), most)
    return max(int(np.searchsorted(ends, before + grown, side="right")), after)


def _ancestors(parents: Ints, node: int) -> Ints:
    found = []
    while (node := int(parents[node])) >= 0:
        found.append(node)
    return np.array(found[::-1], np.int64)


def batches(
    packing: Packing, rows: Sequence[NodeRow], max_positions: int
) -> Iterator[tuple[int, Batch]]:
    """Rows of like length together, in batches of about the same size.

    Args:
        packing: whose rows.
        rows: sorted rows (``Packing.cut``).
        max_positions: most places of a batch, padding included; a longer row is alone.

    Yields:
        Number of rows done once the batch is computed, and the batch.
    """
    done = 0
    # No small remainder at the end: a layer's weights are read for it all the same.
    num_batches = ceil(sum(row.length for row in rows) / max_positions)
    even = ceil(len(rows) / max(num_batches, 1))
    while done < len(rows):
        first = rows[done]
        most = max(min(max_positions // first.length, even), 1)
        chosen = [row for row in rows[done : done + most] if _alike(row, first)]
        rest = rows[done + len(chosen) :]
        places = (len(chosen) + len(rest)) * first.length
        if places <= max_positions and _padding(rest, first) < SMALL_BATCH:
            chosen += rest
        done += len(chosen)
        yield done, _batch(packing, chosen)


def _alike(row: NodeRow, longest: NodeRow) -> bool:
    return row.plain == longest.plain and row.length >= longest.length * (1 - MOST_PADDING)


def _padding(rows: Sequence[NodeRow], longest: NodeRow) -> int:
    return sum(longest.length - row.length for row in rows)


def _batch(packing: Packing, rows: Sequence[NodeRow]) -> Batch:
    tree, width = packing.tree, max(row.length for row in rows)
    shape = (len(rows), width)
    tokens, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    # A place without a node sees itself only.
    ends = np.tile(np.arange(1, width + 1), (len(rows), 1))
    counted = np.zeros(shape, bool)
    before, edges, relative = [], [], []
    for index, row in enumerate(rows):
        numbers = np.concatenate([row.ancestors, np.arange(row.begin, row.end)])
        nodes, above = packing.inputs[numbers], len(row.ancestors)
        tokens[index, : row.length] = tree.tokens[nodes]
        positions[index, : row.length] = tree.depths[nodes]
        last = np.minimum(packing.ends[numbers], row.end)
        ends[index, : row.length] = above + last - row.begin
        counted[index, above : row.length] = True
        # What follows an ancestor is scored in the row that the ancestor was first put into.
        first, stop = np.searchsorted(packing.edge_parents, (row.begin, row.end))
        edges.append(packing.edges[first:stop])
        places = packing.edge_parents[first:stop] - row.begin + above
        before.append(index * width + places)
        relative.append(packing.edge_relative[first:stop])
    wanted, after, compared = (
        np.concatenate(edges),
        np.concatenate(before),
        np.concatenate(relative),
    )
    return Batch(
        tokens_BT=tokens,
        positions_BT=positions,
        ends_BT=ends,
        counted_BT=counted,
        plain=all(row.plain for row in rows),
        scored=_wanted(tree, wanted[~compared], after[~compared]),
        relative=_wanted(tree, wanted[compared], after[compared]),
    )


def _wanted(tree: PrefixTree, edges: Ints, after: Ints) -> Wanted:
    heads, edge_heads = np.unique(after, return_inverse=True)
    return Wanted(heads=heads, edges=edges, edge_heads=edge_heads, edge_tokens=tree.tokens[edges])
