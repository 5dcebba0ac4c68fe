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
        *_floats("logprob"),
        pa.field("logprob_bad", pa.float64()),
        pa.field("margin", pa.float64()),
        pa.field("correct", pa.bool_()),
        _required("num_tokens", pa.int32()),
        pa.field("num_tokens_bad", pa.int32()),
    ]
)
"""One row per item and cell; log-probabilities in nats, nulls where a window has no bad side."""

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

TABLES = {"items": ITEMS, "neurons": NEURONS, "conditions": CONDITIONS, "cells": CELLS}
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
