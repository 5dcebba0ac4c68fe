from collections.abc import Callable, Sequence

import pyarrow as pa
import pytest

from sweeper.store import Store
from sweeper.store.schemas import CELLS


def _default(field: pa.Field) -> object:
    if pa.types.is_string(field.type):
        return "x"
    return 0


def make_items(rows: Sequence[tuple[str, int, float]]) -> pa.Table:
    columns = {
        "cell_key": [key for key, _, _ in rows],
        "item": [item for _, item, _ in rows],
        "item_id": [f"i{item}" for _, item, _ in rows],
        "group": ["g"] * len(rows),
        "cluster": ["c"] * len(rows),
        "logprob": [value for _, _, value in rows],
        "logprob_bad": [None] * len(rows),
        "margin": [None] * len(rows),
        "correct": [None] * len(rows),
        "num_tokens": [7] * len(rows),
        "num_tokens_bad": [None] * len(rows),
    }
    return pa.table(columns)


def make_cells(status: dict[str, str]) -> pa.Table:
    given = {"cell_key", "attempt", "status", "error_type", "error_text"}
    columns = {
        field.name: pa.array([_default(field)] * len(status)).cast(field.type)
        for field in CELLS
        if field.name not in given
    }
    errors = [None if state == "done" else "Boom" for state in status.values()]
    columns |= {"cell_key": list(status), "status": list(status.values())}
    return pa.table({**columns, "error_type": errors, "error_text": errors})


@pytest.fixture
def items() -> Callable[[Sequence[tuple[str, int, float]]], pa.Table]:
    return make_items


@pytest.fixture
def cells() -> Callable[[dict[str, str]], pa.Table]:
    return make_cells


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"), create=True)
