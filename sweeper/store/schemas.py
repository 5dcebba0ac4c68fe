"""Explicit Arrow schemas of all tables; every table of the store carries the cell key."""

from dataclasses import fields
from typing import TYPE_CHECKING, get_type_hints

import pyarrow as pa

from sweeper.records import ContrastEstimate, Estimate
from sweeper.store.analysis_schemas import ANALYSES
from sweeper.store.columns import floats, required, strings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


ITEMS = pa.schema(
    [
        *strings("cell_key", "attempt"),
        required("item", pa.int32()),
        *strings("item_id", "group", "cluster"),
        pa.field("logprob", pa.float64()),
        pa.field("logprob_bad", pa.float64()),
        pa.field("margin", pa.float64()),
        pa.field("correct", pa.bool_()),
        pa.field("num_tokens", pa.int32()),
        pa.field("num_tokens_bad", pa.int32()),
    ]
)
"""One row per item and cell; log-probabilities in nats, nulls where a window has no bad side and
where only margins were scored. ``num_tokens`` is null in imported rows, whose logs do not tell."""

TOKENS = pa.schema(
    [
        *strings("cell_key", "attempt"),
        required("item", pa.int32()),
        required("text", pa.int32()),
        required("position", pa.int32()),
        required("token", pa.int32()),
        required("surprisal", pa.float32()),
        pa.field("char_begin", pa.int64()),
        pa.field("char_end", pa.int64()),
    ]
)
"""One row per scored token and cell, where the job keeps them.

``text`` tells which text of the item (0: the window or the acceptable sentence, 1: the
unacceptable one), ``position`` is the token's index in it with special tokens counted, ``token``
its vocabulary id, ``surprisal`` -log p in nats. ``char_begin`` and ``char_end`` delimit its
characters in the whole corpus text or in the sentence; null for special tokens and where the
tokenizer does not tell."""

OUTCOMES = pa.schema(
    [
        *strings("cell_key", "attempt"),
        required("item", pa.int32()),
        *strings("item_id", "group", "cluster", "metric"),
        *floats("value"),
        required("averaged", pa.bool_()),
    ]
)
"""One row per item, cell and metric of lm-evaluation-harness that is a number for one item; the
metric of a filter other than ``none`` is called ``metric,filter``. ``averaged`` tells whether the
harness takes the mean over items (its ``perplexity`` of an item is a log-probability, say)."""

AGGREGATES = pa.schema(
    [
        *strings("cell_key", "attempt", "task", "metric", "filter"),
        *floats("value"),
        pa.field("stderr", pa.float64()),
    ]
)
"""A cell's metrics as lm-evaluation-harness aggregates them, by its own task or group; ``stderr``
is its standard error where that is a formula, null where it would be a bootstrap."""

NEURONS = pa.schema(
    [
        *strings("cell_key", "attempt"),
        required("layer", pa.int32()),
        required("neuron", pa.int32()),
        *floats("mean", "sd", "skew", "kurtosis", "share_negative", "wd"),
        required("num_tokens", pa.int64()),
        pa.field("mean_abs", pa.float64()),
        pa.field("md", pa.float64()),
        pa.field("wd_bound", pa.float64()),
    ]
)
"""Census: one row per neuron; kurtosis is excess, NaN where a statistic is undefined.

``wd`` differs from the exact distance by at most ``wd_bound``, 0 where it was computed exactly.
``mean_abs``, ``md`` and ``wd_bound`` are null where they are undefined or were not computed."""

CENSUS_PARTS = pa.schema(
    [
        *strings("cell_key", "attempt"),
        required("layer", pa.int32()),
        required("state", pa.large_binary()),
    ]
)
"""What a part of a census has gathered: one row per layer (``neurons.summary``); none where the
text ends before the part begins."""

CONDITIONS = pa.schema(
    [
        *strings("cell_key", "attempt", "condition_key"),
        required("layer", pa.int32()),
        required("neurons", pa.list_(pa.int32())),
        pa.field("values", pa.list_(pa.float64())),
    ]
)
"""Neuron sets: one row per condition and layer; the cell key is the condition key. ``values`` has
one number per neuron where the operation puts in a value, and is null elsewhere."""

