"""Result files of lm-evaluation-harness, written by hand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DATE = "2024-03-01T10-20-30.123456"


def old_file(path: Path, results: Mapping[str, Mapping[str, Any]], **config: Any) -> Path:
    """The layout of versions up to 0.3."""
    settings = {"model": "hf-causal", "num_fewshot": 0, "batch_size": 8, "limit": None, **config}
    content = {"results": results, "versions": dict.fromkeys(results, 0), "config": settings}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def new_file(
    folder: Path,
    results: Mapping[str, Mapping[str, Any]],
    *,
    model_args: Any = "pretrained=EleutherAI/pythia-70m,revision=step1000",
    date: str = DATE,
    groups: Mapping[str, Sequence[str]] | None = None,
    sizes: Mapping[str, int] | None = None,
    shots: Mapping[str, int] | None = None,
    **more: Any,
) -> Path:
    """The layout of versions from 0.4.2."""
    content = {
        "results": {name: {"alias": name, **row} for name, row in results.items()},
        "group_subtasks": {name: list(parts) for name, parts in (groups or {}).items()},
        "configs": {name: {"task": name} for name in results},
        "versions": dict.fromkeys(results, 1.0),
        "n-shot": dict(shots or dict.fromkeys(results, 0)),
        "n-samples": {
            name: {"original": 2 * size, "effective": size} for name, size in (sizes or {}).items()
        },
        "config": {"model": "hf", "model_args": model_args},
        "lm_eval_version": "0.4.9",
        **more,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"results_{date}.json"
    path.write_text(json.dumps(content))
    return path


def sample(doc_id: int, acc: float, scores: Sequence[float] = (), **more: Any) -> dict[str, Any]:
    """A line of a log; the right answer is the first one."""
    line: dict[str, Any] = {
        "doc_id": doc_id,
        "doc": {"text": f"document {doc_id}"},
        "target": "0",
        "arguments": {},
        "resps": [],
        "filtered_resps": [[str(score), "False"] for score in scores],
        "filter": "none",
        "metrics": ["acc"],
        "doc_hash": f"{doc_id:08x}{'0' * 56}",
        "acc": acc,
    }
    return line | more


def samples_file(
    folder: Path, task: str, lines: Sequence[Mapping[str, Any]], date: str = DATE
) -> Path:
    """A log of single documents."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"samples_{task}_{date}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def stderr_of(accuracy: float, size: int) -> float:
    """The harness's standard error of an accuracy."""
    return (accuracy * (1 - accuracy) / (size - 1)) ** 0.5


def answers(right: Sequence[int], margins: Sequence[float] | None = None) -> list[dict[str, Any]]:
    """Lines of a log with two answers each, from whether they are right."""
    sizes = margins or [1.0] * len(right)
    return [
        sample(place, float(is_right), (-5.0, -5.0 - size if is_right else -5.0 + size))
        for place, (is_right, size) in enumerate(zip(right, sizes, strict=True))
    ]
