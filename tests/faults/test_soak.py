"""Two thousand units with something going wrong every few seconds."""

import random
import time
from collections import Counter
from contextlib import suppress
from io import StringIO

import psutil
import pytest
from faults.checking import assert_undisturbed
from faults.nodes import Nodes
from faults.sweeps import PAIRS, Driver, commits, disturbed_job, on_ray, until
from rich.console import Console
from typer.testing import CliRunner

import sweeper
from sweeper.cli import app

SEEDS = 998
"""2 x (2 + 998) units to score."""

SECONDS = (2.0, 7.0)
"""Shortest and longest time between faults."""

NODES = 3

OFTEN = (5, 3, 3, 3, 1)
"""How often each kind of fault comes, that of the driver last: it takes half a minute to be back,
in which there is nothing else to disturb."""


class Trouble:
    """Faults in a random order, each in a moment at which workers are there to meet it."""

    def __init__(self, nodes: Nodes, seed: int) -> None:
        self._nodes, self._random = nodes, random.Random(seed)
        self._kinds = [self.kill_worker, self.stop_worker, self.kill_node, self.drain_node]
        self.counts: Counter[str] = Counter()

    def come(self, driver: Driver) -> None:
        """One fault, at a worker if there is one, or at the driver."""
        (kind,) = self._random.choices([*self._kinds, None], OFTEN)
        workers = self._nodes.workers()
        if not workers:
            return
        if kind is None:
            driver.kill()
        else:
            node = self._random.choice(sorted(workers))
            with suppress(psutil.NoSuchProcess):  # its node has let it go meanwhile
                kind(node, workers[node])
        self.counts["driver" if kind is None else kind.__name__] += 1
        while len(self._nodes.alive) < NODES:
            self._nodes.add()

    def kill_worker(self, _node: str, worker: psutil.Process) -> None:
        worker.kill()

    def stop_worker(self, _node: str, worker: psutil.Process) -> None:
        worker.suspend()

    def kill_node(self, node: str, _worker: psutil.Process) -> None:
        self._nodes.kill(node)

    def drain_node(self, node: str, _worker: psutil.Process) -> None:
        self._nodes.drain(node)

    def wait(self, driver: Driver, done: int) -> None:
        """Let some time pass, and something be done: what never gets on would never end."""
        pause = time.monotonic() + self._random.uniform(*SECONDS)
        until(
            lambda: (
                driver.process.poll() is not None
                or (time.monotonic() > pause and commits(driver.job) > done)
            )
        )


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [1])
def test_a_soak(shared, nodes, tmp_path, seed):
    # A cell may be charged with faults that others brought about; none is to be given up.
    cluster = on_ray(nodes.address, hang_seconds=5.0, max_attempts=20)
    sweep = disturbed_job(shared, tmp_path, str(tmp_path / "store"), seeds=SEEDS, cluster=cluster)
    trouble, lives, code = Trouble(nodes, seed), 0, None
    while code != 0:
        driver, lives = Driver(sweep, tmp_path, nodes.env), lives + 1
        while driver.process.poll() is None:
            trouble.wait(driver, commits(sweep))
            if driver.process.poll() is None:
                trouble.come(driver)
        code = driver.wait()
        assert code in (0, -9), driver.output
        if code:
            said = CliRunner().invoke(app, ["status", sweep.name, "--store", sweep.store]).output
            assert "unfinished: " in said
    assert sum(trouble.counts.values()) >= 10, trouble.counts
    print(f"{lives} drivers, faults: {trouble.counts}")
    calm = disturbed_job(shared, tmp_path, str(tmp_path / "calm"), seeds=SEEDS)
    expected = sweeper.run_job(calm, Console(file=StringIO()))
    run = sweeper.open_run(sweep.name, sweep.store)
    assert_undisturbed(run, expected.store)
    assert len(run.table("items")) == (2 + SEEDS) * (30 * PAIRS + 6)
