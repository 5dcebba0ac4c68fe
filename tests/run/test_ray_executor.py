"""Real Ray, embedded."""

import io

import pandas as pd
import pytest
from rich.console import Console

import sweeper
from sweeper.errors import UserError
from sweeper.run.placement import Asked
from sweeper.run.ray_executor import RayExecutor


def quiet() -> Console:
    return Console(file=io.StringIO())


def test_two_workers_say_what_one_process_says(story_job):
    one = sweeper.run_job(story_job(), quiet())
    ray = {"executor": "ray", "workers": 2}
    two = sweeper.run_job(story_job(store=story_job().store + "2", cluster=ray), quiet())
    assert two.complete
    place = ["cell_key", "item_id"]
    items, others = (run.table("items").set_index(place).sort_index() for run in (one, two))
    columns = ["logprob", "logprob_bad", "margin", "num_tokens"]
    pd.testing.assert_frame_equal(items[columns], others[columns], atol=1e-3)
    assert set(two.table("cells")["worker"]) <= {"worker-0", "worker-1"}


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        (
            {"workers": 3, "gpus_per_worker": 1},
            r"^cluster: 3 workers with 1 CPUs and 1 GPUs each do not fit on .*, 0 GPUs\): lacks 1 ",
        ),
        ({"address": "127.0.0.1:1"}, r"^cluster\.address = '127\.0\.0\.1:1': "),
    ],
)
def test_what_the_cluster_lacks_is_an_error_not_a_wait(story_job, cluster, message):
    # float32 as on CPU: the device that a GPU job would compute on is not what is tested.
    job = story_job(cluster={"executor": "ray", **cluster})
    with pytest.raises(UserError, match=message):
        sweeper.run_job(job, quiet())
    # Nothing is left behind: the same process can start again.
    assert sweeper.run_job(story_job(), quiet()).complete


def test_a_worker_that_cannot_write_is_reported_with_its_reason(story_job, tmp_path):
    job = story_job()
    sweeper.run_job(job, quiet())
    executor = RayExecutor(
        str(tmp_path / "no-store"),
        "r",
        address="local",
        asked=Asked(workers=1),
        hang_seconds=600.0,
    )
    try:
        with pytest.raises(UserError, match="no-store"):
            executor.start()
    finally:
        executor.stop()
