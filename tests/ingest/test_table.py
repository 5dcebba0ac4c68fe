import pandas as pd
import pytest

from sweeper.ingest.naming import Naming
from sweeper.ingest.table import Choice, has_columns, read_results

ROWS = [
    {"model": "m", "step": 0, "task": "a", "metric": "acc", "value": 0.5, "stderr": 0.1},
    {"model": "m", "step": 0, "task": "a", "metric": "acc_norm", "value": 0.6, "stderr": 0.1},
    {"model": "m", "step": 10, "task": "a", "metric": "acc", "value": 0.7, "stderr": None},
    {"model": "m", "step": 10, "task": "b", "metric": "ppl", "value": 9.5, "stderr": 0.2},
]


def read(path, where=None, by=()):
    return read_results(path, Naming(), Choice(where or {}, by))


@pytest.fixture(params=["parquet", "csv"])
def write(request, tmp_path):
    def make(rows, name="table"):
        path = tmp_path / f"{name}.{request.param}"
        frame = pd.DataFrame(rows)
        if request.param == "csv":
            frame.to_csv(path, index=False)
        else:
            frame.to_parquet(path)
        return path

    return make


def test_rows_become_results(write):
    found = read(write(ROWS))
    assert [result.place for result in found] == [
        ("m", "step0", "a"),
        ("m", "step10", "a"),
        ("m", "step10", "b"),
    ]
    assert [metric.name for metric in found[0].metrics] == ["acc", "acc_norm"]
    assert found[1].metrics[0].stderr is None
    assert found[2].metrics[0].value == 9.5
    assert [result.origin.step for result in found] == [0, 10, 10]


def test_other_columns_that_are_known(write):
    row = {"model_name": "NA", "revision": "step7", "task_name": "null", "metric": "acc,strict"}
    (found,) = read(write([row | {"score": 0.5, "n": 40, "num_fewshot": 3}]))
    assert found.place == ("NA", "step7", "null (3-shot)")
    assert found.num_items == 40
    assert (found.metrics[0].name, found.metrics[0].filter) == ("acc", "strict")


def test_no_step_is_the_model_as_it_is(write):
    rows = [{**ROWS[0], "step": -1}, {**ROWS[0], "model": "n", "step": None}]
    assert [result.origin.revision for result in read(write(rows))] == ["main", "main"]


def test_which_rows_are_wanted(write):
    path = write([row | {"suite": suite} for suite in ("v0", "v1") for row in ROWS])
    found = read(path, {"suite": ["v1"], "task": ["a", "x*"]})
    assert [result.place[1:] for result in found] == [("step0", "a"), ("step10", "a")]
    assert read(path, {"suite": ["v9"]}) == []
    with pytest.raises(ValueError, match="no column 'sweet'"):
        read(path, {"sweet": ["v1"]})


def test_two_values_that_a_column_tells_apart(write):
    path = write([row | {"suite": suite} for suite in ("v0", "v1") for row in ROWS])
    expected = (
        r"model 'm', step 0, task 'a', metric 'acc' has 2 values that differ in suite; choose "
        r"with --where suite=v0 \(there are v0, v1\), or keep them apart with --by suite"
    )
    with pytest.raises(ValueError, match=expected):
        read(path)
    models = {result.origin.model for result in read(path, by=["suite"])}
    assert models == {"m (v0)", "m (v1)"}


def test_two_values_that_nothing_tells_apart(write):
    with pytest.raises(ValueError, match=r"has 2 values \(0.5, 0.9\), and no column tells"):
        read(write([*ROWS, {**ROWS[0], "value": 0.9}]))
    assert len(read(write([*ROWS, ROWS[0]]))) == 3


def test_whole_evaluations_that_were_repeated(write):
    first = [row | {"source_path": "one.json"} for row in ROWS]
    again = {**first[0], "value": 0.9, "source_path": "two.json"}
    found = [
        result for result in read(write([*first, again])) if result.place[1:] == ("step0", "a")
    ]
    assert [result.metrics[0].value for result in found] == [0.5, 0.9]
    assert found[0].date < found[1].date


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"model": "m", "task": "a", "metric": "acc"}], "it has no column value or score"),
        ([{"modle": "m", "task": "a", "metric": "acc", "value": 1}], "did you mean 'modle'"),
        ([{**ROWS[0], "model": None}], "row 1 has no model"),
        ([ROWS[0], {**ROWS[1], "value": None}], "row 2 has no value"),
        ([ROWS[0], {**ROWS[1], "step": 10.5}], r"row 2: step is 10\.5, not a whole number"),
    ],
)
def test_bad_tables(write, rows, reason):
    with pytest.raises(ValueError, match=reason):
        read(write(rows))


def test_numbers_that_are_none(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("model,task,metric,value\nm,a,acc,0.5\nm,b,acc,half\n")
    with pytest.raises(ValueError, match="row 2: value is 'half', not a number"):
        read(path)


def test_files_that_are_no_tables(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_text("no parquet")
    with pytest.raises(ValueError, match="not valid parquet"):
        has_columns(path)
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    assert not has_columns(other)