MATCHES = pa.schema(
    [
        *strings("cell_key", "attempt", "target_key", "statistic"),
        *floats("fraction"),
        required("num_neurons", pa.int64()),
        required("num_windows", pa.int32()),
        *floats("target_increase"),
        pa.field("target_low", pa.float64()),
        pa.field("target_high", pa.float64()),
        *floats("increase"),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        *floats("difference"),
        pa.field("difference_low", pa.float64()),
        pa.field("difference_high", pa.float64()),
        *floats("tolerance"),
        required("chosen", pa.bool_()),
        required("reached", pa.bool_()),
        *strings("outcome"),
    ]
)
"""Search for a set that raises perplexity as much as another one: a row for each share tried.

``fraction`` is the share of each layer with the smallest ``statistic``, 0 the model as it is.
``increase`` is that of mean NLL (nats per token) over the baseline, ``target_increase`` the one to
match, ``difference`` what is between them, each with the 95 % t interval over windows (null where
one window says nothing of the spread). ``chosen`` marks the set that the control has, ``reached``
tells whether there is one, ``outcome`` why not (``neurons.match.Outcome``). ``target_key`` is the
condition key of the set to be matched."""

BALANCE = pa.schema(
    [
        *strings("cell_key", "attempt", "condition_key", "target_key", "statistic"),
        required("num_pairs", pa.int64()),
        *floats("before", "after", "difference"),
        pa.field("difference_low", pa.float64()),
        pa.field("difference_high", pa.float64()),
    ]
)
"""How like its target a moment-matched set is, in standard deviations of the layer: a row for each
statistic, the cell key being the condition key. ``before`` is the mean distance of a neuron of the
target from a random one of its layer, ``after`` from the one that it is paired with, ``difference``
the signed mean, control minus target, with its 95 % t interval over layers."""

NEURON_PAIRS = pa.schema(
    [
        *strings("cell_key", "attempt"),
        *(required(name, pa.int32()) for name in ("layer", "neuron", "pair")),
        *(required(name, pa.int32()) for name in ("token_i", "token_j")),
        *strings("text_i", "text_j"),
        *floats("dx", "y_i", "y_j"),
        required("similar", pa.bool_()),
    ]
)
"""Pairs of tokens as one neuron sees them: one row per neuron and pair.

``dx`` is the Euclidean distance of the layer's two inputs, ``y_i`` and ``y_j`` are the neuron's
pre-activations, ``text_i`` and ``text_j`` the tokens, last, after a little of their context.
``similar`` tells pairs that were sought for their similar inputs from those drawn at random
(``neurons.profile`` has the rule)."""

NEURON_TOKENS = pa.schema(
    [
        *strings("cell_key", "attempt"),
        *(required(name, pa.int32()) for name in ("layer", "neuron", "token")),
        *strings("text"),
        required("count", pa.int64()),
        *floats("mean", "sd"),
    ]
)
"""How a neuron tells tokens apart: one row per neuron and vocabulary id, with the mean and the
standard deviation (population) of the pre-activation over its ``count`` occurrences. Kept are the
ids at both ends of the neuron's range (``neurons.profile``)."""

DRIFT = pa.schema(
    [
        *strings("cell_key", "attempt"),
        *(required(name, pa.int32()) for name in ("layer", "neuron")),
        *floats("dissimilarity", "relative"),
        *strings("previous"),
    ]
)
"""How far neurons have turned since an earlier revision, called ``previous``: one row per neuron.

``dissimilarity`` is 1 - cosine of the neuron's two rows of pre-activation weights, ``relative``
that over the layer's mean (``neurons.drift``)."""

TEXTS = pa.schema(
    [
        *strings("cell_key", "attempt"),
        required("item", pa.int32()),
        *strings("text"),
        pa.field("text_bad", pa.string()),
    ]
)
"""What the items of a task are, for people: one row per item, under the cell of the baseline only.

``text`` is the acceptable sentence of a minimal pair, ``text_bad`` the other one."""

