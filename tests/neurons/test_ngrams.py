from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.neurons.ngrams import NgramCounts, Rule, ngram_ids, num_to_cover, tokens_of
from sweeper.neurons.packed_firing import pack_ngrams, unpack_ngrams

VOCABULARY = 7


def brute_force(windows, active, n):
    """Neuron -> counter of the n-grams (tuples) that end where it is active."""
    counts = [Counter() for _ in range(active.shape[1])]
    place = 0
    for window in windows:
        for end in range(len(window)):
            if end + 1 >= n:
                for neuron in np.flatnonzero(active[place]):
                    counts[neuron][tuple(window[end + 1 - n : end + 1])] += 1
            place += 1
    return counts


def draw(seed, num_windows=6, length=40, num_neurons=12):
    """Random text; some neurons follow a few n-grams, with noise, the others fire at random."""
    rng = np.random.default_rng(seed)
    windows = rng.choice(
        VOCABULARY, size=(num_windows, length), p=[0.4, 0.2, 0.2, 0.1, 0.05, 0.03, 0.02]
    )
    flat = windows.ravel()
    active = rng.random((flat.size, num_neurons)) < 0.2
    for neuron in range(num_neurons // 2):
        active[:, neuron] = flat == neuron
        noise = rng.random(flat.size) < 0.01 * neuron
        active[:, neuron] |= noise
    active[:, -1] = False
    return windows.tolist(), active


def take(counts, active, ids):
    places, neurons = np.nonzero(active)
    counts.take(neurons, ids[places])


def counted(windows, active, n, rule, batches):
    ids = ngram_ids(windows, n, VOCABULARY)
    activations = (active & (ids >= 0)[:, None]).sum(0)
    counts = NgramCounts(activations, rule)
    for part in np.array_split(np.arange(len(ids)), batches):
        take(counts, active[part], ids[part])
    return counts, activations


@pytest.mark.parametrize("n", [1, 2, 3])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), most=st.integers(1, 9), batches=st.integers(1, 9))
def test_equals_brute_force(n, seed, most, batches):
    windows, active = draw(seed)
    counts, activations = counted(windows, active, n, Rule(most), batches)
    expected = brute_force(windows, active, n)
    found = counts.pairs
    to_cover = num_to_cover(found, activations, 0.95)
    for neuron, counter in enumerate(expected):
        total = sum(counter.values())
        assert total == activations[neuron]
        top = sum(count for _, count in counter.most_common(most))
        explained = total > 0 and top >= 0.95 * total - 1e-9
        assert counts.kept[neuron] == explained
        rows = found[found["neuron"] == neuron]
        if not explained:
            assert rows.empty
            assert to_cover[neuron] == 0
            continue
        tokens = map(tuple, tokens_of(rows["ngram"].to_numpy(), n, VOCABULARY).tolist())
        assert dict(zip(tokens, rows["count"], strict=True)) == dict(counter)
        needed = np.cumsum([count for _, count in counter.most_common()]) >= 0.95 * total - 1e-9
        assert to_cover[neuron] == np.argmax(needed) + 1


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_parts_merge_to_the_whole(seed):
    windows, active = draw(seed)
    rule, half = Rule(3), len(windows) // 2
    whole, activations = counted(windows, active, 2, rule, 1)
    place = sum(map(len, windows[:half]))
    parts = []
    for some, rows in ((windows[:half], active[:place]), (windows[half:], active[place:])):
        part = NgramCounts(activations, rule)
        take(part, rows, ngram_ids(some, 2, VOCABULARY))
        parts.append(part)
    merged = NgramCounts(activations, rule)
    for part in parts:
        merged.join(part.state)
    np.testing.assert_array_equal(merged.kept, whole.kept)
    assert merged.pairs.equals(whole.pairs)


def test_memory_is_bounded():
    windows, active = draw(0, num_windows=40, length=100)
    rule = Rule(2)
    ids = ngram_ids(windows, 3, VOCABULARY)
    activations = (active & (ids >= 0)[:, None]).sum(0)
    counts = NgramCounts(activations, rule)
    for part in np.array_split(np.arange(len(ids)), 20):
        take(counts, active[part], ids[part])
        held = counts.pairs.groupby("neuron").size()
        assert (held <= rule.most + rule.uncovered(activations)[held.index]).all()


def test_ngrams_stay_inside_a_window():
    assert ngram_ids([[1, 2], [3]], 2, VOCABULARY).tolist() == [-1, 1 * VOCABULARY + 2, -1]
    assert ngram_ids([], 2, VOCABULARY).tolist() == []


def test_special_tokens_are_part_of_no_ngram():
    special = np.array([0])
    windows = [[1, 0, 2, 3, 4]]
    of = {n: ngram_ids(windows, n, VOCABULARY, special) >= 0 for n in (1, 2, 3)}
    assert of[1].tolist() == [True, False, True, True, True]
    assert of[2].tolist() == [False, False, False, True, True]
    assert of[3].tolist() == [False, False, False, False, True]
    assert ngram_ids([[1, 2]], 3, VOCABULARY, special).tolist() == [-1, -1]


def test_counts_as_bytes():
    windows, active = draw(0)
    counts, _ = counted(windows, active, 2, Rule(3), 2)
    found = unpack_ngrams(pack_ngrams(counts.state))
    np.testing.assert_array_equal(found.neurons, counts.kept)
    assert found.pairs.neurons.dtype == found.pairs.ngrams.dtype == np.int64
    for name in ("neurons", "ngrams", "counts"):
        np.testing.assert_array_equal(getattr(found.pairs, name), getattr(counts.state.pairs, name))


def test_too_many_ngrams():
    with pytest.raises(ValueError, match="64 bits"):
        ngram_ids([[1]], 4, 2**16)
