"""A cell that fails however often it is tried, and one that kills whoever tries it."""

import shutil
from io import StringIO

import pytest
from faults.checking import assert_same_rows, assert_undisturbed
from faults.sweeps import Driver, injecting, on_ray
from rich.console import Console
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import sweeper
from sweeper.cli import app


@pytest.fixture
def silent_model(shared, tmp_path):
    """The tiny real model with neuron 3 of layer 1 made silent: clamping it changes nothing."""
    folder = tmp_path / "silent"
    shutil.copytree(shared / "models" / "stories260K", folder, copy_function=shutil.copyfile)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.gate_proj.weight"][3] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return {"stories": {"path": str(folder)}}


def status_of(job) -> str:
    result = CliRunner().invoke(app, ["status", job.name, "--store", job.store])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_a_cell_that_always_fails_costs_no_other(job, silent_model, tmp_path):
    explicit = {"kind": "explicit", "neurons": {1: [3]}}
    poison = {"operation": "negative_clamp", "neurons": explicit}
    healthy = {
        "baseline": {"operation": None},
        "other": {"operation": "zero", "neurons": {"kind": "explicit", "neurons": {2: [5]}}},
    }
    sweep = job(model=silent_model, condition={**healthy, "poison": poison}, census=None)
    driver = Driver(sweep, tmp_path)
    assert driver.wait() == 1, driver.output
    assert driver.output.count("failed after 3 attempt(s): stories local poison") == 2
    said = status_of(sweep)
    assert "finished, 4 of 6 cells" in said
    assert "failed: stories local poison grammar: UnchangedError" in said
    assert "unfinished" not in said
    run = sweeper.open_run(sweep.name, sweep.store)
    other = {"name": "alone", "store": str(tmp_path / "plain"), "condition": healthy}
    expected = sweeper.run_job(
        job(model=silent_model, census=None, **other), Console(file=StringIO())
    )
    assert_same_rows(run.store, expected.store, set(expected.manifest()["cell_key"]))
    # Only these cells are tried again; in this process, which spares the imports.
    run = sweeper.run_job(sweep, Console(file=StringIO()))
    assert len(run.failed) == 2
    assert run.folder.read_progress()["cells_reused"] == 4
    assert {failure.num_attempts for failure in run.store.failed().values()} == {2}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_cell_that_kills_its_worker_is_given_up_alone(job, reference, tmp_path):
    sweep = job(seeds=3, cluster=on_ray())
    driver = Driver(sweep, tmp_path, injecting("die", "top"))
    assert driver.wait() == 1, driver.output
    assert "failed after 3 attempt(s): stories local top grammar: ActorDiedError" in driver.output
    said = status_of(sweep)
    assert "failed: stories local top perplexity: ActorDiedError" in said
    cells = sweeper.open_run(sweep.name, sweep.store).table("cells")
    assert set(cells[cells["status"] == "failed"]["condition"]) == {"top"}
    assert (cells["status"] == "done").sum() == 1 + 2 * (1 + 3)
    # What was wrong with them is mended: only they are computed.
    driver = Driver(sweep, tmp_path)
    assert driver.wait() == 0, driver.output
    run = sweeper.open_run(sweep.name, sweep.store)
    assert run.folder.read_progress()["cells_reused"] == 1 + 2 * (1 + 3)
    assert_undisturbed(run, reference)
