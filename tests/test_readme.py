from pathlib import Path

import pytest

from sweeper.cli import app
from sweeper.spec import load_job

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_tree_has_a_line_for_every_file():
    named = {line.split()[0] for line in README.splitlines() if line.startswith("  ")}
    files = {path.name for path in (ROOT / "sweeper").rglob("*.py") if path.name != "__init__.py"}
    assert files <= named


@pytest.mark.parametrize(
    "command", ["plan", "run", "status", "ls", "aggregate", "report", "models pull", "doctor"]
)
def test_every_command_is_explained(command):
    assert f"sweeper {command}" in README


def test_no_command_is_missing_from_the_readme():
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        assert f"sweeper {name}" in README


def test_the_job_that_is_explained_is_the_quickstart(tmp_path):
    blocks = [part.split("```")[0] for part in README.split("```yaml\n")[1:]]
    job = tmp_path / "readme.yaml"
    job.write_text(blocks[0])
    assert load_job(job) == load_job(ROOT / "jobs" / "quickstart.yaml")
    # The second block shows conditions: they go with the same job.
    both = tmp_path / "conditions.yaml"
    both.write_text(blocks[0] + blocks[1])
    names = load_job(both).condition
    assert {"early", "early_control", "two_neurons"} < set(names)
