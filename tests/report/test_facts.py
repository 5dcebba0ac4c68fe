import pandas as pd

from sweeper.report import facts
from sweeper.report.data import ReportData


def with_cells(data: ReportData, cells: pd.DataFrame) -> pd.DataFrame:
    changed = {name: getattr(data, name) for name in data.__dataclass_fields__}
    return facts.named_cells(ReportData(**(changed | {"cells": cells})))


def test_progress_counts_every_cell_once(data: ReportData) -> None:
    cells = data.cells.copy()
    cells.loc[4, "status"] = "failed"
    named = with_cells(data, cells.drop(index=[7, 8]))
    assert facts.progress(named) == {"total": 54, "done": 51, "failed": 1, "missing": 2}


def test_a_cell_done_after_a_failure_is_done(data: ReportData) -> None:
    failed = data.cells.iloc[[4]].assign(status="failed")
    for cells in (pd.concat([failed, data.cells]), pd.concat([data.cells, failed])):
        named = with_cells(data, cells)
        assert facts.failures(named).empty
        assert facts.progress(named)["done"] == 54


def test_changes_are_summed_over_seeds(data: ReportData) -> None:
    table = facts.changes(facts.named_cells(data))
    random = table[(table["condition"] == "random") & (table["task"] == "blimp")].iloc[0]
    assert (random["cells"], random["values changed"]) == ("10", "412,340")
    assert random["share"] == "41.2 %"
    assert "baseline" not in set(table["condition"])


def test_noise_is_of_every_task(data: ReportData) -> None:
    table = facts.noise(facts.named_cells(data))
    assert set(table["task"]) == {"blimp", "wikitext"}
    assert set(table["noise floor (nats)"]) == {"3.1e-05"}


def test_versions_and_time(data: ReportData) -> None:
    named = facts.named_cells(data)
    assert facts.versions(named) == [("torch", "2.13.0"), ("transformers", "5.23.0")]
    computing = dict(facts.computing(named))
    assert computing["time of all cells"] == "3 min 47 s"
    assert computing["last cell"] == "2026-01-02 03:04 UTC"


def test_no_cells(empty: ReportData) -> None:
    named = facts.named_cells(empty)
    assert facts.progress(named)["total"] == 0
    assert facts.failures(named).empty
    assert facts.noise(named).empty
    assert facts.changes(named).empty
    assert facts.computing(named) == []
