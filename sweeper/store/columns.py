"""Columns that many tables have."""

import pyarrow as pa


def required(name: str, kind: pa.DataType) -> pa.Field:
    """A column without nulls."""
    return pa.field(name, kind, nullable=False)


def strings(*names: str) -> list[pa.Field]:
    """Text columns without nulls."""
    return [required(name, pa.string()) for name in names]


def floats(*names: str) -> list[pa.Field]:
    """Columns of numbers without nulls; NaN where one is undefined."""
    return [required(name, pa.float64()) for name in names]
