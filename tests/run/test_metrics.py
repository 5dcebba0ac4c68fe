from collections import defaultdict

import pytest
from rich.console import Console

import sweeper
from sweeper.run import execute
from sweeper.run.metrics import METRICS, Metric, SweepMetrics, Unobserved


class Recorded:
    """Keeps what is recorded, as a counter or a gauge would."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str | None], float] = defaultdict(float)
        self.seconds: list[float] = []

    def make(self, metric: Metric):
        def record(value: float, tags: dict[str, str]) -> None:
            assert set(tags) == set(metric.tags)
            assert tags["sweep"] == "story"
            place = metric.name, tags.get("model")
            if metric.kind == "counter":
                assert value > 0
                self.values[place] += value
            elif metric.kind == "gauge":
                self.values[place] = value
            else:
                self.seconds.append(value)

        return record


@pytest.fixture
def recorded(monkeypatch) -> Recorded:
    kept = Recorded()
    monkeypatch.setattr(
        execute, "make_observer", lambda sweep: SweepMetrics(sweep.job.name, kept.make)
    )
    return kept


def quiet() -> Console:
    return Console(quiet=True)


def test_the_metrics_agree_with_the_store(story_job, recorded):
    run = sweeper.run_job(story_job(), quiet())
    cells = run.table("cells")
    found = recorded.values
    assert found["sweeper_cells_expected", None] == len(cells)
    assert found["sweeper_cells_done", None] == len(cells)
    assert found["sweeper_cells_failed", None] == 0
    # The parts of a census are cells too, though nobody has named them.
    everything = run.store.table("cells").to_pandas()
    assert found["sweeper_cells_computed", "stories"] == len(everything)
    assert found["sweeper_tokens", "stories"] > 0
    assert found["sweeper_units_in_flight", "stories"] == 0
    assert len(recorded.seconds) == everything["attempt"].nunique()


def test_a_second_run_computes_nothing_and_says_so(story_job, recorded):
    sweeper.run_job(story_job(), quiet())
    recorded.values.clear()
    recorded.seconds.clear()
    sweeper.run_job(story_job(), quiet())
    # No worker was started, so there is no Ray to tell anything.
    assert not recorded.values
    assert not recorded.seconds


def test_failures_are_counted(story_job, recorded, monkeypatch):
    from sweeper.run import worker

    def fail(*_, **__):
        raise RuntimeError("no")

    monkeypatch.setattr(worker, "score_texts", fail)
    run = sweeper.run_job(story_job(), quiet())
    assert run.failed
    assert recorded.values["sweeper_cells_failed", None] == len(run.failed)
    attempts = sum(item.attempts for item in run.failed)
    assert recorded.values["sweeper_cell_errors", "stories"] == attempts


def test_an_in_process_run_tells_nobody(story_job):
    job = story_job()

    class Sweep:
        pass

    sweep = Sweep()
    sweep.job = job
    assert isinstance(execute.make_observer(sweep), Unobserved)


def test_no_metric_knows_a_cell():
    for metric in METRICS:
        assert set(metric.tags) <= {"sweep", "model"}
        assert metric.name.startswith("sweeper_")
        assert metric.description.endswith(".")
