"""A unit without cells: the worker loads the model and says so."""

from dataclasses import replace

from sweeper.run.build import census_unit
from sweeper.run.progress import describe
from sweeper.run.sweep import prepare
from sweeper.run.worker import Worker
from sweeper.store import Store


def test_a_worker_that_is_to_help_loads_and_commits_nothing(story_job):
    job = story_job()
    store, sweep = Store(job.store, create=True), prepare(job)
    (checkpoint,) = sweep.checkpoints
    whole = census_unit(sweep, checkpoint, sweep.census_cell(checkpoint))
    load = replace(whole, cells=())
    worker = Worker(store.uri, "run", "w", 1)
    first = worker.run(load)
    assert (first.done, first.errors, first.loaded, first.num_tokens) == ((), (), True, 0)
    assert 0 < first.load_seconds <= first.seconds
    held = worker._held
    assert worker.run(whole).done == (whole.cells[0].key,)
    assert worker._held is held
    missing = replace(load, checkpoint=replace(checkpoint, location="/nowhere", revision="other"))
    failed = worker.run(missing)
    assert (failed.loaded, failed.done, failed.errors) == (False, (), ())
    store.refresh()
    assert store.done_keys() == {whole.cells[0].key}
    assert describe(load) == "stories local: loading"
