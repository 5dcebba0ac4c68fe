import pandas as pd
import pytest
from records_factory import cell, checkpoint

from sweeper.run import named
from sweeper.run.manifest import manifest_rows
from sweeper.run.named import NamedCells


@pytest.fixture
def rows(story_job):
    job = story_job()

    def of(*keys: str) -> pd.DataFrame:
        cells = [cell(key, model="stories", condition="top", task="grammar") for key in keys]
        return manifest_rows(job, checkpoint(), cells, [])

    return of


def test_names_are_counted_as_they_come_and_go(rows):
    kept = []
    cells = NamedCells(kept.append)
    cells.settle(["a"])
    cells.settle(["b", "x"], reused=True)
    assert (cells.num_done, cells.num_reused, len(cells)) == (0, 0, 0)
    # Two conditions amount to the cell "a".
    cells.put(checkpoint(), rows("a", "a", "b", "c"))
    assert (cells.num_done, cells.num_reused, len(cells), cells.of("a")) == (3, 1, 4, 2)
    cells.put(checkpoint(revision="step2"), rows("b", "d"))
    assert (cells.num_done, cells.num_reused) == (4, 2)
    cells.settle(["c", "b", "c"])
    assert (cells.num_done, cells.num_reused) == (5, 2)
    # More becomes known of a checkpoint: its rows are replaced.
    cells.put(checkpoint(), rows("a", "c", "d"))
    assert (cells.num_done, cells.num_reused, len(cells)) == (3, 1, 5)


def test_a_growing_manifest_takes_little_of_the_time_and_ends_complete(rows, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(named.time, "monotonic", lambda: now[0])
    kept = []

    def write(table) -> None:
        now[0] += 1.0
        kept.append(table["cell_key"].to_pylist())

    cells = NamedCells(write)
    for number in range(100):
        cells.put(checkpoint(revision=f"step{number}"), rows(f"k{number}"))
        now[0] += 0.5
    writing = len(kept)
    assert kept[0] == ["k0"]
    assert 2 <= writing <= now[0] * 0.06 + 1
    cells.write()
    cells.write()
    assert len(kept) == writing + 1
    assert kept[-1] == [f"k{number}" for number in range(100)]
