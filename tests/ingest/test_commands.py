"""The command line over imported results."""

import re

import pytest
import yaml
from ingest_files import answers, new_file, samples_file, stderr_of

from sweeper import open_run
from sweeper.errors import UserError


@pytest.fixture
def evaluated(tmp_path):
    """Two checkpoints of a model: a group of three parts, one task by itself with its log."""
    folder = tmp_path / "lm_eval"
    for step, extra in ((0, 0), (100, 4)):
        rows = {
            f"part_{name}": {
                "acc,none": (base + extra) / 20,
                "acc_stderr,none": stderr_of((base + extra) / 20, 20),
            }
            for name, base in (("a", 10), ("b", 12), ("c", 9))
        }
        right = [1, 0, 1, 0] if not step else [1, 1, 1, 0]
        rows["piqa"] = {"acc,none": sum(right) / 4, "acc_stderr,none": 0.25}
        date = f"2024-01-01T00-00-{step // 10:02}.5"
        new_file(
            folder,
            rows,
            model_args=f"pretrained=org/m,revision=step{step}",
            date=date,
            groups={"parts": ["part_a", "part_b", "part_c"]},
            sizes={"piqa": 4},
        )
        samples_file(folder, "piqa", answers(right), date=date)
    return folder


def test_from_files_to_a_report(call, evaluated, tmp_path):
    store = tmp_path / "store"
    code, out, err = call("import", evaluated, "--name", "mine", "--store", store)
    assert code == 0, err
    assert "4 files with 8 cells (model, checkpoint, task), 8 new to the store" in out
    assert "tasks made of others: parts (3 tasks)" in out
    assert f"next: sweeper aggregate mine --store {store}" in out
    csv = tmp_path / "levels.csv"
    code, out, _ = call("aggregate", "mine", "--store", store, "--csv", csv)
    assert code == 0
    assert "parts: accuracy" in out
    assert re.search(r"org/m +step0 +51\.67 % \[.*\] +step100 +71\.67 % \[.*\]", out)
    assert "mean of 3 parts, which are the clusters; 2 checkpoints of each model" in out
    assert "4 documents; 2 checkpoints" in out
    assert csv.read_text().startswith("model,revision,step,task,metric,group,value,low,high")
    assert "8 of 8" in call("status", "mine", "--store", store)[1]
    assert "imported" in call("ls", "--store", store)[1]
    code, out, err = call("report", "mine", "--store", store)
    assert code == 0, err
    report = store / "runs" / "mine" / "report"
    page = (report / "report.html").read_text()
    assert "Imported results of lm-evaluation-harness" in page
    for other in ("No estimates yet", "Where the weights came from", "sweeper run mine.yaml"):
        assert other not in page
    assert "SHA-256 of each" in page
    assert "Levels at every checkpoint" in page
    assert "Changes from checkpoint to checkpoint" in page
    assert {file.name for file in (report / "figures").iterdir()} == {
        f"levels_over_steps.{kind}" for kind in ("svg", "png", "pdf")
    }
    assert (report / "step_levels.csv").is_file()
    assert (report / "tables" / "changes_over_steps.md").is_file()


def test_bad_files_and_what_is_left_out(call, evaluated, tmp_path):
    bad = evaluated / "results_x.json"
    bad.write_text("{")
    store = tmp_path / "store"
    arguments = ("import", evaluated, "--name", "mine", "--store", store)
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert f"error: {bad}: it is not valid JSON" in err
    assert "nothing was written" in err
    assert not store.exists()
    code, out, err = call(*arguments, "--skip-bad")
    assert code == 1
    assert f"left out: {bad}: it is not valid JSON" in err
    assert "8 new to the store" in out


def test_a_job_cannot_have_the_name_of_imported_results(call, evaluated, tmp_path, shared):
    store = tmp_path / "store"
    call("import", evaluated, "--name", "mine", "--store", store)
    job = {
        "defaults": [{"suite": ["grammar"]}, {"condition": ["baseline"]}, "_self_"],
        "name": "mine",
        "store": str(store),
        "model": {"stories": {"path": str(shared / "models" / "stories260K")}},
        "cluster": {"executor": "in_process"},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(job, sort_keys=False))
    code, _, err = call("run", tmp_path / "mine.yaml")
    assert code == 2
    assert "name: 'mine' is a run of imported results; choose another name" in err
    run = open_run("mine", str(store))
    assert run.estimates().empty
    assert run.levels().empty
    assert run.contrasts().empty
    with pytest.raises(UserError, match="holds imported results, which have no job"):
        _ = run.job
