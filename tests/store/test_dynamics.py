from dataclasses import fields

import pandas as pd
import pytest

from sweeper.aggregate.summary import as_frame
from sweeper.errors import UserError
from sweeper.store import RunFolder, Store
from sweeper.store.dynamics import DYNAMICS, CohortPoint

POINT = CohortPoint(
    model="m",
    revision="main",
    step=None,
    place=0,
    cohort="top",
    part="rest",
    statistic="wd",
    previous=None,
    num_neurons=0,
    mean=float("nan"),
    first=0.5,
    median=0.5,
    third=0.5,
)


@pytest.fixture
def folder(tmp_path):
    return RunFolder(Store(str(tmp_path / "store"), create=True), "run")


def test_results_come_back_as_they_were(folder):
    rows = as_frame(CohortPoint, [POINT])
    folder.write_dynamics("cohorts", rows)
    (found,) = folder.read_dynamics("cohorts").to_dict("records")
    assert found["third"] == 0.5
    assert [name for name in found if pd.isna(found[name])] == ["step", "previous", "mean"]
    # Without rows it is a table all the same.
    folder.write_dynamics("cohorts", as_frame(CohortPoint, []))
    empty = folder.read_dynamics("cohorts")
    assert list(empty) == [field.name for field in fields(CohortPoint)]
    assert empty.empty


def test_columns_that_are_not_those_of_the_result_are_an_error(folder):
    rows = as_frame(CohortPoint, [POINT]).drop(columns="place")
    with pytest.raises(ValueError, match=r"table 'cohorts': missing columns \['place'\]"):
        folder.write_dynamics("cohorts", rows)


@pytest.mark.parametrize("name", DYNAMICS)
def test_what_is_not_there_yet_is_one_line(folder, name):
    folder.write_job("{}")
    with pytest.raises(UserError, match=f"'run' has no {name} yet"):
        folder.read_dynamics(name)
