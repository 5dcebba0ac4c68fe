"""The command line as a user meets it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def job(shared, tmp_path) -> Path:
    """A job file of a user, in a folder of its own, that takes a second in one process."""
    text = tmp_path / "story.txt"
    text.write_text("Once upon a time there was a little girl named Lily who loved her dog. " * 40)
    content = {
        "defaults": [
            {"suite": ["grammar"]},
            {"condition": ["baseline", "top1_negative", "random_negative"]},
            {"cluster": "in_process"},
            "_self_",
        ],
        "name": "mine",
        "store": str(tmp_path / "store"),
        "seeds": 2,
        "model": {"stories": {"path": str(shared / "models" / "stories260K")}},
        "corpus": {"text": {"kind": "file", "path": str(text)}},
        "census": {"corpus": "text", "length": 64, "windows": 16},
        "suite": {"grammar": {"limit": 1}},
        "statistics": {"resamples": 100},
    }
    file = tmp_path / "jobs" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def test_run_and_all_that_can_be_asked_afterwards(call, job, tmp_path):
    store = tmp_path / "store"
    code, out, err = call("run", job)
    assert code == 0, err
    assert "grammar: accuracy, stories @ local" in out
    assert "(floor 0.33)" in out
    page = store / "runs" / "mine" / "report" / "report.html"
    assert f"report: {page}" in out
    assert page.read_text().startswith("<!doctype html>")
    assert "finished, 5 of 5 cells" in call("status", "mine", "--store", store)[1]
    assert "5 of 5" in call("ls", "--store", store)[1]
    table = tmp_path / "estimates.csv"
    code, out, _ = call("aggregate", "mine", "--store", store, "--csv", table)
    assert code == 0
    assert "top1_negative" in out
    assert table.read_text().startswith("model,revision,task,metric,group,condition")
    code, out, _ = call("report", "mine", "--store", store, "--output", tmp_path / "page")
    assert out.strip() == str(tmp_path / "page" / "report.html")


def test_plan_before_and_after(call, job, tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    code, out, err = call("plan", job)
    assert code == 0, err
    assert "measuring the speed of stories" in err
    row = next(line for line in out.splitlines() if "stories" in line)
    assert [part.strip() for part in row.split("│")[3:5]] == ["5", "0"]
    assert "detectable effect" in out
    assert not (tmp_path / "store").exists()
    call("run", job)
    _, out, err = call("plan", job)
    assert "measuring" not in err
    row = next(line for line in out.splitlines() if "stories" in line)
    assert [part.strip() for part in row.split("│")[3:8]] == ["5", "5", "0", "0", "0:00"]


def test_a_threshold_for_another_activation_is_known_before_the_run(call, job):
    override = "firing={corpora:[text],threshold:{relu:0}}"
    for command in ("plan", "run"):
        code, _, err = call(command, job, override)
        assert code == 2
        assert err.splitlines()[-1] == (
            "error: firing.threshold: {'relu': 0.0} has no number for 'silu', the activation "
            "function of model 'stories'; allowed is one number, or one for each activation "
            "function, 'silu' among them"
        )
        assert "measuring" not in err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sedes=3"], "sedes"),
        (["condition.top1_negative.neurons.fraction=0"], "neurons.fraction"),
        (["condition.top1_negative.neurons.fraction=1.5"], "neurons.fraction"),
        (["condition.top1_negative.neurons.layers=[7]"], "model 'stories' has layers 0 to 4"),
        (["suite.grammar.limit=many"], "suite.grammar.limit"),
        (["model.stories.path=/no/such/folder"], "/no/such/folder"),
        (["corpus.text.path=/no/such/file.txt"], "corpus.text.path"),
        (["suite=gramar"], "grammar"),
        (["store=ftp://somewhere"], "ftp"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(call, job, tmp_path, overrides, message):
    code, out, err = call("run", job, *overrides)
    assert code == 2
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert err.splitlines()[-1] == lines[0]
    assert "Traceback" not in out + err


def test_missing_columns_are_named_before_anything_is_loaded(call, job, tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"good": "a", "sentence_bad": "b", "UID": "c", "pair_id": 1}))
    code, _, err = call(
        "run", job, "suite.grammar.source.kind=file", f"suite.grammar.source.path={pairs}"
    )
    assert code == 2
    assert "sentence_good" in err
    assert "suite.grammar.columns.good" in err


def test_a_missing_job_store_or_run_is_one_line(call, job, tmp_path):
    for arguments in (
        ["run", tmp_path / "no.yaml"],
        ["status", "mine", "--store", tmp_path / "no"],
        ["ls", "--store", job],
        ["models", "pull", "/no/such/folder"],
    ):
        code, out, err = call(*arguments)
        assert code == 2
        assert err.startswith("error: ")
        assert "Traceback" not in out + err
    call("run", job)
    code, _, err = call("status", "mien", "--store", tmp_path / "store")
    assert code == 2
    assert "did you mean 'mine'" in err


def test_a_store_that_cannot_be_written_loses_nothing(call, job, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("kept")
    code, _, err = call("run", job, f"store={blocked}/store")
    assert code == 2
    assert "is not a folder" in err
    assert blocked.read_text() == "kept"


def test_pull_says_what_the_model_is(call, shared):
    code, out, _ = call("models", "pull", shared / "models" / "stories260K")
    assert code == 0
    assert "llama, 5 layers of 172 neurons, sha256:" in out


@pytest.mark.parametrize("command", [["--help"], ["plan", "--help"], ["status", "no"], ["ls"]])
def test_quick_commands_start_without_torch_and_ray(command, tmp_path):
    code = (
        "import sys; sys.argv[0] = 'sweeper'; from sweeper.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'transformers', 'ray') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_doctor_answers(call, tmp_path):
    code, out, _ = call("doctor", "--store", tmp_path / "store")
    assert code == 0
    assert "packages: torch" in out
    code, out, _ = call("doctor", "--store", "ftp://x")
    assert code == 1
    assert "FAIL  store" in out


def test_a_cluster_to_join_is_refused_where_nothing_joins_one(call, job):
    code, _, err = call("run", job, "--address", "auto")
    assert code == 2
    assert "--address 'auto': given, but cluster.executor is in_process" in err
    code, _, err = call("run", job, "cluster=local", "--address", "127.0.0.1:1")
    assert code == 2
    assert "cluster.address = '127.0.0.1:1'" in err
