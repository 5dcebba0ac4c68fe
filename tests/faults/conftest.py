from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from faults.nodes import Nodes
from faults.sweeps import MOST_SEEDS, Driver, disturbed_job
from rich.console import Console

import sweeper
from sweeper.spec.job import JobSpec
from sweeper.store import Store


@pytest.fixture
def job(shared: Path, tmp_path: Path) -> Callable[..., JobSpec]:
    """``disturbed_job`` in the test's own folder and store."""

    def build(**changes: Any) -> JobSpec:
        return disturbed_job(shared, tmp_path, **{"store": str(tmp_path / "store"), **changes})

    return build


@pytest.fixture(autouse=True)
def _no_driver_is_left() -> Iterator[None]:
    """A test that fails in the middle leaves none of its drivers running."""
    yield
    for driver in Driver.started:
        if driver.process.poll() is None:
            driver.kill()
    Driver.started.clear()


@pytest.fixture(scope="session")
def reference(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Results of a run that nothing happens to, for jobs of up to ``MOST_SEEDS`` seeds."""
    folder = tmp_path_factory.mktemp("reference")
    job = disturbed_job(shared, folder, str(folder / "store"), seeds=MOST_SEEDS)
    run = sweeper.run_job(job, Console(file=StringIO()))
    assert run.complete
    return run.store


@pytest.fixture(scope="session")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A head and three nodes; tests take some away and leave three behind."""
    cluster = Nodes(tmp_path_factory.mktemp("nodes"))
    try:
        for _ in range(3):
            cluster.add()
        yield cluster
    finally:
        cluster.close()
