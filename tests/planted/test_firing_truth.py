"""The firing census finds what a model was built to do, and nothing else."""

from collections import Counter

import numpy as np
import pytest
from planted.firing_model import LENGTH, build_firing_model, texts
from tiny_models import load_folder, save_tokenizer

from sweeper.neurons.detectors import MOST, find_detectors
from sweeper.neurons.firing import firing_of
from sweeper.neurons.ngram_pass import ngram_counts
from sweeper.neurons.ngrams import Rule, ngram_ids, num_to_cover, tokens_of
from sweeper.neurons.positional import positional_types
from sweeper.neurons.projection import projections, suppression
from sweeper.score.memory import TokenBudget

WINDOWS, VOCABULARY = 400, 80


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Truth, model, text, and what both passes of the census gather."""
    folder = tmp_path_factory.mktemp("firing")
    truth = build_firing_model(folder)
    save_tokenizer(folder)
    model, rows = load_folder("opt", folder), texts(WINDOWS, seed=1)
    budget = TokenBudget(4096)
    firing = firing_of(model, rows, range(WINDOWS), budget, 0.0, LENGTH)
    rules = {n: Rule(most) for n, most in MOST.items() if n < 3}
    known = [of_layer.first_pass(0.95) for of_layer in firing]
    counts = ngram_counts(model, rows, range(WINDOWS), budget, 0.0, known, rules)
    return truth, model, rows, firing, counts


def detectors_of(found, layer, n):
    _, _, rows, firing, counts = found
    ids = ngram_ids(rows, n, VOCABULARY)
    occurrences = Counter(ids[ids >= 0].tolist())
    activations = firing[layer].first_pass(0.95).activations[n - 1]
    pairs = counts[layer][n].pairs
    to_cover = num_to_cover(pairs, activations, 0.95)
    return find_detectors(pairs, activations, to_cover, occurrences, MOST[n])


@pytest.mark.parametrize("layer", [0, 1])
def test_dead_neurons(found, layer):
    truth, _, _, firing, _ = found
    assert set(np.flatnonzero(firing[layer].active.numpy() == 0)) == truth.dead[layer]


@pytest.mark.parametrize("layer", [0, 1])
def test_token_detectors_and_what_they_cover(found, layer):
    truth, detectors = found[0], detectors_of(found, layer, 1)
    covered = detectors.covered.groupby("neuron")["ngram"].agg(set).to_dict()
    assert covered == truth.detectors[layer]


@pytest.mark.parametrize("layer", [0, 1])
def test_bigram_detectors(found, layer):
    truth, detectors = found[0], detectors_of(found, layer, 2)
    pairs = tokens_of(detectors.covered["ngram"].to_numpy(), 2, VOCABULARY)
    covered = dict(zip(detectors.covered["neuron"], map(tuple, pairs.tolist()), strict=True))
    assert covered == truth.bigrams[layer]


@pytest.mark.parametrize("layer", [0, 1])
def test_which_detectors_suppress(found, layer):
    truth, model, *_ = found
    detectors = detectors_of(found, layer, 1)
    neurons = detectors.neurons.tolist()
    table = suppression(projections(model, layer, neurons), neurons, detectors.covered)
    assert set(table.loc[table["suppresses"], "neuron"]) == truth.suppressing[layer]


@pytest.mark.parametrize("layer", [0, 1])
def test_positional_neurons_and_their_types(found, layer):
    truth, _, _, firing, _ = found
    of_layer = firing[layer]
    table = positional_types(of_layer.frequency_by_position(), of_layer.num_windows)
    positional = table[table["positional"]]
    kinds = zip(positional["type"], positional["strong"], strict=True)
    assert dict(zip(positional.index, kinds, strict=True)) == truth.positional[layer]
