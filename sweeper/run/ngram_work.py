"""What a worker does for n-grams: counting a part, or putting parts together and naming detectors.

Putting together holds the n-grams of one layer at a time, and beside them the rows of one part as
they come from the store, and how often each n-gram occurs in the text.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sweeper.models.loading import LoadedModel
from sweeper.neurons.detectors import COVER, MOST, Detectors, find_detectors
from sweeper.neurons.firing import FirstPass, special_tokens
from sweeper.neurons.ngram_pass import candidates, ngram_counts, vocabulary_of
from sweeper.neurons.ngrams import NgramCounts, Rule, ngram_ids, num_to_cover, tokens_of
from sweeper.neurons.packed_firing import pack_ngrams, unpack_ngrams
from sweeper.neurons.profile import token_text
from sweeper.neurons.projection import NO_CHANGES, Projected, projected
from sweeper.records import ALL_CORPORA, Unit
from sweeper.run.census_work import MissingPartError
from sweeper.run.firing_work import facts_of, part_of, spec_of, threshold_for, whole_windows
from sweeper.run.found import Found
from sweeper.run.part_states import PartStates, part_states
from sweeper.score.memory import TokenBudget
from sweeper.spec.firing import FiringSpec
from sweeper.store import Store

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Occurrences:
    """How often each n-gram of one length occurs in the whole text."""

    ngrams: Ints
    """Sorted."""
    counts: Ints

    def of(self, ngrams: Ints) -> dict[int, int]:
        """Those of n-grams that the text has."""
        wanted = np.unique(ngrams)
        counts = self.counts[np.searchsorted(self.ngrams, wanted)]
        return dict(zip(wanted.tolist(), counts.tolist(), strict=True))


@dataclass(slots=True)
class _Tables:
    """Rows of the tables, layer by layer."""

    ngrams: list[pd.DataFrame]
    detected: list[pd.DataFrame]
    projections: list[pd.DataFrame]


def ngrams_part(model: LoadedModel, unit: Unit, budget: TokenBudget, store: str) -> Found:
    """Count the n-grams after which neurons are active over some windows of one corpus.

    Neurons that neither ``most_ngrams`` n-grams nor as many as a detector may have can explain, by
    their activations over all corpora, are given up as soon as that is certain. Nothing is found
    where the text ends before the part begins.

    Args:
        model: the loaded model, without clamps.
        unit: of one cell, with its ``windows``.
        budget: most positions in one forward pass.
        store: address of the store, which holds the firing census.

    Raises:
        UserError: the text has no whole window, or the job no threshold for the model.
        StaleDataError: the text is another one than the driver's.
        MissingPartError: the firing census is not in the store.
        FloatingPointError: a factor of a gated MLP is NaN or infinite.
    """
    spec, (corpus,) = spec_of(unit), facts_of(unit)["corpora"]
    rows = whole_windows(model, unit, corpus)
    mine, threshold = part_of(unit, rows), threshold_for(model, spec)
    known, rules = _known(store, facts_of(unit)["firing"]), _rules(spec)
    found = ngram_counts(model, rows, mine, budget, threshold, known, rules) if mine else []
    is_read = any(len(candidates(of_layer, rules)) for of_layer in known)
    packed = [
        (layer, n, pack_ngrams(counts.state))
        for layer, of_layer in enumerate(found)
        for n, counts in of_layer.items()
    ]
    return Found(
        tables={"ngram_parts": pd.DataFrame(packed, columns=["layer", "n", "state"])},
        num_items=len(found) * model.checkpoint.num_neurons,
        num_tokens=sum(len(rows[window]) for window in mine) if is_read else 0,
    )


def ngrams(model: LoadedModel, unit: Unit, budget: TokenBudget, store: str) -> Found:
    """Put the parts of all corpora together, find the detectors, and what those of tokens write.

    Args:
        model: the loaded model, without clamps.
        unit: of one cell, with the ``parts`` of its analysis.
        budget: not needed.
        store: address of the store, which holds the parts and the firing census.

    Raises:
        UserError: a text has no whole window.
        StaleDataError: a text is another one than the driver's.
        MissingPartError: the firing census, or a part, is not in the store.
    """
    spec, facts = spec_of(unit), facts_of(unit)
    known, tables = _known(store, facts["firing"]), _Tables([], [], [])
    occurrences = _occurrences(model, unit, spec)
    with part_states(store, "ngram_parts", ("layer", "n"), facts["parts"], "n-grams") as states:
        keys = [part["key"] for part in facts["parts"]]
        for layer, of_layer in enumerate(known):
            for n, rule in _rules(spec).items():
                activations, least = of_layer.activations[n - 1], of_layer.least[n - 1]
                counts = NgramCounts(activations, rule, least)
                _join(counts, states, keys, layer, n)
                _describe(model, spec, (layer, n), counts, activations, occurrences[n], tables)
    return Found(
        tables={
            "ngrams": pd.concat(tables.ngrams),
            "detected": pd.concat(tables.detected),
            "projections": pd.concat([NO_CHANGES, *tables.projections]),
        },
        num_items=len(known) * model.checkpoint.num_neurons,
        num_tokens=0,
    )


def _rules(spec: FiringSpec) -> dict[int, Rule]:
    """As many n-grams as the job asks for, and not fewer than a detector may have."""
    return {n: Rule(max(spec.most_ngrams, MOST[n]), COVER) for n in sorted(spec.ngrams)}


def _known(address: str, key: str) -> list[FirstPass]:
    """What the firing census over all corpora tells, by layer."""
    store = Store(address)
    if key not in store.done_keys():
        raise MissingPartError("the store lacks the firing census that n-grams build upon")
    columns = ["corpus", "layer", "neuron", "after_ngrams", "least_ngrams"]
    table = store.table("firing", [key], columns)
    table = table.filter(pc.equal(table["corpus"], ALL_CORPORA))
    table = table.sort_by([("layer", "ascending"), ("neuron", "ascending")])
    layers = table["layer"].to_numpy()
    edges = np.flatnonzero(np.diff(layers, prepend=-1, append=len(layers)))
    activations, least = (_lists(table[name]) for name in ("after_ngrams", "least_ngrams"))
    return [
        FirstPass(activations=activations[first:end].T, least=least[first:end].T)
        for first, end in pairwise(edges.tolist())
    ]


def _lists(column: pa.ChunkedArray) -> Ints:
    """Lists of one length as rows."""
    flat: Ints = pc.list_flatten(column).to_numpy().astype(np.int64)
    return flat.reshape(len(column), -1)


def _occurrences(model: LoadedModel, unit: Unit, spec: FiringSpec) -> dict[int, _Occurrences]:
    """How often each n-gram occurs in all corpora, by n."""
    rows = [row for name in facts_of(unit)["corpora"] for row in whole_windows(model, unit, name)]
    vocabulary, special = vocabulary_of(model), special_tokens(model)
    found: dict[int, _Occurrences] = {}
    for n in sorted(spec.ngrams):
        ids = ngram_ids(rows, n, vocabulary, special)
        found[n] = _Occurrences(*np.unique(ids[ids >= 0], return_counts=True))
    return found


def _join(counts: NgramCounts, states: PartStates, keys: list[str], layer: int, n: int) -> None:
    for key in keys:
        state = states.of(key, layer, n)
        if state is not None:
            counts.join(unpack_ngrams(state))


def _describe(
    model: LoadedModel,
    spec: FiringSpec,
    place: tuple[int, int],
    counts: NgramCounts,
    activations: Ints,
    occurrences: _Occurrences,
    tables: _Tables,
) -> None:
    """Add the rows of one layer and n."""
    layer, n = place
    pairs = counts.pairs
    to_cover = num_to_cover(pairs, activations, COVER)
    often = occurrences.of(pairs["ngram"].to_numpy())
    explained = np.where(activations >= spec.least_activations, to_cover, 0)
    found = find_detectors(pairs, activations, explained, often, MOST[n])
    written = projected(model, layer, found.covered, spec.tokens) if n == 1 else None
    asked = np.where(to_cover <= spec.most_ngrams, to_cover, 0)
    rows = _ngram_rows(activations, asked, found, written).assign(layer=layer, n=n)
    tables.ngrams.append(rows)
    tables.detected.append(_detected_rows(model, n, found, written).assign(layer=layer, n=n))
    if written is not None:
        texts = {token: token_text(model.tokenizer, token) for token in written.changed["token"]}
        words = [texts[token] for token in written.changed["token"]]
        tables.projections.append(written.changed.assign(layer=layer, text=words))


def _ngram_rows(
    activations: Ints, to_cover: Ints, found: Detectors, written: Projected | None
) -> pd.DataFrame:
    """Rows of the table ``ngrams``, without layer and n."""
    neurons = np.flatnonzero(activations)
    num_covered = np.bincount(found.covered["neuron"], minlength=len(activations))
    table = pd.DataFrame(
        {
            "neuron": neurons,
            "activations": activations[neurons],
            "to_cover": pd.array(to_cover[neurons], "Int64"),
            "detector": np.isin(neurons, found.neurons),
            "num_covered": num_covered[neurons],
        }
    )
    table["to_cover"] = table["to_cover"].mask(table["to_cover"] == 0)
    if written is None:
        return table.assign(projection=np.nan, suppresses=pd.array([pd.NA] * len(table), "boolean"))
    table = table.merge(written.neurons, how="left", on="neuron")
    return table.assign(suppresses=table["suppresses"].astype("boolean"))


def _detected_rows(
    model: LoadedModel, n: int, found: Detectors, written: Projected | None
) -> pd.DataFrame:
    """Rows of the table ``detected``, without layer and n."""
    covered = found.covered
    tokens = tokens_of(covered["ngram"].to_numpy(np.int64), n, vocabulary_of(model)).tolist()
    factors = None if written is None else written.factors
    return covered.drop(columns=["ngram", "factors"], errors="ignore").assign(
        tokens=tokens,
        text=[_text(model, ngram) for ngram in tokens],
        projection=np.nan if written is None else written.of_covered,
        factor=np.nan if factors is None else factors,
    )


def _text(model: LoadedModel, tokens: list[int]) -> str:
    """An n-gram as it stands in a text, with the space before it that it may hold."""
    text = str(model.tokenizer.decode(tokens))
    begins_a_word = token_text(model.tokenizer, tokens[0]).startswith(" ")
    return f" {text}" if begins_a_word and not text.startswith(" ") else text
