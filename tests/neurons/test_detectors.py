from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.neurons.detectors import find_detectors
from sweeper.neurons.ngrams import NgramCounts, Rule, ngram_ids, num_to_cover

VOCABULARY = 6


def detectors_of(text, active, most):
    """The three rules of the definition, spelt out for each neuron."""
    occurrences, found = Counter(text), {}
    for neuron in range(active.shape[1]):
        triggers = Counter(token for token, on in zip(text, active[:, neuron], strict=True) if on)
        total = sum(triggers.values())
        if total == 0 or sum(c for _, c in triggers.most_common(most)) < 0.95 * total - 1e-9:
            continue
        covered = {t: c for t, c in triggers.items() if c >= 0.95 * occurrences[t] - 1e-9}
        if sum(covered.values()) >= 0.95 * total - 1e-9:
            found[neuron] = covered
    return found


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), most=st.integers(1, 4))
def test_equals_the_definition(seed, most):
    rng = np.random.default_rng(seed)
    text = rng.integers(VOCABULARY, size=200)
    active = np.zeros((200, 9), bool)
    for neuron in range(8):
        active[:, neuron] = np.isin(
            text, rng.choice(VOCABULARY, size=1 + neuron // 2, replace=False)
        )
        # Some miss occurrences, some have activations beside.
        active[:, neuron] ^= rng.random(200) < 0.01 * (neuron % 4)
    ids, activations = ngram_ids([text], 1, VOCABULARY), active.sum(0)
    counts = NgramCounts(activations, Rule(most))
    places, neurons = np.nonzero(active)
    counts.take(neurons, ids[places])
    to_cover = num_to_cover(counts.pairs, activations, 0.95)
    found = find_detectors(counts.pairs, activations, to_cover, Counter(text.tolist()), most)
    expected = detectors_of(text.tolist(), active, most)
    assert found.neurons.tolist() == sorted(expected)
    for neuron, covered in expected.items():
        rows = found.covered[found.covered["neuron"] == neuron]
        assert dict(zip(rows["ngram"], rows["count"], strict=True)) == covered