CELLS = pa.schema(
    [
        *strings("cell_key", "attempt", "run", "unit", "kind"),
        *strings("model", "revision", "task", "condition"),
        pa.field("seed", pa.int32()),
        pa.field("condition_key", pa.string()),
        *strings("status"),
        pa.field("error_type", pa.string()),
        pa.field("error_text", pa.string()),
        required("num_items", pa.int64()),
        required("num_tokens", pa.int64()),
        pa.field("values_changed", pa.int64()),
        pa.field("values_seen", pa.int64()),
        pa.field("noise", pa.float64()),
        *floats("seconds", "load_seconds"),
        *strings("device", "dtype", "worker", "versions"),
        required("finished_at", pa.timestamp("us", tz="UTC")),
        required("cell_attempt", pa.int32()),
    ]
)
"""One row per committed or failed cell; ``versions`` is JSON, ``noise`` is in nats."""

TABLES = {
    "items": ITEMS,
    "tokens": TOKENS,
    "outcomes": OUTCOMES,
    "aggregates": AGGREGATES,
    "neurons": NEURONS,
    "census_parts": CENSUS_PARTS,
    "conditions": CONDITIONS,
    "matches": MATCHES,
    "balance": BALANCE,
    "neuron_pairs": NEURON_PAIRS,
    "neuron_tokens": NEURON_TOKENS,
    "drift": DRIFT,
    **ANALYSES,
    "texts": TEXTS,
    "cells": CELLS,
}
"""The tables that workers commit to, by name."""

MANIFEST = pa.schema(
    [
        *strings("cell_key", "kind", "model", "revision", "condition"),
        pa.field("seed", pa.int32()),
        pa.field("condition_key", pa.string()),
        pa.field("operation", pa.string()),
        required("num_neurons", pa.int64()),
        pa.field("control_of", pa.string()),
        pa.field("matched_to", pa.string()),
        pa.field("family", pa.string()),
        pa.field("first_layer", pa.int32()),
        pa.field("last_layer", pa.int32()),
        required("is_baseline", pa.bool_()),
        *strings("task", "task_kind"),
    ]
)
"""The cells of one run with their names for people; a cell itself is shared by many runs.

``control_of`` names the condition that a random set controls, ``matched_to`` the one that a
matched set is matched to. ``family`` is the job's name of the condition; where a condition is
repeated for groups of layers, ``condition`` tells the group too, and ``first_layer`` and
``last_layer`` hold it."""

_ARROW = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    str | None: pa.string(),
    int | None: pa.int64(),
}


def schema_of(record: type["DataclassInstance"]) -> pa.Schema:
    """The columns of a table of records.

    Nullable throughout: the way from pandas to Arrow turns NaN ("too little data") into null.
    """
    hints = get_type_hints(record)
    return pa.schema([pa.field(field.name, _ARROW[hints[field.name]]) for field in fields(record)])


ESTIMATES = schema_of(Estimate)
"""One row per estimate: the fields of ``records.Estimate``."""

CONTRASTS = schema_of(ContrastEstimate)
"""One row per part of a contrast: the fields of ``records.ContrastEstimate``."""


def conform(name: str, table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give a table exactly the schema's columns, order and types.

    Only conversions that lose nothing are made (int64 to int32 within range, and the like).

    Raises:
        ValueError: a column is missing or unknown, holds nulls where none may be, or does not
            convert; the message names the table and the column.
    """
    present = set(table.column_names)
    missing, unknown = set(schema.names) - present, present - set(schema.names)
    if missing or unknown or len(present) < table.num_columns:
        raise ValueError(
            f"table {name!r}: missing columns {sorted(missing)}, unknown columns "
            f"{sorted(unknown)}, given {table.column_names}"
        )
    columns = [_convert(name, table.column(field.name), field) for field in schema]
    return pa.table(columns, schema=schema)


def _convert(name: str, column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    if column.null_count and not field.nullable:
        raise ValueError(
            f"table {name!r}: column {field.name!r} holds {column.null_count} nulls, none may be"
        )
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"table {name!r}: column {field.name!r}: {error}") from error
