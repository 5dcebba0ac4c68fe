"""The firing census finds what a model was built to do, and nothing else."""

from collections import Counter

import numpy as np
import pytest
from planted.firing_model import LENGTH, build_firing_model, texts
from tiny_models import load_folder, save_tokenizer

from sweeper.neurons.detectors import MOST, ensembles, find_detectors
from sweeper.neurons.firing import firing_of
from sweeper.neurons.ngram_pass import activations_after, ngram_counts
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
    counts = ngram_counts(model, rows, range(WINDOWS), budget, 0.0, firing, rules)
    return truth, model, rows, firing, counts


def detectors_of(found, layer, n):
    _, _, rows, firing, counts = found
    ids = ngram_ids(rows, n, VOCABULARY)
    occurrences = Counter(ids[ids >= 0].tolist())
    activations = activations_after(firing[layer], n)
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
    table = positional_types(firing[layer].frequency_by_position())
    positional = table[table["positional"]]
    kinds = zip(positional["type"], positional["strong"], strict=True)
    assert dict(zip(positional.index, kinds, strict=True)) == truth.positional[layer]


def test_the_ensemble(found):
    truth = found[0]
    table = ensembles([detectors_of(found, layer, 1).covered["ngram"] for layer in (0, 1)])
    tokens = [set().union(*truth.detectors[layer].values()) for layer in (0, 1)]
    assert table["covered"].tolist() == [len(of_layer) for of_layer in tokens]
    assert table["cumulative"].tolist() == [len(tokens[0]), len(tokens[0] | tokens[1])]
    assert table["new"].tolist() == [len(tokens[0]), len(tokens[1] - tokens[0])]
