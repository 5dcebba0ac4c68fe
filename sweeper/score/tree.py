"""The prefix tree of token rows: each distinct prefix stands once.

Nodes are numbered depth first, so that a node's descendants follow it without a gap: ``k`` is an
ancestor of ``q``, or ``q`` itself, exactly if ``k <= q < end[k]``.

Shapes: ``R`` rows, ``N`` nodes, ``L`` tokens of all rows together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweeper.score.tokens import Row

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixTree:
    """All rows as paths from a root; the forest of their distinct prefixes."""

    tokens: Ints
    """(N,): token of each node."""
    parents: Ints
    """(N,): the node of the prefix without the last token; -1 for a first token."""
    depths: Ints
    """(N,): position of the node's token in its rows."""
    paths: Ints
    """(L,): the nodes of each row, row after row in the order in which the rows were given."""
    starts: Ints
    """(R + 1,): where the path of each row begins in ``paths``."""

    @property
    def num_nodes(self) -> int:
        """Number of distinct prefixes."""
        return len(self.tokens)

    def path(self, row: int) -> Ints:
        """Nodes of a row, one per token."""
        return self.paths[self.starts[row] : self.starts[row + 1]]


def build_tree(rows: Sequence[Row], *, share: bool = True) -> PrefixTree:
    """Merge the equal prefixes of rows; the order of the rows does not matter to the nodes.

    Args:
        rows: token ids; none is empty.
        share: merge equal prefixes; without, every row is a path of its own.
    """
    arrays = [np.asarray(row, np.int64) for row in rows]
    order = sorted(range(len(rows)), key=lambda index: rows[index])
    starts = np.cumsum([0, *(len(row) for row in arrays)])
    paths = np.empty(starts[-1], np.int64)
    tokens, parents, depths = [], [], []
    num_nodes, previous, above = 0, np.empty(0, np.int64), np.empty(0, np.int64)
    for index in order:
        row = arrays[index]
        shared = _common_prefix(previous, row) if share else 0
        fresh = np.arange(num_nodes, num_nodes + len(row) - shared)
        path = np.concatenate([above[:shared], fresh])
        tokens.append(row[shared:])
        parents.append(np.concatenate([path[shared - 1 : shared] if shared else [-1], fresh])[:-1])
        depths.append(np.arange(shared, len(row)))
        paths[starts[index] : starts[index + 1]] = path
        num_nodes += len(fresh)
        previous, above = row, path
    return PrefixTree(
        tokens=_joined(tokens),
        parents=_joined(parents),
        depths=_joined(depths),
        paths=paths,
        starts=starts,
    )


def _common_prefix(a: Ints, b: Ints) -> int:
    size = min(len(a), len(b))
    differs = a[:size] != b[:size]
    first = int(differs.argmax()) if size else 0
    return first if size and differs[first] else size


def _joined(parts: list[Ints]) -> Ints:
    return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, np.int64)
