from collections import Counter

import numpy as np
import pytest
import torch

from sweeper.models.families import FAMILIES
from sweeper.neurons.firing import FirstPass, firing_of
from sweeper.neurons.ngram_pass import ngram_counts
from sweeper.neurons.ngrams import NgramCounts, Rule, tokens_of
from sweeper.neurons.packed_firing import pack_ngrams, unpack_ngrams
from sweeper.score.memory import TokenBudget

LENGTH, THRESHOLD = 10, 0.3
RULES = {1: Rule(4, cover=0.8), 2: Rule(6, cover=0.8), 3: Rule(9, cover=0.8)}


def windows(num=8):
    """A few tokens, and a special one (0) now and then."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(3, 9, size=(num, LENGTH))
    drawn[rng.random(drawn.shape) < 0.1] = 0
    return drawn.tolist()


def first_pass(model, rows):
    firing = firing_of(model, rows, range(8), TokenBudget(30), THRESHOLD, LENGTH)
    return [of_layer.first_pass(0.8) for of_layer in firing]


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
                if 0 not in row[end - n + 1 : end + 1]:
                    counts[neuron][tuple(row[end - n + 1 : end + 1])] += 1
    return counts


def test_equals_plain_hooks(tiny_model):
    model, rows = tiny_model("opt"), windows()
    budget, known = TokenBudget(30), first_pass(model, rows)
    found = ngram_counts(model, rows, range(8), budget, THRESHOLD, known, RULES)
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
    known = first_pass(model, rows)
    whole, first, second = (
        ngram_counts(model, rows, part, TokenBudget(40), THRESHOLD, known, RULES)
        for part in (range(8), range(3), range(3, 8))
    )
    for all_of_it, one, other, of_layer in zip(whole, first, second, known, strict=True):
        for n in RULES:
            merged = NgramCounts(of_layer.activations[n - 1], RULES[n])
            for part in (one[n].state, other[n].state):
                merged.join(unpack_ngrams(pack_ngrams(part)))
            np.testing.assert_array_equal(merged.kept, all_of_it[n].kept)
            assert merged.pairs.equals(all_of_it[n].pairs)


GATED = sorted(name for name, family in FAMILIES.items() if family.gated)


def factors(model, rows, layer):
    """(neuron, token) -> sum of the factors where it is active: from what enters the output map."""
    kept, site, sums = {"act": [], "units": []}, model.sites[layer], Counter()
    handles = [
        site.activation.register_forward_hook(lambda _m, _i, o: kept["act"].append(o[0].clone())),
        site.output.register_forward_pre_hook(lambda _m, i: kept["units"].append(i[0][0].clone())),
    ]
    with torch.inference_mode():
        for row in rows:
            model.model(input_ids=torch.tensor([row]))
    for handle in handles:
        handle.remove()
    for row, act, units in zip(rows, kept["act"], kept["units"], strict=True):
        for place, neuron in (act > THRESHOLD).nonzero().tolist():
            if row[place] != 0:
                sums[neuron, row[place]] += float(units[place, neuron] / act[place, neuron])
    return sums


@pytest.mark.parametrize("model_type", GATED)
def test_factors_are_those_of_the_gates(tiny_model, model_type):
    model, rows = tiny_model(model_type), windows()
    known, rules = first_pass(model, rows), {1: Rule(99), 2: Rule(99)}
    found = ngram_counts(model, rows, range(8), TokenBudget(30), THRESHOLD, known, rules)
    signs = set()
    for layer, counts in enumerate(found):
        expected = factors(model, rows, layer)
        pairs = counts[1].pairs
        assert len(pairs) == len(expected) > 0
        for neuron, token, total in zip(
            pairs["neuron"], pairs["ngram"], pairs["factors"], strict=True
        ):
            assert total == pytest.approx(expected[neuron, token], rel=1e-3, abs=1e-4)
            signs.add(total > 0)
        assert "factors" not in counts[2].pairs
    assert signs == {True, False}


def test_without_gates_there_are_no_factors(tiny_model):
    model, rows = tiny_model("opt"), windows()
    known = first_pass(model, rows)
    found = ngram_counts(model, rows, range(8), TokenBudget(30), THRESHOLD, known, {1: Rule(99)})
    assert all(len(of[1].pairs) and "factors" not in of[1].pairs for of in found)


def test_a_factor_that_is_no_number_is_an_error(tiny_model):
    model, rows = tiny_model("llama"), windows()
    known = first_pass(model, rows)
    handle = model.sites[1].factor.register_forward_hook(lambda _m, _i, o: o.fill_(float("inf")))
    try:
        with pytest.raises(FloatingPointError, match="layer 1: a factor is NaN or infinite"):
            ngram_counts(model, rows, range(8), TokenBudget(30), THRESHOLD, known, {1: Rule(99)})
    finally:
        handle.remove()


def test_factors_are_summed_once_after_memory_has_run_out(tiny_model):
    """Memory runs out at a gate: its windows are counted once both it and its factor are there."""
    model, rows = tiny_model("llama"), windows()
    known, calls = first_pass(model, rows), []
    args = (model, rows, range(8))
    expected = ngram_counts(*args, TokenBudget(80), THRESHOLD, known, {1: Rule(99)})

    def short_of_memory(_module, _inputs, _output):
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("out of memory")

    handle = model.sites[1].pre_activation.register_forward_hook(short_of_memory)
    budget = TokenBudget(80)
    try:
        found = ngram_counts(*args, budget, THRESHOLD, known, {1: Rule(99)})
    finally:
        handle.remove()
    assert budget.positions < 80
    for one, other in zip(found, expected, strict=True):
        exact = ["neuron", "ngram", "count"]
        assert one[1].pairs[exact].equals(other[1].pairs[exact])
        np.testing.assert_allclose(one[1].pairs["factors"], other[1].pairs["factors"], rtol=1e-4)


def test_what_the_first_pass_gives_up_would_be_given_up_anyway(tiny_model):
    model, rows = tiny_model("gpt2"), windows()
    known = first_pass(model, rows)
    unknown = [FirstPass(one.activations, np.minimum(one.least, 1)) for one in known]
    early, late = (
        ngram_counts(model, rows, range(8), TokenBudget(30), THRESHOLD, some, RULES)
        for some in (known, unknown)
    )
    spared = 0
    for one, other, of_layer in zip(early, late, known, strict=True):
        for n, rule in RULES.items():
            np.testing.assert_array_equal(one[n].kept, other[n].kept)
            assert one[n].pairs.equals(other[n].pairs)
            spared += (of_layer.least[n - 1] > rule.most).sum()
    assert spared > 0


def test_nothing_is_read_where_nobody_is_explained(tiny_model):
    model, rows = tiny_model("opt"), windows()
    hopeless = [
        FirstPass(one.activations, np.full_like(one.least, 99)) for one in first_pass(model, rows)
    ]
    handle = model.layers[0].register_forward_hook(lambda *_: pytest.fail("a forward pass"))
    try:
        found = ngram_counts(model, rows, range(8), TokenBudget(30), 0.0, hopeless, RULES)
    finally:
        handle.remove()
    assert not any(counts.kept.any() for of_layer in found for counts in of_layer.values())
