"""Sweeps over training checkpoints: from a folder, and from a hub on the loopback interface."""

import io
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from hub_server import Repository, serve
from rich.console import Console
from tiny_models import build_tiny

import sweeper
from sweeper import commands
from sweeper.models import weights_folder
from sweeper.models.prefetch import CheckpointFiles
from sweeper.run import sweep as preparing
from sweeper.run.speed import Speeds
from sweeper.spec.job import JobSpec

STEPS = (0, 1, 10)
TEXT = "the cat sees the dogs that the old man feeds every morning near the river bank\n" * 20
CELLS = 1 + 1 + 1 + 2
"""Of a revision: census, baseline, top, and two random draws."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    for step in STEPS:
        build_tiny("gpt_neox", folder / f"step{step}", seed=step)
    return folder


def plain_job(folder: Path, model: dict[str, Any], **cluster: Any) -> dict[str, Any]:
    (folder / "text.txt").write_text(TEXT)
    clamp = {"operation": "negative_clamp"}
    top = {"kind": "top", "statistic": "wd", "fraction": 0.1}
    return {
        "name": "steps",
        "store": str(folder / "store"),
        "model": {"tiny": model},
        "corpus": {"text": {"kind": "file", "path": str(folder / "text.txt")}},
        "census": {"corpus": "text", "length": 32, "overlap": 0.0, "windows": 8},
        "suite": {"perplexity": {"kind": "perplexity", "corpus": "text", "length": 32}},
        "condition": {
            "baseline": {"operation": None},
            "top": {**clamp, "neurons": top},
            "random": {**clamp, "neurons": {"kind": "random", "match": "top"}},
        },
        "seeds": 2,
        "statistics": {"resamples": 100},
        "cluster": {"executor": "in_process", **cluster},
    }


def run(folder: Path, trained: Path, **model: Any) -> sweeper.Run:
    folder.mkdir(exist_ok=True)
    job = plain_job(folder, {"path": str(trained), "revisions": "step*", **model})
    return sweeper.run_job(JobSpec.model_validate(job), Console(file=io.StringIO()))


def items(found: sweeper.Run, *conditions: str) -> pd.DataFrame:
    """Log-probabilities by revision, condition, draw and item; of some conditions, or of all."""
    manifest = found.manifest()[["cell_key", "revision", "condition", "seed"]]
    rows = found.table("items").merge(manifest, on="cell_key")
    if conditions:
        rows = rows[rows["condition"].isin(conditions)]
    place = ["revision", "condition", "seed", "item_id"]
    return rows[[*place, "logprob"]].sort_values(place).reset_index(drop=True)


@pytest.fixture(scope="module")
def done(trained, tmp_path_factory) -> tuple[sweeper.Run, list[tuple[bool, str]]]:
    """A sweep over three revisions, and who asked for which revision's files in what order."""
    asked: list[tuple[bool, str]] = []

    def noting(checkpoint, spec):
        is_ahead = threading.current_thread() is not threading.main_thread()
        asked.append((is_ahead, checkpoint.revision))
        return weights_folder(checkpoint, spec)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweeper.models.source.weights_folder", noting)
        return run(tmp_path_factory.mktemp("done"), trained), asked


def test_every_revision_gets_every_cell(done):
    found, _ = done
    assert found.complete
    counts = found.manifest().groupby("revision").size()
    assert counts.to_dict() == {f"step{step}": CELLS for step in STEPS}
    assert len(found.table("cells")) == CELLS * len(STEPS)
    assert [c.step for c in found.folder.read_checkpoints()] == list(STEPS)
    assert set(found.estimates()["revision"]) == {f"step{step}" for step in STEPS}


def test_each_revision_is_loaded_once_and_brought_near_before(done):
    _, asked = done
    loaded = [revision for is_ahead, revision in asked if not is_ahead]
    assert loaded == ["step0", "step1", "step10"]
    assert [revision for is_ahead, revision in asked if is_ahead] == ["step1", "step10"]
    for revision in ("step1", "step10"):
        assert asked.index((True, revision)) < asked.index((False, revision))


def test_numbers_are_those_of_a_folder_alone(done, trained, tmp_path):
    alone = run(tmp_path / "alone", trained / "step10", revisions=None)
    assert set(alone.manifest()["revision"]) == {"local"}
    mine = items(done[0]).query("revision == 'step10'").assign(revision="local")
    pd.testing.assert_frame_equal(items(alone), mine.reset_index(drop=True), rtol=0, atol=1e-5)


