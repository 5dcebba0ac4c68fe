import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="module")
def on_text(tiny_folder, tmp_path_factory) -> dict[str, dict[str, Any]]:
    """Records of the rows that read running text, by their names."""
    folder = tmp_path_factory.mktemp("text")
    text = folder / "wikitext2" / "raw" / "wiki.test.raw"
    text.parent.mkdir(parents=True)
    text.write_text("the cat sees the dogs that the old man feeds every morning . \n" * 200)
    output = folder / "bench.json"
    rows = "census_wd,layer_major,routing_layers"
    options = ("--quick", "--only", rows, "--model", tiny_folder("gpt2"))
    run("benchmarks", *options, "--data", folder, "--output", output)
    return {record["name"]: record for record in json.loads(output.read_text())}


def test_both_sides_of_the_census_row_find_the_same_distances(on_text):
    record = on_text["census_wd"]
    assert record["neurons"] == 3 * 128
    assert record["tokens"] == 32 * 64
    # The normal sample that scipy gets has as many values, and as much noise.
    assert 0 < record["largest_difference"]["wd"] < 0.12
    assert 0 < record["wd_bound"] < 0.01


def test_both_sides_of_the_routing_row_find_the_same(on_text):
    record = on_text["routing_layers"]
    assert record["agree"]
    assert record["largest_difference"]["residual"] < 1e-3
    assert (record["layers"], record["same_roles"]) == (3, 2)


def test_both_sides_of_the_layer_major_row_give_the_same_outputs(on_text):
    record = on_text["layer_major"]
    assert record["agree"]
    # Twelve weights of each of three layers, once and once a batch.
    assert record["weights_read"] == {"layer by layer": 36, "batch by batch": 8 * 36}
    assert record["ratio"] == record["goal"] == 8
    assert record["most_layer_bytes"]["layer by layer"] == record["layer_bytes"] / 3


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
