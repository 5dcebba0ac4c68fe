"""Faults of a cluster of several nodes, one after the other in one run."""

import pytest
from faults.checking import assert_undisturbed
from faults.sweeps import MOST_SEEDS, Driver, commits, on_ray

import sweeper

NODES = 3


@pytest.mark.timeout(900)
def test_a_hung_worker_a_lost_node_and_drained_ones(job, nodes, reference, tmp_path):
    sweep = job(seeds=MOST_SEEDS, cluster=on_ray(nodes.address, hang_seconds=4.0))
    driver = Driver(sweep, tmp_path, nodes.env)
    driver.committed(3)
    # Alive by all that the system says, and no answer will come: each has a unit, or will get one.
    (_, hung), (lost, other) = nodes.workers().items()
    hung.suspend()
    other.suspend()
    nodes.kill(lost)
    while len(nodes.alive) < NODES + 1:
        nodes.add()
    driver.has_said("hangs; starting it again: no sign of progress")
    driver.has_said("died (")
    done = commits(sweep)
    driver.committed(done + 1)
    for node in nodes.workers():
        nodes.drain(node)
    driver.has_said("has to leave; starting it again")
    assert driver.wait() == 0, driver.output
    run = sweeper.open_run(sweep.name, sweep.store)
    assert_undisturbed(run, reference)
    # Of all that happened only the hang is charged, to the one cell that hung.
    assert (run.table("cells")["cell_attempt"] > 1).sum() <= 1