def test_numbers_are_the_same_without_a_look_ahead(done, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(CheckpointFiles, "look_ahead", lambda _self, _outlook: None)
    plain = run(tmp_path / "plain", trained)
    pd.testing.assert_frame_equal(items(plain), items(done[0]), rtol=0, atol=1e-5)


def test_a_next_folder_that_breaks_hurts_no_other_revision(done, trained, tmp_path, monkeypatch):
    copy = Path(shutil.copytree(trained, tmp_path / "copy"))
    prepare = preparing.prepare

    def then_break(job, say):
        found = prepare(job, say)
        shutil.rmtree(copy / "step1")
        return found

    monkeypatch.setattr("sweeper.run.execute.prepare", then_break)
    found = run(tmp_path / "broken", copy)
    assert not found.complete
    assert {item.cell.revision for item in found.failed} == {"step1"}
    assert {item.error.type for item in found.failed} == {"UserError"}
    assert "there is no folder" in found.failed[0].error.text
    intact = items(done[0]).query("revision != 'step1'").reset_index(drop=True)
    pd.testing.assert_frame_equal(items(found), intact, rtol=0, atol=1e-5)


def test_a_plan_has_one_line_for_all_revisions(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    job = JobSpec.model_validate(plain_job(tmp_path, {"path": str(trained), "revisions": "step*"}))
    out, err = (Console(file=io.StringIO(), width=200) for _ in range(2))
    commands.plan(job, False, out, err)
    said = err.file.getvalue()
    assert "model tiny: 3 revisions, step0 to step10" in said
    (line,) = [line for line in out.file.getvalue().splitlines() if "step" in line]
    cells = [cell.strip() for cell in line.split("│")]
    assert cells[1:5] == ["tiny", "3: step0 to step10", str(CELLS * len(STEPS)), "0"]
    assert "only guessed, for: tiny\n" in out.file.getvalue()


def test_the_speed_of_one_revision_is_that_of_all(trained, tmp_path):
    job = JobSpec.model_validate(plain_job(tmp_path, {"path": str(trained), "revisions": "step*"}))
    first, *others = preparing.prepare(job).checkpoints
    speeds = Speeds(1, 0, tmp_path / "speeds.json")
    speeds.set(first, 123.0)
    speeds.save()
    again = Speeds(1, 0, tmp_path / "speeds.json")
    assert [again.rate(other) for other in others] == [123.0, 123.0]


PROGRAM = """
import sys, sweeper

sys.exit(not sweeper.run_job(sweeper.load_job(sys.argv[1])).complete)
"""


def commit_of(number: int) -> str:
    return f"{number + 1:040x}"


def test_a_sweep_over_a_hub_s_revisions_keeps_to_its_disk_space(done, trained, tmp_path):
    commits = {
        commit_of(step): {
            file.name: file.read_bytes() for file in (trained / f"step{step}").iterdir()
        }
        for step in STEPS
    }
    branches = {f"step{step}": commit_of(step) for step in STEPS}
    repository = Repository(branches={"main": commit_of(10), **branches}, commits=commits)
    # Less than any checkpoint takes: none stays that is not needed any more.
    model = {"path": "org/tiny", "revisions": "step* | ..10"}
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(plain_job(tmp_path, model, cache_gb=1e-6)))
    with serve({"org/tiny": repository}) as hub:
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(job)],
            cwd=Path(__file__).resolve().parents[2],
            env=hub.environment(tmp_path / "home"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        asked = [request for request in hub.requests if request.endswith("/refs")]
    assert len(asked) == 1
    found = sweeper.open_run("steps", str(tmp_path / "store"))
    assert [c.commit for c in found.folder.read_checkpoints()] == [commit_of(s) for s in STEPS]
    # Random draws depend on the fingerprint, which is the commit here.
    chosen = ("baseline", "top")
    expected = items(done[0], *chosen)
    pd.testing.assert_frame_equal(items(found, *chosen), expected, rtol=0, atol=1e-5)
    snapshots = tmp_path / "home" / "hub" / "models--org--tiny" / "snapshots"
    left = {path.name for path in snapshots.iterdir()}
    assert commit_of(0) not in left  # deleted while the second one computed
    assert commit_of(10) in left
