from collections import Counter

import numpy as np
import pytest
import torch

from sweeper.neurons.firing import firing_of
from sweeper.neurons.ngram_pass import activations_after, ngram_counts
from sweeper.neurons.ngrams import Rule, tokens_of
from sweeper.score.memory import TokenBudget

LENGTH, THRESHOLD = 10, 0.3
RULES = {1: Rule(4, cover=0.8), 2: Rule(6, cover=0.8), 3: Rule(9, cover=0.8)}


def windows(num=8):
    rng = np.random.default_rng(0)
    return [rng.integers(3, 9, size=LENGTH).tolist() for _ in range(num)]


def triggers(model, rows, layer, n):
    """Neuron -> counter of n-grams, from plain hooks on one window at a time."""
    kept, site = [], model.sites[layer]
    handle = site.activation.register_forward_hook(lambda _m, _i, o: kept.append(o.clone()))
    with torch.inference_mode():
        for row in rows:
            model.model(input_ids=torch.tensor([row]))
    handle.remove()
    counts = [Counter() for _ in range(site.size)]
    for row, values in zip(rows, kept, strict=True):
        active = values.view(LENGTH, -1).numpy() > THRESHOLD
        for end in range(n - 1, LENGTH):
            for neuron in np.flatnonzero(active[end]):
                counts[neuron][tuple(row[end - n + 1 : end + 1])] += 1
    return counts


def test_equals_plain_hooks(tiny_model):
    model, rows = tiny_model("opt"), windows()
    budget = TokenBudget(30)
    firing = firing_of(model, rows, range(8), budget, THRESHOLD, LENGTH)
    found = ngram_counts(model, rows, range(8), budget, THRESHOLD, firing, RULES)
    explained = 0
    for layer, of_layer in enumerate(found):
        for n, counts in of_layer.items():
            rule = RULES[n]
            for neuron, counter in enumerate(triggers(model, rows, layer, n)):
                total = sum(counter.values())
                top = sum(count for _, count in counter.most_common(rule.most))
                assert counts.kept[neuron] == (total > 0 and top >= rule.cover * total - 1e-9)
                if counts.kept[neuron]:
                    pairs = counts.pairs[counts.pairs["neuron"] == neuron]
                    tokens = tokens_of(pairs["ngram"].to_numpy(), n, 128).tolist()
                    assert {tuple(t): c for t, c in zip(tokens, pairs["count"], strict=True)} == (
                        dict(counter)
                    )
                    explained += 1
    assert explained > 5


def test_parts_of_the_text_merge(tiny_model):
    model, rows = tiny_model("opt"), windows()
    firing = firing_of(model, rows, range(8), TokenBudget(100), THRESHOLD, LENGTH)
    whole, first, second = (
        ngram_counts(model, rows, part, TokenBudget(40), THRESHOLD, firing, RULES)
        for part in (range(8), range(3), range(3, 8))
    )
    for all_of_it, one, other in zip(whole, first, second, strict=True):
        for n in RULES:
            merged = one[n].merged(other[n])
            np.testing.assert_array_equal(merged.kept, all_of_it[n].kept)
            assert merged.pairs.equals(all_of_it[n].pairs)


def test_short_windows_have_no_positions(tiny_model):
    model, rows = tiny_model("opt"), [*windows(), [3, 4, 5]]
    (firing, *_) = firing_of(model, rows, range(9), TokenBudget(100), THRESHOLD, LENGTH)
    with pytest.raises(ValueError, match="full length"):
        activations_after(firing, 2)
