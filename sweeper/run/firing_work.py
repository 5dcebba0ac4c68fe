"""What a worker does for a firing census: a part of a corpus, or putting all parts together.

Putting together holds the counts of one layer at a time, neurons x positions of two texts, and
beside them the rows of one part as they come from the store.

Shapes: ``F`` neurons, ``T`` positions.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweeper.errors import UserError
from sweeper.models.loading import LoadedModel
from sweeper.neurons.detectors import COVER
from sweeper.neurons.firing import Firing, firing_of
from sweeper.neurons.packed_firing import pack_firing, unpack_firing
from sweeper.neurons.positional import LEAST_WINDOWS, positional_types
from sweeper.records import ALL_CORPORA, Unit
from sweeper.run.census_work import census_text
from sweeper.run.found import Found
from sweeper.run.part_states import PartStates, part_states
from sweeper.score.memory import TokenBudget
from sweeper.score.tokens import Row, windows
from sweeper.spec.firing import FiringSpec

_log = logging.getLogger("sweeper")


def firing_part(model: LoadedModel, unit: Unit, budget: TokenBudget, store: str) -> Found:
    """Count the activations of all neurons over some windows of one corpus.

    Nothing is found where the text ends before the part begins.

    Args:
        model: the loaded model, without clamps.
        unit: of one cell, with its ``windows``.
        budget: most positions in one forward pass.
        store: not needed.

    Raises:
        UserError: the text has no whole window, or the job no threshold for the model.
        StaleDataError: the text is another one than the driver's.
        FloatingPointError: a pre-activation is NaN.
    """
    spec, (corpus,) = spec_of(unit), facts_of(unit)["corpora"]
    threshold, length = threshold_for(model, spec), window_length(model, spec)
    rows = whole_windows(model, unit, corpus)
    mine = part_of(unit, rows)
    firing = firing_of(model, rows, mine, budget, threshold, length) if mine else []
    packed = [(layer, pack_firing(one)) for layer, one in enumerate(firing)]
    return Found(
        tables={"firing_parts": pd.DataFrame(packed, columns=["layer", "state"])},
        num_items=len(firing) * model.checkpoint.num_neurons,
        num_tokens=len(mine) * length,
    )


def firing(model: LoadedModel, unit: Unit, budget: TokenBudget, store: str) -> Found:
    """Put the parts of all corpora together.

    Args:
        model: tells how many layers there are.
        unit: of one cell, with the ``parts`` of its analysis.
        budget: not needed.
        store: address of the store, which holds the parts.

    Raises:
        MissingPartError: a part is not in the store.
        ValueError: no part of a corpus has text.
    """
    num_layers, parts = len(model.sites), facts_of(unit)["parts"]
    by_corpus = {
        name: [part for part in parts if part["corpus"] == name]
        for name in facts_of(unit)["corpora"]
    }
    tables: list[pd.DataFrame] = []
    positions: list[pd.DataFrame] = []
    with part_states(store, "firing_parts", ("layer",), parts, "firing census") as states:
        for layer in range(num_layers):
            whole: Firing | None = None
            for corpus, theirs in by_corpus.items():
                counted = _of_corpus(states, theirs, layer)
                tables.append(_rows(layer, corpus, counted))
                whole = counted if whole is None else whole.merged(counted)
            assert whole is not None, "a firing census has a corpus"
            if layer == 0 and whole.num_windows < LEAST_WINDOWS:
                _log.warning(
                    "firing of %s: %d windows are too few to tell positional neurons: none is "
                    "labelled; at least %d are needed",
                    *(unit.checkpoint.model, whole.num_windows, LEAST_WINDOWS),
                )
            of_all = _rows(layer, ALL_CORPORA, whole)
            tables.append(of_all)
            positions.append(_positions(layer, of_all["positional"].to_numpy(bool), whole))
    return Found(
        tables={"firing": pd.concat(tables), "positions": pd.concat(positions)},
        num_items=num_layers * model.checkpoint.num_neurons,
        num_tokens=0,
    )


def _of_corpus(states: PartStates, parts: Sequence[Mapping[str, Any]], layer: int) -> Firing:
    counted: Firing | None = None
    for part in parts:
        state = states.of(part["key"], layer)
        if state is not None:
            found = unpack_firing(state)
            counted = found if counted is None else counted.merged(found)
    if counted is None:
        raise ValueError(f"no part of {[part['corpus'] for part in parts]} has text")
    return counted


def _rows(layer: int, corpus: str, firing: Firing) -> pd.DataFrame:
    """Rows of the table ``firing`` for one layer."""
    found = positional_types(firing.frequency_by_position(), firing.num_windows)
    positional = found["positional"]
    table = pd.DataFrame(
        {
            "corpus": corpus,
            "layer": layer,
            "neuron": np.arange(len(found)),
            "active": firing.active.numpy(),
            "num_tokens": firing.num_tokens,
            "num_windows": firing.num_windows,
            "information": found["information"],
            "positional": positional,
            "type": found["type"].where(positional, None),
            "strong": found["strong"].astype("boolean").where(positional),
            "after_ngrams": None,
            "least_ngrams": None,
        }
    )
    if corpus == ALL_CORPORA:
        known = firing.first_pass(COVER)
        table["after_ngrams"] = list(known.activations.T)
        table["least_ngrams"] = list(known.least.T)
    return table


def _positions(layer: int, positional_F: NDArray[np.bool_], firing: Firing) -> pd.DataFrame:
    """Rows of the table ``positions`` for one layer."""
    neurons = np.flatnonzero(positional_F)
    counts_KT = firing.by_position.numpy()[:, neurons].T
    frequency_KT = (counts_KT / firing.num_windows).astype(np.float32)
    return pd.DataFrame({"layer": layer, "neuron": neurons, "frequency": list(frequency_KT)})


def facts_of(unit: Unit) -> Mapping[str, Any]:
    """What a unit tells of its analysis."""
    if unit.analysis is None:
        raise ValueError("the unit is no analysis")
    return unit.analysis


def spec_of(unit: Unit) -> FiringSpec:
    """The job's firing census."""
    return FiringSpec.model_validate(facts_of(unit)["spec"])


