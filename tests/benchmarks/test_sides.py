import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.rows import ROWS, ModelFreeRow

TESTS = Path(__file__).resolve().parents[1]
LIBRARIES = ("nnsight", "pyvene")
MODEL_FREE = [name for name, row in ROWS.items() if isinstance(row, ModelFreeRow)]


def run(*arguments: object) -> str:
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def differences(tiny_folder) -> dict[str, dict[str, float]]:
    last_line = run("benchmarks.agreement", tiny_folder("llama")).splitlines()[-1]
    return json.loads(last_line)


@pytest.mark.parametrize(
    "side", ["engine", "obvious_loop", "harness", "relaunch", "nnsight", "pyvene"]
)
def test_every_side_says_what_plain_hugging_face_says(differences, side):
    if side in LIBRARIES and find_spec(side) is None:
        pytest.skip(f"{side} is not installed; `make bench` installs it")
    assert set(differences[side]) == {"baseline", "clamped"}
    assert max(differences[side].values()) < 1e-3


def test_the_clamp_that_they_agree_on_changes_something(differences):
    assert differences["clamp"]["clamped"] > 0.01


def test_both_sides_of_the_census_row_find_the_same_distances(tiny_folder, tmp_path):
    text = tmp_path / "wikitext2" / "raw" / "wiki.test.raw"
    text.parent.mkdir(parents=True)
    text.write_text("the cat sees the dogs that the old man feeds every morning . \n" * 200)
    output = tmp_path / "bench.json"
    options = ("--quick", "--only", "census_wd", "--model", tiny_folder("gpt2"))
    run("benchmarks", *options, "--data", tmp_path, "--output", output)
    (record,) = json.loads(output.read_text())
    assert record["neurons"] == 3 * 128
    assert record["tokens"] == 32 * 64
    # The normal sample that scipy gets has as many values, and as much noise.
    assert 0 < record["largest_difference"]["wd"] < 0.12
    assert 0 < record["wd_bound"] < 0.01


def test_rows_without_data_are_reported_not_left_out(tiny_folder, tmp_path):
    output = tmp_path / "bench.json"
    output.write_text(json.dumps([{"name": "tse_loop", "ratio": 1.0}, {"name": "other"}]))
    model = ("--quick", "--model", tiny_folder("llama"))
    printed = run("benchmarks", *model, "--data", tmp_path, "--output", output)
    records = {record["name"]: record for record in json.loads(output.read_text())}
    assert len(records) == len(ROWS) + 1
    assert records.pop("other") == {"name": "other"}
    for name in MODEL_FREE:
        assert records.pop(name)["skipped"] is None
    for name, record in records.items():
        missing = [side for side in LIBRARIES if side in name and find_spec(side) is None]
        reason = f"{missing[0]} is not installed" if missing else "no "
        assert record["skipped"].startswith(reason)
        assert record["ratio"] is record["met"] is None
        assert f"{record['skipped']}" in next(
            line for line in printed.splitlines() if line.startswith(name)
        )
