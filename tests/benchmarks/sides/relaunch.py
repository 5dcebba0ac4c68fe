"""lm-evaluation-harness started anew for every condition: import, load, build, score.

``python -m benchmarks.sides.relaunch REQUEST ANSWER`` is what is started. It is kind to the
harness: one task instead of 67, no index of its tasks, no bootstrap, no network.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.items import Sums
from sweeper.models.families import Family
from sweeper.records import Condition

TESTS = Path(__file__).resolve().parents[2]


def score(
    folder: Path, task: Path, family: Family, conditions: Sequence[Condition], aside: Path
) -> Sums:
    """Log-probabilities of all acceptable sentences, then of all unacceptable ones.

    Args:
        folder: the model's folder in Hugging Face format.
        task: YAML file of a task of minimal pairs.
        family: where the pre-activations are.
        conditions: one process each.
        aside: a folder for what the processes read and write.
    """
    return np.array([_launched(_request(folder, task, family, c), aside) for c in conditions])


def _request(folder: Path, task: Path, family: Family, condition: Condition) -> dict[str, Any]:
    modules = {
        f"{family.layers}.{layer}.{family.pre_activation}": list(neurons)
        for layer, neurons in condition.neurons.items()
    }
    return {
        "model": str(folder),
        "task": str(task),
        "operation": condition.operation,
        "modules": modules,
    }


def _launched(request: dict[str, Any], aside: Path) -> list[float]:
    question, answer = aside / "request.json", aside / "answer.json"
    question.write_text(json.dumps(request))
    command = [sys.executable, "-m", "benchmarks.sides.relaunch", str(question), str(answer)]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    subprocess.run(
        command, cwd=TESTS, env={**os.environ, **offline}, check=True, capture_output=True
    )
    scored: list[float] = json.loads(answer.read_text())
    return scored


def _main(question: Path, answer: Path) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    request = json.loads(question.read_text())
    lm = HFLM(pretrained=request["model"], dtype="float32", batch_size=32, device="cpu")
    _clamp(lm.model, request["operation"], request["modules"])
    result: Any = simple_evaluate(
        model=lm,
        tasks=[request["task"]],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
    )
    (samples,) = result["samples"].values()
    both = [[float(reply[0][0]) for reply in sample["resps"]] for sample in samples]
    answer.write_text(json.dumps([pair[side] for side in (0, 1) for pair in both]))


def _clamp(model: Any, operation: str | None, modules: dict[str, list[int]]) -> None:
    from sweeper.clamp.operations import OPERATIONS

    def hook(neurons: list[int]) -> Any:
        def clamp(_module: Any, _inputs: Any, output: Any) -> None:
            output[..., neurons] = OPERATIONS[str(operation)].change(output[..., neurons])

        return clamp

    for path, neurons in modules.items():
        model.get_submodule(path).register_forward_hook(hook(neurons))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