def window_length(model: LoadedModel, spec: FiringSpec) -> int:
    """Tokens of a window, within the model's context."""
    return min(spec.length, model.checkpoint.context)


def whole_windows(model: LoadedModel, unit: Unit, corpus: str) -> list[Row]:
    """All windows of full length of one of the unit's corpora.

    Raises:
        UserError: there is none.
        StaleDataError: the text is another one than the driver's.
    """
    facts, spec = facts_of(unit), spec_of(unit)
    own = {"corpus": facts["corpora"][corpus], "data_fingerprint": facts["fingerprints"][corpus]}
    text, _ = census_text(replace(unit, **own))
    length = window_length(model, spec)
    found = windows(model.tokenizer, text, length, length, spec.windows)
    whole = [row for row in found if len(row) == length]
    if not whole:
        most = max(map(len, found), default=0)
        raise UserError(
            f"firing.length: {length} is not allowed, for corpus {corpus!r} has no whole window of "
            f"so many tokens; allowed is at most {most}"
        )
    return whole


def part_of(unit: Unit, rows: list[Row]) -> range:
    """The windows of a part that the text has."""
    if unit.windows is None:
        raise ValueError("a part tells its windows")
    first, end = unit.windows
    return range(min(first, len(rows)), min(end, len(rows)))


def threshold_for(model: LoadedModel, spec: FiringSpec) -> float:
    """Activations above this count, by the model's activation function.

    Raises:
        UserError: the job has none for it.
    """
    config = model.model.config.get_text_config()
    activation = str(getattr(config, model.family.activation_key, "unknown"))
    return spec.needed_threshold(model.checkpoint.model, activation)
