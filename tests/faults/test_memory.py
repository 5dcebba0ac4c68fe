"""Memory that does not suffice: smaller batches, and the same numbers but for rounding."""

from io import StringIO

import psutil
import pytest
from faults.checking import assert_same_rows, assert_undisturbed
from faults.sweeps import Driver, injecting, on_ray
from rich.console import Console
from tiny_models import build_tiny

import sweeper

ROUNDING = 1e-3

WIDE = {"hidden_size": 64, "intermediate_size": 16384, "num_hidden_layers": 1}
"""One tensor of activations of 2,048 places is 134 MB."""


@pytest.fixture
def wide_job(job, tmp_path):
    """A job whose activations are larger than everything else; no census."""
    folder = build_tiny("llama", tmp_path / "wide", **WIDE)
    some = {"kind": "explicit", "neurons": {0: list(range(0, 16384, 7))}}

    def build(**changes):
        return job(
            model={"wide": {"path": str(folder), "batch_memory_gb": 4.0}},
            census=None,
            suite={"perplexity": {"kind": "perplexity", "corpus": "text", "length": 64}},
            condition={
                "baseline": {"operation": None},
                "top": {"operation": "zero", "neurons": some},
            },
            **changes,
        )

    return build


def test_memory_that_runs_out_halves_the_batches(wide_job, tmp_path):
    sweep = wide_job()
    # Too little for a whole batch, and plenty for a part of one.
    few = injecting("limit", "baseline", tmp_path / "came", bytes=150 * 2**20)
    driver = Driver(sweep, tmp_path, {**few, "SWEEPER_CACHE": str(tmp_path / "cache")})
    assert driver.wait() == 0, driver.output
    assert "out of memory: going on with" in driver.output
    run = sweeper.open_run(sweep.name, sweep.store)
    expected = sweeper.run_job(
        wide_job(name="plain", store=str(tmp_path / "plain")), Console(file=StringIO())
    )
    keys = set(run.manifest()["cell_key"])
    assert len(keys) == 2
    assert_same_rows(run.store, expected.store, keys, tolerance=ROUNDING)
    assert (run.table("cells")["cell_attempt"] == 1).all()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_worker_that_the_host_has_no_memory_for_is_tried_again_with_less(
    job, reference, tmp_path
):
    """Ray kills the worker; other programs that take gigabytes meanwhile disturb this test."""
    memory = psutil.virtual_memory()
    allowed = (memory.total - memory.available + 3e9) / memory.total
    if allowed > 0.95:
        pytest.skip("this test needs 4 GB of free memory")
    sweep = job(seeds=2, cluster=on_ray(workers=1))
    few = injecting("eat", "top", tmp_path / "came", gigabytes=5)
    ray = {"RAY_memory_usage_threshold": f"{allowed:.4f}", "RAY_memory_monitor_refresh_ms": "100"}
    cache = {"SWEEPER_CACHE": str(tmp_path / "cache")}
    driver = Driver(sweep, tmp_path, {**few, **ray, **cache})
    assert driver.wait() == 0, driver.output
    assert "died (OutOfMemoryError); starting it again" in driver.output
    assert (tmp_path / "cache" / "batch_sizes.json").exists()
    run = sweeper.open_run(sweep.name, sweep.store)
    assert_undisturbed(run, reference, tolerance=ROUNDING)
    assert (run.table("cells")["cell_attempt"] == 2).sum() == 1
