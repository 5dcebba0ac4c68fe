"""How far a checkpoint's firing, n-grams, routing and removal are, and which labels they tell.

Parts of the firing -> firing -> parts of the n-grams -> n-grams; routing -> removal. Conditions
that choose neurons by a label wait for firing, n-grams or routing, which are computed as well where
none does: they are results by themselves.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, get_args

import pandas as pd
import pyarrow.compute as pc

from sweeper.neurons.labels import firing_labels, ngram_labels, routing_labels
from sweeper.neurons.select import LayerNeurons
from sweeper.plan.analysis import Part
from sweeper.plan.cells import needs_label
from sweeper.plan.layers import concrete_conditions
from sweeper.records import ALL_CORPORA, Cell, Checkpoint
from sweeper.run.preparation import Preparation
from sweeper.run.sweep import Sweep
from sweeper.spec.condition import FiringLabel, NgramLabel, RoutingLabel
from sweeper.spec.firing import FiringSpec
from sweeper.spec.routing import RoutingSpec
from sweeper.store import Store

Labels = dict[str, LayerNeurons]
"""Label -> layer -> neurons; labels that are known are there even where no neuron has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyses:
    """What the store makes known of a checkpoint's analyses."""

    named: tuple[Cell, ...]
    """Those that are known to be computed, done or not: what builds upon another one comes to be
    known with it."""
    parts: tuple[Cell, ...]
    """Parts that the store has of what is not put together yet."""
    ready: tuple[Preparation, ...]
    """What is to be computed next."""
    labels: Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """An analysis whose forerunner the store holds."""

    cell: Cell
    facts: Mapping[str, Any]
    """``Unit.analysis``, of what is put together but for its parts."""
    parts: Sequence[Part] = ()


@dataclass(frozen=True, slots=True)
class _Source:
    """Where labels come from."""

    labels: frozenset[str]
    table: str
    columns: tuple[str, ...]
    read: Callable[[pd.DataFrame], Labels]


_SOURCES = {
    "firing": _Source(
        frozenset(get_args(FiringLabel)),
        "firing",
        ("corpus", "layer", "neuron", "active", "positional"),
        firing_labels,
    ),
    "ngrams": _Source(
        frozenset(get_args(NgramLabel)),
        "ngrams",
        ("layer", "neuron", "n", "detector"),
        ngram_labels,
    ),
    "routing": _Source(
        frozenset(get_args(RoutingLabel)),
        "routing_neurons",
        ("layer", "neuron", "role"),
        routing_labels,
    ),
}
"""By kind of cell."""


def analyses_of(sweep: Sweep, store: Store, checkpoint: Checkpoint) -> Analyses:
    """What the store makes known of a checkpoint's firing, n-grams, routing and removal."""
    stored = store.done_keys()
    stages = [*_firing(sweep, checkpoint, stored), *_routing(sweep, checkpoint, stored)]
    missing = [stage for stage in stages if stage.cell.key not in stored]
    return Analyses(
        named=tuple(stage.cell for stage in stages),
        parts=tuple(
            part.cell for stage in missing for part in stage.parts if part.cell.key in stored
        ),
        ready=tuple(item for stage in missing for item in _next(stage, stored)),
        labels=_labels(sweep, store, checkpoint, (s.cell for s in stages if s not in missing)),
    )


def _firing(sweep: Sweep, checkpoint: Checkpoint, stored: set[str]) -> Iterator[_Stage]:
    firing, spec = sweep.firing_cell(checkpoint), sweep.job.firing
    if firing is None or spec is None:
        return
    facts = _facts(sweep, spec, spec.corpora)
    yield _Stage(cell=firing, facts=facts, parts=sweep.firing_parts(checkpoint))
    ngrams = sweep.ngrams_cell(checkpoint)
    if ngrams is not None and firing.key in stored:
        upon = {**facts, "firing": firing.key}
        yield _Stage(cell=ngrams, facts=upon, parts=sweep.ngrams_parts(checkpoint))


def _routing(sweep: Sweep, checkpoint: Checkpoint, stored: set[str]) -> Iterator[_Stage]:
    routing, spec = sweep.routing_cell(checkpoint), sweep.job.routing
    if routing is None or spec is None:
        return
    facts = _facts(sweep, spec, [spec.corpus])
    yield _Stage(cell=routing, facts=facts)
    removal = sweep.removal_cell(checkpoint)
    if removal is not None and routing.key in stored:
        yield _Stage(cell=removal, facts={**facts, "routing": routing.key})


def _facts(sweep: Sweep, spec: FiringSpec | RoutingSpec, names: Sequence[str]) -> dict[str, Any]:
    return {
        "spec": spec.model_dump(),
        "corpora": {name: sweep.job.corpus[name].model_dump() for name in names},
        "fingerprints": {name: sweep.fingerprints[name] for name in names},
        "parts": [],
    }


def _next(stage: _Stage, stored: set[str]) -> list[Preparation]:
    """Those parts that are not there yet, or what is put together from them."""
    if not stage.parts:
        return [Preparation(cell=stage.cell, analysis=stage.facts)]
    missing = [
        Preparation(cell=part.cell, windows=part.windows, analysis=_of_part(stage.facts, part))
        for part in stage.parts
        if part.cell.key not in stored
    ]
    if missing:
        return missing
    # The parts are the work, and merging them takes no time.
    whole = replace(stage.cell, cost=0.0)
    return [Preparation(cell=whole, analysis={**stage.facts, "parts": _plain(stage.parts)})]


def _plain(parts: Iterable[Part]) -> list[dict[str, Any]]:
    return [
        {"key": part.cell.key, "corpus": part.corpus, "windows": list(part.windows)}
        for part in parts
    ]


def _of_part(facts: Mapping[str, Any], part: Part) -> dict[str, Any]:
    """A part reads its own corpus alone."""
    own = {name: {part.corpus: facts[name][part.corpus]} for name in ("corpora", "fingerprints")}
    return {**facts, **own}


def _labels(sweep: Sweep, store: Store, checkpoint: Checkpoint, done: Iterable[Cell]) -> Labels:
    """Labels that conditions of the job need, by what is done."""
    conditions = concrete_conditions(sweep.job, checkpoint)
    wanted = {needs_label(conditions, name) for name in conditions}
    found: Labels = {}
    for cell in done:
        source = _SOURCES.get(cell.kind)
        if source is not None and source.labels & wanted:
            found |= _read(store, cell.kind, cell.key)
    return found


@lru_cache(maxsize=8)
def _read(store: Store, kind: str, key: str) -> Labels:
    """The labels that an analysis tells; the same key has the same rows."""
    source = _SOURCES[kind]
    table = store.table(source.table, [key], source.columns)
    if "corpus" in source.columns:  # of many corpora there are many times as many rows
        table = table.filter(pc.equal(table["corpus"], ALL_CORPORA))
    return source.read(table.to_pandas())
