"""Workers that are alive and get nowhere."""

import pytest
from faults.checking import assert_undisturbed
from faults.sweeps import Driver, injecting, on_ray

import sweeper

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("wait", "no sign of progress"), ("spin", "no layer computed")],
)
def test_a_worker_that_gets_nowhere_is_replaced(job, reference, tmp_path, fault, reason):
    sweep = job(seeds=4, cluster=on_ray(hang_seconds=4.0))
    driver = Driver(sweep, tmp_path, injecting(fault, "top", tmp_path / "came"))
    assert driver.wait() == 0, driver.output
    assert (tmp_path / "came").exists()
    assert f"hangs; starting it again: {reason}" in driver.output
    run = sweeper.open_run(sweep.name, sweep.store)
    assert_undisturbed(run, reference)
    assert (run.table("cells")["cell_attempt"] == 2).sum() == 1
