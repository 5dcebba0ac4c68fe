"""Local task files of every kind, over words that the tiny tokenizer knows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from sweeper.spec.task import LmEvalSpec

CHOICES = [
    {"q": "the cat sees the", "a": "dogs", "b": "river bank", "c": "in", "label": 0},
    {"q": "they think that it is", "a": "his", "b": "not easy", "c": "the house", "label": 1},
    {"q": "a small house with ", "a": "windows", "b": "said", "c": "never", "label": 0},
    {"q": "", "a": "the old man", "b": "man old the", "c": "every", "label": 2},
    # Longer than a context of 64 tokens.
    {"q": "every morning near the river " * 12, "a": "bank", "b": "she", "c": "it", "label": 1},
]
TEXTS = [
    {"text": "the cat sees the dogs that the old man feeds every morning"},
    {"text": "no student who has read these books would ever believe. " * 8},
    {"text": "it is not easy"},
]
MEAN = {"aggregation": "mean", "higher_is_better": True}
TASKS: dict[str, dict[str, Any]] = {
    "tiny_choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_target": "label",
        "doc_to_choice": "{{[a, b, c]}}",
        "metric_list": [{"metric": name, **MEAN} for name in ("acc", "acc_norm", "exact_match")],
    },
    "tiny_gap": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{label}}",
        "doc_to_target": "{{'near the river'}}",
        "doc_to_choice": "{{[a, b, c]}}",
        "metric_list": [{"metric": "acc", **MEAN}],
    },
    "tiny_target": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{' ' + a}}",
        "metric_list": [
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
            {"metric": "acc", **MEAN},
        ],
    },
    "tiny_rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [
            {"metric": "word_perplexity", "aggregation": "weighted_perplexity"},
            {"metric": "bits_per_byte", "aggregation": "bits_per_byte"},
        ],
    },
    "tiny_writing": {
        "output_type": "generate_until",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{a}}",
        "generation_kwargs": {"until": ["th", "."], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [{"metric": "exact_match", **MEAN}],
        "filter_list": [
            {"name": "whole", "filter": [{"function": "take_first"}]},
            {
                "name": "first",
                "filter": [
                    {"function": "regex", "regex_pattern": "([a-z])"},
                    {"function": "take_first"},
                ],
            },
        ],
    },
}


def write_tasks(folder: Path) -> Callable[..., LmEvalSpec]:
    """Write the task files and their data; gives a function from a task's name to its spec."""
    pd.DataFrame(CHOICES).to_parquet(folder / "choices.parquet")
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TEXTS))
    for name, config in TASKS.items():
        # The dataset is never asked for: files stand in for it.
        content = {"task": name, "dataset_path": "nobody/has-this", "test_split": "test", **config}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))

    def spec_of(name: str, **changes: Any) -> LmEvalSpec:
        file = "texts.jsonl" if name == "tiny_rolling" else "choices.parquet"
        data = {"test": str(folder / file)}
        task = str(folder / f"{name}.yaml")
        return LmEvalSpec.model_validate({"task": task, "data_files": data, **changes})

    return spec_of
