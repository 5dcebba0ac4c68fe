"""Explicit Arrow schemas of all tables; every table of the store carries the cell key."""

from dataclasses import fields
from typing import get_type_hints

import pyarrow as pa

from sweeper.records import Estimate


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


def _strings(*names: str) -> list[pa.Field]:
    return [_required(name, pa.string()) for name in names]


def _floats(*names: str) -> list[pa.Field]:
    return [_required(name, pa.float64()) for name in names]


ITEMS = pa.schema(
    [
        *_strings("cell_key", "attempt"),
        _required("item", pa.int32()),
        *_strings("item_id", "group", "cluster"),
        pa.field("logprob", pa.float64()),
        pa.field("logprob_bad", pa.float64()),
        pa.field("margin", pa.float64()),
        pa.field("correct", pa.bool_()),
        _required("num_tokens", pa.int32()),
        pa.field("num_tokens_bad", pa.int32()),
    ]
)
"""One row per item and cell; log-probabilities in nats, nulls where a window has no bad side and
where only margins were scored."""

TOKENS = pa.schema(
    [
        *_strings("cell_key", "attempt"),
        _required("item", pa.int32()),
        _required("text", pa.int32()),
        _required("position", pa.int32()),
        _required("token", pa.int32()),
        _required("surprisal", pa.float32()),
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
        *_strings("cell_key", "attempt"),
        _required("item", pa.int32()),
        *_strings("item_id", "group", "cluster", "metric"),
        *_floats("value"),
        _required("averaged", pa.bool_()),
    ]
)
"""One row per item, cell and metric of lm-evaluation-harness that is a number for one item; the
metric of a filter other than ``none`` is called ``metric,filter``. ``averaged`` tells whether the
harness takes the mean over items (its ``perplexity`` of an item is a log-probability, say)."""

AGGREGATES = pa.schema(
    [
        *_strings("cell_key", "attempt", "task", "metric", "filter"),
        *_floats("value"),
        pa.field("stderr", pa.float64()),
    ]
)
"""A cell's metrics as lm-evaluation-harness aggregates them, by its own task or group; ``stderr``
is its standard error where that is a formula, null where it would be a bootstrap."""

NEURONS = pa.schema(
    [
        *_strings("cell_key", "attempt"),
        _required("layer", pa.int32()),
        _required("neuron", pa.int32()),
        *_floats("mean", "sd", "skew", "kurtosis", "share_negative", "wd"),
        _required("num_tokens", pa.int64()),
    ]
)
"""Census: one row per neuron; kurtosis is excess, NaN where a statistic is undefined."""

CONDITIONS = pa.schema(
    [
        *_strings("cell_key", "attempt", "condition_key"),
        _required("layer", pa.int32()),
        _required("neurons", pa.list_(pa.int32())),
    ]
)
"""Neuron sets: one row per condition and layer; the cell key is the condition key."""

CELLS = pa.schema(
    [
        *_strings("cell_key", "attempt", "run", "unit", "kind"),
        *_strings("model", "revision", "task", "condition"),
        pa.field("seed", pa.int32()),
        pa.field("condition_key", pa.string()),
        *_strings("status"),
        pa.field("error_type", pa.string()),
        pa.field("error_text", pa.string()),
        _required("num_items", pa.int64()),
        _required("num_tokens", pa.int64()),
        pa.field("values_changed", pa.int64()),
        pa.field("values_seen", pa.int64()),
        pa.field("noise", pa.float64()),
        *_floats("seconds", "load_seconds"),
        *_strings("device", "dtype", "worker", "versions"),
        _required("finished_at", pa.timestamp("us", tz="UTC")),
        _required("cell_attempt", pa.int32()),
    ]
)
"""One row per committed or failed cell; ``versions`` is JSON, ``noise`` is in nats."""

TABLES = {
    "items": ITEMS,
    "tokens": TOKENS,
    "outcomes": OUTCOMES,
    "aggregates": AGGREGATES,
    "neurons": NEURONS,
    "conditions": CONDITIONS,
    "cells": CELLS,
}
"""The tables that workers commit to, by name."""

MANIFEST = pa.schema(
    [
        *_strings("cell_key", "kind", "model", "revision", "condition"),
        pa.field("seed", pa.int32()),
        pa.field("condition_key", pa.string()),
        pa.field("operation", pa.string()),
        _required("num_neurons", pa.int64()),
        pa.field("control_of", pa.string()),
        _required("is_baseline", pa.bool_()),
        *_strings("task", "task_kind"),
    ]
)
"""The cells of one run with their names for people; a cell itself is shared by many runs."""

_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), str | None: pa.string()}
_HINTS = get_type_hints(Estimate)

# Nullable throughout: the way from pandas to Arrow turns NaN ("too little data") into null.
ESTIMATES = pa.schema([pa.field(f.name, _ARROW[_HINTS[f.name]]) for f in fields(Estimate)])
"""One row per estimate: the fields of ``records.Estimate``."""


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
