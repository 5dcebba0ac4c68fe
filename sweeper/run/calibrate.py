"""Measure a model's speed: ``python -m sweeper.run.calibrate`` with a request on standard input.

A process of its own, so that planning never imports torch.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sweeper.errors import UserError
from sweeper.records import Checkpoint, Condition
from sweeper.spec.model import ModelSpec

if TYPE_CHECKING:
    from sweeper.models.loading import LoadedModel

SECONDS = 3.0
"""Least time of the measurement, after a warm-up."""

LENGTH = 32
"""Tokens of a row: between a minimal pair's sentence and a window of running text."""


def calibrate(checkpoint: Checkpoint, spec: ModelSpec, threads: int) -> float:
    """Token positions per second of one worker, by scoring random tokens in a child process.

    Raises:
        UserError: the model cannot be loaded.
    """
    request = {"checkpoint": asdict(checkpoint), "spec": spec.model_dump(), "threads": threads}
    done = subprocess.run(
        [sys.executable, "-m", "sweeper.run.calibrate"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"model.{checkpoint.model}: calibration failed: {last}")
    return float(json.loads(done.stdout.splitlines()[-1])["rate"])


def measure(request: Mapping[str, Any]) -> float:
    """Load the requested model and measure; needs torch."""
    import torch

    from sweeper.models.loading import load
    from sweeper.models.source import leased_folder

    torch.set_num_threads(request["threads"])
    checkpoint, spec = Checkpoint(**request["checkpoint"]), ModelSpec(**request["spec"])
    with leased_folder(checkpoint, spec) as folder:
        return _rate(load(checkpoint, spec, folder), spec)


def _rate(model: "LoadedModel", spec: ModelSpec) -> float:
    """Token positions per second of a loaded model."""
    import numpy as np

    from sweeper.score.engine import score_texts
    from sweeper.score.memory import TokenBudget, first_budget
    from sweeper.score.texts import Texts

    length = min(LENGTH, model.checkpoint.context)
    vocabulary = model.model.config.get_text_config().vocab_size
    positions = first_budget(model, spec)
    num_rows = max(min(positions, 1024) // length, 1)
    rows = np.random.default_rng(0).integers(vocabulary, size=(num_rows, length)).tolist()
    baseline = Condition(name="baseline", seed=None, operation=None)
    score_texts(model, Texts(rows=rows), [baseline], TokenBudget(positions))
    begin, passes = time.monotonic(), 0
    while time.monotonic() - begin < SECONDS:
        score_texts(model, Texts(rows=rows), [baseline], TokenBudget(positions))
        passes += 1
    return passes * num_rows * length / (time.monotonic() - begin)


if __name__ == "__main__":
    print(json.dumps({"rate": measure(json.load(sys.stdin))}))
