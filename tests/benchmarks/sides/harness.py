"""lm-evaluation-harness: its own Hugging Face model (HFLM) and its own Task objects."""

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import pandas as pd
import yaml
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from benchmarks.items import Items, Sums, sentences
from sweeper.clamp.hooks import clamped
from sweeper.models.loading import LoadedModel
from sweeper.records import Condition

BATCH_SIZE = 32
TASKS = Path(lm_eval.__file__).parent / "tasks"

Request = tuple[tuple[str, str], list[int], list[int]]
"""Texts of context and continuation, and their tokens."""

logging.getLogger("lm_eval").setLevel(logging.ERROR)  # tells of every model passed as an object


def harness_model(model: LoadedModel, batch_size: int = BATCH_SIZE) -> HFLM:
    """The harness's model around our weights; it may change its tokenizer, so it gets a copy."""
    tokenizer = copy.deepcopy(model.tokenizer)
    return HFLM(pretrained=model.model, tokenizer=tokenizer, batch_size=batch_size, device="cpu")


def score(lm: HFLM, model: LoadedModel, items: Items, conditions: Sequence[Condition]) -> Sums:
    """Sums over the scored tokens by the part of the harness that computes.

    Its requests are tokenised already: a context, and a continuation that is scored.
    """
    requests: list[Request] = [
        (("", ""), row[:start], row[start:])
        for row, start in zip(items.rows, items.starts, strict=True)
    ]
    sums = []
    for condition in conditions:
        with clamped(model, condition):
            answers = lm._loglikelihood_tokens(requests, disable_tqdm=True)
        sums.append([logprob for logprob, _ in answers])
    return np.array(sums, np.float64)


def task_items(lm: HFLM, file: Path, limit: int | None = None) -> Items:
    """The requests that a task of the harness makes of its first documents.

    Args:
        lm: tokenises as the harness does.
        file: the task's YAML file.
        limit: number of documents; None for all.
    """
    (task,) = TaskManager(include_defaults=False).load(str(file))["tasks"].values()
    task.build_all_requests(limit=limit)
    requests = _tokenised(lm, task.instances)
    return Items(
        rows=[context + continuation for _, context, continuation in requests],
        starts=[len(context) for _, context, _ in requests],
    )


def pair_items(lm: HFLM, file: Path) -> Items:
    """The requests of a task of minimal pairs, as pairs."""
    items = task_items(lm, file)
    order = [index for side in (0, 1) for index in range(side, len(items.rows), 2)]
    return sentences([items.rows[index] for index in order], [items.starts[i] for i in order])


def _tokenised(lm: HFLM, instances: Sequence[Any]) -> list[Request]:
    """What the harness hands to the part of itself that computes."""
    kept: list[Request] = []

    def keep(requests: list[Request], disable_tqdm: bool) -> list[Any]:
        del disable_tqdm
        kept.extend(requests)
        return []

    lm._loglikelihood_tokens = keep
    try:
        lm.loglikelihood(instances, disable_tqdm=True)
    finally:
        del lm._loglikelihood_tokens
    return kept


def pair_task(folder: Path, pairs: pd.DataFrame) -> Path:
    """The harness's BLiMP task over some pairs, as a YAML file."""
    table = pd.DataFrame({"sentence_good": pairs["good"], "sentence_bad": pairs["bad"]})
    file = folder / "pairs.parquet"
    table.to_parquet(file)
    return local_task(folder, "blimp/_template_yaml", "train", file)


def local_task(folder: Path, original: str, split: str, data: Path) -> Path:
    """A task of the harness with local data, as a YAML file that includes the original.

    Args:
        folder: where the file and the converted data go.
        original: path of the original inside the harness's ``tasks`` folder.
        split: the split that the task scores.
        data: a Parquet file.
    """
    changes: dict[str, Any] = {
        "include": str(TASKS / original),
        "task": f"local_{data.stem}",
        "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": {split: str(data)}, "cache_dir": str(folder / "cache")},
        "training_split": None,
    }
    file = folder / f"{data.stem}.yaml"
    file.write_text(yaml.safe_dump(changes))
    return file
