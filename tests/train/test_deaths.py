"""Trainings in processes of their own that are killed or told to end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_training import STEPS, TINY, contents, run, tiny_job

TRAINER = Path(__file__).with_name("trainer.py")


class Trainer:
    """Processes that train, one after the other; see trainer.py."""

    def __init__(self):
        # A script finds its own folder only, not the project that the tests run in.
        env = {**os.environ, "PYTHONPATH": str(TRAINER.parents[2])}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.parent = subprocess.Popen([sys.executable, TRAINER], text=True, env=env, **pipes)

    def start(self, folder: Path, *overrides: str, death: int | None = None) -> None:
        file = folder / "job.yaml"
        file.write_text(json.dumps({**TINY, "output": str(folder / "model")}))  # JSON is YAML
        self.messages = folder / "messages.txt"
        arguments = ["train", str(file), *overrides]
        self.parent.stdin.write(json.dumps([arguments, str(self.messages), death]) + "\n")
        self.parent.stdin.flush()
        self.pid = int(self.parent.stdout.readline())

    def wait(self) -> int:
        return int(self.parent.stdout.readline())


@pytest.fixture(scope="module")
def trainer():
    trainer = Trainer()
    yield trainer
    trainer.parent.communicate()


@pytest.mark.parametrize("place", [4, 24, 26, 31])
def test_a_killed_training_leaves_whole_checkpoints_and_goes_on(trained, trainer, tmp_path, place):
    """kill -9 at some fsync: inside a checkpoint, or (26) between a checkpoint and the state."""
    trainer.start(tmp_path, death=place)
    assert trainer.wait() == -signal.SIGKILL
    whole, left = contents(trained), contents(tmp_path / "model")
    names = {name.split("/")[0] for name in left}
    assert names < {f"step{step}" for step in STEPS}
    assert left == {file: digest for file, digest in whole.items() if file.split("/")[0] in names}
    assert len(names) == {4: 0, 24: 2, 26: 3, 31: 3}[place]
    folder, _ = run(tiny_job(tmp_path / "model"))
    assert contents(folder) == whole
    assert not list(folder.glob(".step*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_end_it_ends_as_a_sweep_does(trainer, tmp_path, number):
    trainer.start(tmp_path, "steps=100000")
    deadline = time.monotonic() + 120
    while not (tmp_path / "model" / "step1").exists():
        assert time.monotonic() < deadline, trainer.messages.read_text()
        time.sleep(0.02)
    os.kill(trainer.pid, number)
    assert trainer.wait() == 130
    said = trainer.messages.read_text()
    assert said.endswith(
        "stopped; what was finished is kept, the same command goes on from there\n"
    )
    assert "Traceback" not in said
