"""Do all sides say the same? ``python -m benchmarks.agreement FOLDER`` for a model's folder.

Prints, as JSON, each installed side's largest difference (nats) from plain Hugging Face on a
text's log-probability: without a clamp, and with one. A program of its own, since nnsight gives
every object of its process a method.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.bench import QUICK, Bench, open_bench
from benchmarks.conditions import BASELINE, random_clamp
from benchmarks.items import Items, Sums
from benchmarks.sides import harness, obvious_loop, relaunch
from benchmarks.sides.batches import in_file_order
from sweeper.records import Condition

PAIRS = [
    ("the cat sees the dogs", "the cat see the dogs"),
    ("the students have read it", "the students has read it"),
    ("no student would ever believe it", "a student would ever believe it"),
    ("they think that it is not easy to find a house", "they think that it is not easy a house"),
    ("the men near the river feed the dogs", "the men near the river feeds the dogs"),
]
Side = Callable[[Items, Sequence[Condition]], Sums]


def differences(folder: Path) -> dict[str, dict[str, float]]:
    """Largest differences of every side; and, as "clamp", what the clamp changes."""
    with tempfile.TemporaryDirectory() as aside:
        bench = open_bench(str(folder), Path(aside), Path(aside), QUICK, repeats=1)
        task = harness.pair_task(bench.aside, pd.DataFrame(PAIRS, columns=["good", "bad"]))
        items = harness.pair_items(harness.harness_model(bench.model), task)
        conditions = {"baseline": BASELINE, "clamped": random_clamp(bench.model, 0)}
        plain = {name: _plain(bench, items, c) for name, c in conditions.items()}
        found = {"clamp": {"clamped": _largest(plain["clamped"], plain["baseline"])}}
        for side, score in _sides(bench, task).items():
            found[side] = {
                name: _largest(score(items, [condition])[0], plain[name])
                for name, condition in conditions.items()
            }
    return found


def _sides(bench: Bench, task: Path) -> dict[str, Side]:
    lm = harness.harness_model(bench.model, batch_size=4)

    def relaunched(_items: Items, conditions: Sequence[Condition]) -> Sums:
        return relaunch.score(bench.folder, task, bench.model.family, conditions, bench.aside)

    sides: dict[str, Side] = {
        "engine": bench.engine,
        "obvious_loop": partial(obvious_loop.score, bench.model, batch_size=4),
        "harness": partial(harness.score, lm, bench.model),
        "relaunch": relaunched,
    }
    few = partial(in_file_order, size=4)
    if find_spec("nnsight"):
        from benchmarks.sides.nnsight_side import NnsightSide

        sides["nnsight"] = partial(NnsightSide(bench.another_model()).score, batched=few)
    if find_spec("pyvene"):
        from benchmarks.sides.pyvene_side import PyveneSide

        sides["pyvene"] = partial(PyveneSide(bench.another_model()).score, batched=few)
    return sides


@torch.inference_mode()
def _plain(bench: Bench, items: Items, condition: Condition) -> Sums:
    """Each text alone, its full logits, and the clamp written out."""
    handles = [
        bench.model.sites[layer].pre_activation.register_forward_hook(_negative_clamp(neurons))
        for layer, neurons in condition.neurons.items()
    ]
    sums = []
    for row, start in zip(items.rows, items.starts, strict=True):
        tokens = torch.tensor([row])
        logprobs = bench.model.model(input_ids=tokens).logits[0].double().log_softmax(-1)
        sums.append(sum(float(logprobs[t - 1, row[t]]) for t in range(start, len(row))))
    for handle in handles:
        handle.remove()
    return np.array(sums)


def _negative_clamp(neurons: Sequence[int]) -> Callable[[nn.Module, object, Tensor], Tensor]:
    chosen = list(neurons)

    def clamp(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        changed = output.clone()
        changed[..., chosen] = output[..., chosen].relu()
        return changed

    return clamp


def _largest(a: Sums, b: Sums) -> float:
    return float(np.abs(a - b).max())


if __name__ == "__main__":
    print(json.dumps(differences(Path(sys.argv[1]))))
