"""A made-up firing census: what two models' neurons do, drawn to look like the published ones."""

from typing import Any

import numpy as np
import pandas as pd

from sweeper.aggregate.firing import (
    detectors_by_layer,
    explained_by_layer,
    firing_by_layer,
    positional_by_layer,
    positional_neurons,
)
from sweeper.report.firing_data import FiringData

Frame = pd.DataFrame
CORPORA = ("wikipedia", "code", "europarl")
TYPES = ("oscillatory", "both_extremes", "one_extreme", "other")
WORDS = (" the", " of", "ing", "\n", " London", "(", " 1999", "ative", " because", "ß")


def firing_rows(
    layers: int, width: int, seed: int = 0, corpora: tuple[str, ...] = CORPORA
) -> Frame:
    """Rows of the table ``firing``: dead in the first half, positional in the first layers."""
    rng = np.random.default_rng(seed)
    frames = []
    layer = np.repeat(np.arange(layers), width)
    neuron = np.tile(np.arange(width), layers)
    depth = layer / layers
    dead = rng.random(len(layer)) < 0.7 * np.clip(1 - 2.2 * depth, 0, 1) * (depth > 0.05)
    rate = np.where(dead, 0.0, rng.beta(0.6, 9, len(layer)) * (0.3 + depth))
    tokens = 100_000
    for place, corpus in enumerate(corpora):
        quiet = rng.random(len(layer)) < 0.08 * place * (depth < 0.5)
        active = np.where(quiet, 0, np.ceil(rate * tokens)).astype(int)
        frames.append(_rows(corpus, layer, neuron, active, tokens))
    total = sum(frame["active"] for frame in frames)
    together = _rows("all", layer, neuron, total, tokens * len(corpora))
    information = rng.exponential(0.006, len(layer)) + (rng.random(len(layer)) < 0.04) * (
        rng.gamma(2, 0.08, len(layer)) * (1.2 - depth)
    )
    kinds = rng.choice(TYPES, len(layer), p=[0.2, 0.3, 0.3, 0.2])
    positional = (information > 0.05) & (together["active"] > 0).to_numpy()
    strong = positional & (rng.random(len(layer)) < 0.5) & (kinds != "other")
    together = together.assign(
        information=information,
        positional=positional,
        type=np.where(positional, kinds, None),
        strong=np.where(positional, strong, None),
    )
    return pd.concat([*frames, together], ignore_index=True)


def _rows(corpus: str, layer: Any, neuron: Any, active: Any, tokens: int) -> Frame:
    return pd.DataFrame(
        {
            "corpus": corpus,
            "layer": layer,
            "neuron": neuron,
            "active": active,
            "num_tokens": tokens,
            "num_windows": tokens // 1000,
            "information": 0.001,
            "positional": False,
            "type": None,
            "strong": None,
        }
    )


def curve_of(kind: str, length: int, rng: np.random.Generator) -> np.ndarray:
    """An activation frequency by position of a type."""
    place = np.arange(length)
    if kind == "oscillatory":
        return np.clip(0.5 + 0.7 * np.sin(place * (0.01 + 0.02 * rng.random())), 0, 1)
    if kind == "both_extremes":
        return np.clip((place - length * rng.uniform(0.2, 0.8)) / 80 + 0.5, 0, 1)
    if kind == "one_extreme":
        return np.clip(1 - place / (length * rng.uniform(0.1, 0.9)), 0, 0.7)
    return 0.3 + 0.15 * np.cos(place / 300) + rng.normal(0, 0.02, length)


def ngram_rows(layers: int, width: int, seed: int = 0) -> tuple[Frame, Frame, Frame]:
    """Rows of the tables ``ngrams``, ``detected`` and ``projections``."""
    rng = np.random.default_rng(seed)
    rows, detected, projected = [], [], []
    for layer in range(layers):
        early = max(0.0, 1 - 2 * layer / layers)
        for n, cover in ((1, 5), (2, 50), (3, 50)):
            explained = rng.random(width) < 0.25 * early + 0.004
            to_cover = np.ceil(rng.gamma(1.2, 14 if n > 1 else 5, width)).clip(1, 60)
            known = explained & (to_cover <= 50)
            detector = known & (to_cover <= cover) & (rng.random(width) < 0.6)
            for neuron in range(width):
                value = float(rng.normal(-0.4, 0.5)) if detector[neuron] and n == 1 else None
                rows.append(
                    {
                        "layer": layer,
                        "neuron": neuron,
                        "n": n,
                        "activations": int(rng.integers(5, 9000)),
                        "to_cover": int(to_cover[neuron]) if known[neuron] else None,
                        "detector": bool(detector[neuron]),
                        "num_covered": int(to_cover[neuron]) if detector[neuron] else 0,
                        "projection": value,
                        "suppresses": None if value is None else value < 0,
                    }
                )
            for neuron in np.flatnonzero(detector):
                for _ in range(int(to_cover[neuron])):
                    tokens = [int(token) for token in rng.integers(0, len(WORDS) * 40, n)]
                    detected.append(
                        {
                            "layer": layer,
                            "neuron": int(neuron),
                            "n": n,
                            "tokens": tokens,
                            "text": "".join(WORDS[token % len(WORDS)] for token in tokens),
                            "count": 40,
                            "occurrences": 41,
                        }
                    )
                if n == 1:
                    projected += _projected(layer, int(neuron))
    return pd.DataFrame(rows).astype({"to_cover": "Int32"}), Frame(detected), Frame(projected)


def _projected(layer: int, neuron: int) -> list[dict[str, Any]]:
    return [
        {
            "layer": layer,
            "neuron": neuron,
            "direction": way,
            "rank": rank,
            "token": (neuron + rank + len(way)) % len(WORDS),
            "text": WORDS[(neuron + rank + len(way)) % len(WORDS)],
            "logit": sign * (1.0 - rank / 10),
        }
        for way, sign in (("promoted", 1), ("suppressed", -1))
        for rank in range(5)
    ]


def make_firing(
    checkpoints: dict[tuple[str, str], tuple[int, int]], length: int = 1024, most: int = 50
) -> FiringData:
    """What a report says of these checkpoints, with layers and neurons of a layer of each."""
    parts: dict[str, list[Frame]] = {}
    for seed, ((model, revision), (layers, width)) in enumerate(checkpoints.items()):
        rng = np.random.default_rng(seed + 100)
        rows = firing_rows(layers, width, seed)
        ngrams, detected, projected = ngram_rows(layers, width, seed)
        positional = positional_neurons(rows)
        ordered = positional.sort_values("information", ascending=False)
        ranked = ordered.assign(rank=ordered.groupby("type").cumcount()).query("rank < 4")
        frequency = [curve_of(kind, length, rng) for kind in ranked["type"]]
        found = ngrams[ngrams["detector"]].sort_values("activations", ascending=False)
        here = {
            "by_layer": firing_by_layer(rows),
            "positional_by_layer": positional_by_layer(positional),
            "explained": explained_by_layer(ngrams, range(layers), most),
            "detectors_by_layer": detectors_by_layer(ngrams, detected, range(layers)),
            "positional": positional,
            "curves": ranked.assign(frequency=frequency),
            "detectors": found.groupby("n").head(12),
            "detected": detected,
            "projections": projected,
        }
        for name, frame in here.items():
            parts.setdefault(name, []).append(frame.assign(model=model, revision=revision))
    return FiringData(**{name: pd.concat(some, ignore_index=True) for name, some in parts.items()})
