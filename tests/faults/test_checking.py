"""The checker of all tests here finds what it is there to find."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from faults.checking import assert_same_rows

from sweeper.store import Store


@pytest.fixture
def copied(reference, tmp_path):
    """Another store with the same content."""
    shutil.copytree(reference.uri, tmp_path / "copy")
    return Store(str(tmp_path / "copy"))


def files_of(store: Store, table: str) -> list[Path]:
    return sorted(
        Path(store.layout.full(store.layout.data_file(table, "x"))).parent.glob("*.parquet")
    )


def test_the_same_rows_pass(reference, copied):
    assert_same_rows(copied, reference, reference.done_keys())


def test_a_lost_commit_is_found(reference, copied):
    keys = reference.done_keys()
    attempt = copied.attempt_of(copied.table("items", columns=["cell_key"])["cell_key"][0].as_py())
    copied.files.delete(copied.layout.marker(attempt))
    copied.refresh()
    with pytest.raises(AssertionError, match="table items"):
        assert_same_rows(copied, reference, keys)


@pytest.mark.parametrize("tolerance", [0.0, 1e-3])
def test_a_changed_number_is_found(reference, copied, tolerance):
    file = files_of(copied, "items")[0]
    table = pq.read_table(file)
    place = table.schema.get_field_index("logprob")
    changed = pc.add(table["logprob"], pa.scalar(max(2 * tolerance, 1e-12)))
    pq.write_table(table.set_column(place, table.schema.field(place), changed), file)
    with pytest.raises(AssertionError, match="table items"):
        assert_same_rows(copied, reference, reference.done_keys(), tolerance=tolerance)


def test_a_row_in_the_place_of_another_is_found(reference, copied):
    file = files_of(copied, "items")[0]
    table = pq.read_table(file)
    doubled = pa.concat_tables([table.slice(0, 1), table.slice(0, len(table) - 1)])
    pq.write_table(doubled, file)
    with pytest.raises(AssertionError, match="items: rows doubled"):
        assert_same_rows(copied, reference, reference.done_keys())
