import numpy as np
import pandas as pd

from sweeper.neurons.labels import firing_labels, ngram_labels, routing_labels


def test_dead_and_positional_neurons_are_those_of_all_corpora_together():
    rng = np.random.default_rng(0)
    layer, neuron = np.divmod(rng.permutation(60), 20)
    parts = []
    active = dict.fromkeys(zip(layer.tolist(), neuron.tolist(), strict=True), 0)
    for corpus in ("wiki", "code"):
        counts = rng.integers(0, 2, size=60)
        for place, count in zip(active, counts.tolist(), strict=True):
            active[place] += count
        parts.append(
            pd.DataFrame({"corpus": corpus, "layer": layer, "neuron": neuron, "active": counts})
        )
    together = parts[0].assign(corpus="all", active=list(active.values()))
    table = pd.concat([*parts, together], ignore_index=True)
    table["positional"] = (table["neuron"] % 7 == 0) & (table["corpus"] != "code")
    table = table.astype({"layer": np.int32, "neuron": np.int32})

    found = firing_labels(table)
    assert found.keys() == {"dead", "positional"}
    dead = {place for place, count in active.items() if count == 0}
    assert 0 < len(dead) < len(parts[0].query("active == 0"))
    assert pairs(found["dead"]) == dead
    assert found["positional"] == dict.fromkeys(range(3), (0, 7, 14))
    # The tuples go into keys, as plain numbers.
    assert {type(one) for members in found["dead"].values() for one in members} == {int}
    assert all(members == tuple(sorted(members)) for members in found["dead"].values())


def pairs(neurons) -> set[tuple[int, int]]:
    return {(layer, neuron) for layer, members in neurons.items() for neuron in members}


def test_detectors_by_the_length_of_their_ngrams():
    table = pd.DataFrame(
        [(0, 5, 1, True), (0, 3, 1, True), (0, 3, 3, True), (2, 1, 1, False), (2, 1, 3, True)],
        columns=["layer", "neuron", "n", "detector"],
    )
    assert ngram_labels(table) == {
        "token_detector": {0: (3, 5)},
        "bigram_detector": {},
        "trigram_detector": {0: (3,), 2: (1,)},
    }
    assert set(map(len, ngram_labels(table.iloc[:0]).values())) == {0}


def test_roles_of_all_layers():
    table = pd.DataFrame(
        [
            (1, 9, "handler"),
            (1, 4, "consensus"),
            (1, 2, "consensus"),
            (3, 4, "handler"),
            (3, 7, "consensus"),
            (0, 6, "gateway"),
            (0, 6, "candidate"),
            (0, 8, "candidate"),
        ],
        columns=["layer", "neuron", "role"],
    )
    assert routing_labels(table) == {
        "consensus": {1: (2, 4), 3: (7,)},
        "handler": {1: (9,), 3: (4,)},
        "gateway": {0: (6,)},
    }
    assert routing_labels(table.iloc[:0]) == {"consensus": {}, "handler": {}, "gateway": {}}
