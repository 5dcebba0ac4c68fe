import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.score.tree import build_tree

rows_of = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=8), max_size=20)


@settings(derandomize=True, deadline=None)
@given(rows_of)
def test_every_distinct_prefix_is_one_node(rows):
    tree = build_tree(rows)
    prefixes = {tuple(row[: end + 1]) for row in rows for end in range(len(row))}
    assert tree.num_nodes == len(prefixes)
    for index, row in enumerate(rows):
        path = tree.path(index)
        assert tree.tokens[path].tolist() == row
        assert tree.depths[path].tolist() == list(range(len(row)))
        assert tree.parents[path].tolist() == [-1, *path[:-1].tolist()]


@settings(derandomize=True, deadline=None)
@given(rows_of)
def test_descendants_follow_without_a_gap(rows):
    tree = build_tree(rows)
    for node in range(tree.num_nodes):
        below = {node}
        for other in range(node + 1, tree.num_nodes):
            if tree.parents[other] in below:
                below.add(other)
        assert sorted(below) == list(range(node, node + len(below)))


def test_without_sharing_every_row_is_a_path_of_its_own():
    tree = build_tree([[1, 2], [1, 2], [1]], share=False)
    assert tree.num_nodes == 5
    assert sorted(np.flatnonzero(tree.parents == -1).tolist()) == [0, 1, 3]
