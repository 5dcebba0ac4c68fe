from dataclasses import fields

import pyarrow as pa
import pytest

from sweeper.records import Estimate
from sweeper.store.schemas import ESTIMATES, MANIFEST, TABLES, conform

SCHEMA = pa.schema([pa.field("a", pa.int32(), nullable=False), pa.field("b", pa.list_(pa.int32()))])


def test_every_table_carries_key_and_attempt():
    assert all({"cell_key", "attempt"} <= set(schema.names) for schema in TABLES.values())
    assert "cell_key" in MANIFEST.names
    assert ESTIMATES.names == [field.name for field in fields(Estimate)]


def test_conform_orders_and_converts_without_loss():
    given = pa.table({"b": [[1], None], "a": pa.array([1, 2], pa.int64())})
    assert conform("t", given, SCHEMA).schema.equals(SCHEMA)


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"a": [1]}, r"missing columns \['b'\]"),
        ({"a": [1], "b": [[1]], "c": [1]}, r"unknown columns \['c'\]"),
        ({"a": [None], "b": [[1]]}, "'a' holds 1 nulls"),
        ({"a": [2**40], "b": [[1]]}, "'a'"),
        ({"a": [1.5], "b": [[1]]}, "'a'"),
        ({"a": [1], "b": ["x"]}, "'b'"),
    ],
)
def test_conform_names_the_column(columns, text):
    with pytest.raises(ValueError, match=text):
        conform("t", pa.table(columns), SCHEMA)
