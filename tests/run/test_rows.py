"""Rows on their way to the store, as Arrow tables."""

import pandas as pd
import pyarrow as pa
import pytest

from sweeper.run.rows import arrow
from sweeper.store.schemas import TABLES


@pytest.mark.parametrize("name", TABLES)
def test_a_table_without_rows_has_its_schema(name):
    table = arrow(pd.DataFrame([]).assign(cell_key="c"), TABLES[name])
    assert table.num_rows == 0
    wanted = [field for field in TABLES[name] if field.name != "attempt"]
    assert table.schema == pa.schema(wanted)


def test_columns_that_a_frame_lacks_are_null():
    schema = pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("count", pa.int32()),
            pa.field("share", pa.float64()),
            pa.field("is_it", pa.bool_()),
            pa.field("name", pa.string()),
            pa.field("members", pa.list_(pa.int32())),
        ]
    )
    rows = arrow(pd.DataFrame({"key": ["a", "b"]}), schema).to_pylist()
    nothing = dict.fromkeys(("count", "share", "is_it", "name", "members"))
    assert rows == [{"key": "a", **nothing}, {"key": "b", **nothing}]


def test_lists_and_gaps_are_kept():
    schema = pa.schema(
        [pa.field("members", pa.list_(pa.int32())), pa.field("share", pa.float64(), nullable=False)]
    )
    frame = pd.DataFrame({"members": [[1, 2], None, []], "share": [0.5, float("nan"), 1.0]})
    table = arrow(frame, schema)
    assert table["members"].to_pylist() == [[1, 2], None, []]
    # NaN says that the number is not defined, null that there is none.
    assert table["share"].null_count == 0
