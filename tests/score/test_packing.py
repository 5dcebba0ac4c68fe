import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.score.packing import batches, pack
from sweeper.score.texts import Texts

texts_of = st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=9), min_size=1, max_size=25)


def seen(batch, row, place):
    """Places that a place attends to, by the mask's rule."""
    return [k for k in range(place + 1) if place < batch.ends_BT[row, k]]


@settings(derandomize=True, deadline=None)
@given(texts_of, st.integers(1, 40), st.integers(1, 80), st.booleans())
def test_each_node_is_computed_once_after_exactly_its_own_prefix(rows, length, positions, share):
    packing = pack(Texts(rows=rows), share=share)
    prefixes = {tuple(row[:end]) for row in rows for end in range(1, len(row))}
    counted, scored = [], []
    for _, batch in batches(packing, packing.cut(length, positions), positions):
        for row, place in zip(*np.nonzero(batch.counted_BT), strict=True):
            path = seen(batch, row, place)
            assert batch.positions_BT[row, path].tolist() == list(range(len(path)))
            counted.append(tuple(batch.tokens_BT[row, path].tolist()))
        if batch.plain:  # attends to everything before
            width = batch.tokens_BT.shape[1]
            for row, place in zip(*np.nonzero(batch.counted_BT), strict=True):
                assert seen(batch, row, place) == list(range(place + 1))
                assert place < width
        wanted = batch.scored
        assert not len(batch.relative.edges)
        scored += wanted.edges.tolist()
        before = wanted.heads[wanted.edge_heads]
        assert (np.diff(wanted.edge_heads) >= 0).all()
        for edge, place in zip(wanted.edges, before, strict=True):
            row, place = divmod(int(place), batch.tokens_BT.shape[1])
            prefix = batch.tokens_BT[row, seen(batch, row, place)].tolist()
            texts = [packing.tree.path(i).tolist() for i in range(len(rows))]
            index, path = next((i, p) for i, p in enumerate(texts) if edge in p)
            assert prefix == rows[index][: path.index(edge)]
    assert set(counted) == prefixes
    if share:
        assert len(counted) == len(prefixes)
    first = np.flatnonzero(packing.tree.parents == -1)
    assert sorted([*scored, *first.tolist()]) == list(range(packing.tree.num_nodes))


@settings(derandomize=True, deadline=None)
@given(texts_of, st.integers(20, 60), st.integers(1, 19))
def test_rows_cut_again_hold_the_same_nodes(rows, length, shorter):
    packing = pack(Texts(rows=rows))
    again = packing.cut_again(packing.cut(length, length), shorter, shorter)
    nodes = sorted(node for row in again for node in range(row.begin, row.end))
    assert nodes == list(range(len(packing.inputs)))
    assert max(row.length for row in again) <= max(shorter, *map(len, rows))


def test_a_long_common_context_is_not_repeated_for_every_end():
    context = list(range(300))
    rows = [[*context, 1000 + end, 7, 7] for end in range(20)]
    packing = pack(Texts(rows=rows, starts=[300] * 20))
    (row,) = packing.cut(128, 2048)
    assert row.length == 300 + 20 * 2
    (_, batch), *rest = batches(packing, [row], 128)
    assert not rest
    # The head runs after the context and after two tokens of each end, not inside the context.
    assert len(batch.scored.heads) == 1 + 20 * 2


def test_windows_of_running_text_need_no_mask():
    rng = np.random.default_rng(0)
    rows = [rng.integers(10_000, size=65).tolist() for _ in range(5)]
    packing = pack(Texts(rows=rows))
    made = [batch for _, batch in batches(packing, packing.cut(50, 128), 128)]
    assert [batch.tokens_BT.shape for batch in made] == [(2, 64), (2, 64), (1, 64)]
    assert all(batch.plain for batch in made)


@pytest.mark.parametrize("share", [True, False])
def test_no_texts_no_rows(share):
    assert pack(Texts(rows=[]), share=share).cut(10, 10) == []


@settings(derandomize=True, deadline=None)
@given(texts_of, st.integers(1, 40), st.data())
def test_relative_edges_are_those_that_are_first_scored_wherever_they_stand(rows, length, data):
    starts = [data.draw(st.integers(1, len(row) - 1)) for row in rows]
    compared = [data.draw(st.booleans()) for _ in rows]
    packing = pack(Texts(rows=rows, starts=starts, relative=compared))
    each = list(zip(rows, starts, compared, strict=True))
    ranges = [(row, range(start + only, len(row))) for row, start, only in each]
    inside = {tuple(row[:end]) for row, ends in ranges for end in ends}
    relative, scored = set(), set()
    for _, batch in batches(packing, packing.cut(length, length), length):
        for found, wanted in ((scored, batch.scored), (relative, batch.relative)):
            for place in wanted.heads.tolist():
                row, column = divmod(place, batch.tokens_BT.shape[1])
                found.add(tuple(batch.tokens_BT[row, seen(batch, row, column)].tolist()))
    first = {tuple(row[:start]) for row, start, only in each if only}
    assert scored == inside
    assert relative == first - inside


def test_a_few_short_rows_at_the_end_are_padded_rather_than_apart():
    rows = [list(range(start, start + length)) for start, length in ((0, 41), (100, 41), (200, 31))]
    packing = pack(Texts(rows=rows))
    shapes = [b.tokens_BT.shape for _, b in batches(packing, packing.cut(40, 400), 400)]
    assert shapes == [(3, 40)]
    shapes = [b.tokens_BT.shape for _, b in batches(packing, packing.cut(40, 400), 100)]
    assert shapes == [(2, 40), (1, 30)]
