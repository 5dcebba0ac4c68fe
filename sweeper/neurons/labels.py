"""Which neurons have which label, by the tables of the firing census and of routing. No torch here.

Labels: ``dead`` and ``positional`` by the firing over all corpora together, detectors by n-grams,
roles by routing.
"""

from collections.abc import Mapping

import pandas as pd

from sweeper.neurons.select import LayerNeurons
from sweeper.records import ALL_CORPORA

DETECTORS: Mapping[str, int] = {"token_detector": 1, "bigram_detector": 2, "trigram_detector": 3}
"""Label -> n."""

ROLES = ("consensus", "handler", "gateway")


def firing_labels(table: pd.DataFrame) -> dict[str, LayerNeurons]:
    """``dead`` (never active in any corpus) and ``positional`` neurons.

    Args:
        table: rows of the table ``firing``; those of single corpora are left out.
    """
    rows = table[table["corpus"] == ALL_CORPORA]
    return {
        "dead": _by_layer(rows[rows["active"] == 0]),
        "positional": _by_layer(rows[rows["positional"]]),
    }


def ngram_labels(table: pd.DataFrame) -> dict[str, LayerNeurons]:
    """Detectors of tokens, bigrams and trigrams; none of an n that was not counted.

    Args:
        table: rows of the table ``ngrams``.
    """
    rows = table[table["detector"]]
    return {label: _by_layer(rows[rows["n"] == n]) for label, n in DETECTORS.items()}


def routing_labels(table: pd.DataFrame) -> dict[str, LayerNeurons]:
    """Consensus neurons, exception handlers and gateways of all layers.

    Args:
        table: rows of the table ``routing_neurons``; candidates of a gateway have no label.
    """
    return {role: _by_layer(table[table["role"] == role]) for role in ROLES}


def _by_layer(rows: pd.DataFrame) -> LayerNeurons:
    members: dict[int, list[int]] = {}
    for layer, neuron in sorted(rows[["layer", "neuron"]].to_numpy().tolist()):
        members.setdefault(layer, []).append(neuron)
    return {layer: tuple(chosen) for layer, chosen in members.items()}
