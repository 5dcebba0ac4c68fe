"""What a worker does for a census: all of it, a part of its windows, or putting parts together."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from pydantic import TypeAdapter

from sweeper.models.loading import LoadedModel
from sweeper.neurons.census import CensusOptions, census, census_part, table_of
from sweeper.neurons.packed import pack, unpack
from sweeper.neurons.summary import Summary
from sweeper.records import Unit
from sweeper.run.fresh_data import check_fingerprint
from sweeper.score import corpus as corpora
from sweeper.score.memory import TokenBudget
from sweeper.score.tasks import parse_corpus
from sweeper.score.tokens import Row, windows
from sweeper.spec.corpus import CensusSpec
from sweeper.store import Store


class MissingPartError(RuntimeError):
    """The store lacks a part of a census that is to be put together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CensusRows:
    """What a unit of a census adds to the store."""

    table: str
    """Name of the table."""
    rows: pd.DataFrame
    num_tokens: int


def census_rows(model: LoadedModel, unit: Unit, budget: TokenBudget, store: str) -> CensusRows:
    """Compute a unit of kind ``census`` or ``census_part``.

    Args:
        model: the loaded model, without clamps.
        unit: of one cell; a part tells its ``windows``, a census taken in parts their keys.
        budget: most positions in one forward pass.
        store: address of the store, which holds the parts.

    Raises:
        ValueError: the text has no window.
        MissingPartError: a part is not in the store.
        FloatingPointError: an activation is NaN or infinite.
    """
    if unit.cells[0].kind == "census_part":
        return _part(model, unit, budget)
    if unit.parts:
        table = table_of(_parts(store, unit.parts))
    else:
        rows, options = _windows(model, unit)
        table = census(model, rows, budget, options)
    return CensusRows(
        table="neurons", rows=table, num_tokens=0 if unit.parts else int(table["num_tokens"][0])
    )


def census_text(unit: Unit) -> tuple[str, str]:
    """The text of the census and its fingerprint.

    Raises:
        StaleDataError: it is another one than the driver's.
    """
    corpus = parse_corpus(unit.corpus)
    if corpus is None:
        raise ValueError("a census needs a corpus")
    text = corpora.text(corpus)
    fingerprint = corpora.fingerprint_of(text)
    check_fingerprint(unit, fingerprint)
    return text, fingerprint


def _part(model: LoadedModel, unit: Unit, budget: TokenBudget) -> CensusRows:
    assert unit.windows is not None, "a part of a census tells its windows"
    rows, options = _windows(model, unit)
    summaries = census_part(model, rows, unit.windows, budget, options)
    packed = [(layer, pack(summary)) for layer, summary in enumerate(summaries)]
    return CensusRows(
        table="census_parts",
        rows=pd.DataFrame(packed, columns=["layer", "state"]),
        num_tokens=summaries[0].num_tokens if summaries else 0,
    )


def _parts(address: str, keys: tuple[str, ...]) -> Iterator[list[Summary]]:
    store = Store(address)
    missing = set(keys) - store.done_keys()
    if missing:
        raise MissingPartError(f"the store lacks {len(missing)} of {len(keys)} parts of the census")
    for key in keys:
        table = store.table("census_parts", [key], ["layer", "state"]).sort_by("layer")
        yield [unpack(state.as_py()) for state in table["state"]]


def _windows(model: LoadedModel, unit: Unit) -> tuple[list[Row], CensusOptions]:
    """All windows of the text, and how its census is taken."""
    spec = TypeAdapter(CensusSpec).validate_python(unit.task)
    text, fingerprint = census_text(unit)
    length = min(spec.length, model.checkpoint.context)
    stride = max(round(length * (1 - spec.overlap)), 1)
    options = CensusOptions(
        method=spec.method,
        bins=spec.bins,
        num_pairs=spec.pairs,
        fingerprint=fingerprint,
        memory_gb=spec.memory_gb,
    )
    return windows(model.tokenizer, text, length, stride, spec.windows), options
