"""What the numbers of a harness task depend on besides the model."""

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.api.instance import Instance

from sweeper.score.harness.loading import Loaded

_SOURCES = {
    "custom_dataset",
    "dataset_path",
    "dataset_name",
    "dataset_kwargs",
    "training_split",
    "validation_split",
    "test_split",
    "fewshot_split",
    "fewshot_config",
    "metadata",
}
"""Where documents come from; the documents themselves and the prompts are hashed instead, so that
the same data from the hub and from a file are the same."""

DEFAULT_MAX_GEN_TOKS = 256
"""Of the harness' Hugging Face model."""


_INSTALLED = Path(lm_eval.__file__).parents[1]
"""Code below it is fixed by the harness's version."""


def fingerprint(loaded: Loaded) -> str:
    """``sha256:<hash>`` of all requests and documents and of how their answers are judged.

    Of a local task all Python files beside it count, since its functions may import them.
    """
    content = hashlib.sha256()
    for name, task in loaded.tasks.items():
        judged = {key: value for key, value in asdict(task.config).items() if key not in _SOURCES}
        content.update(_line([name, type(task), task.VERSION, task.OUTPUT_TYPE, judged]))
        for request in task.instances:
            asked = [request.doc_id, request.idx, request.request_type, request.args]
            content.update(_line([*asked, request.doc if request.idx == 0 else None]))
    for name, group in loaded.groups.items():
        means = [asdict(mean) for mean in group.aggregate_metric_list or ()]
        content.update(_line([name, means, [task.task_name for task in group.get_all_tasks()]]))
    if loaded.folder is not None:
        content.update(_hash(loaded.folder.glob("*.py")).encode())
    return f"sha256:{content.hexdigest()}"


def _line(content: Any) -> bytes:
    return json.dumps(_plain(content), sort_keys=True, default=str).encode() + b"\n"


def _plain(content: Any) -> Any:
    """Plain data, with the source text in place of functions."""
    if isinstance(content, Mapping):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    return _source(content) if callable(content) else content


def _source(function: Callable[..., Any]) -> str:
    """Name of a function or class and hash of its file, of a local one with those beside it."""
    inner = function.func if isinstance(function, partial) else function
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    try:
        file = inspect.getsourcefile(named)
    except TypeError:  # built into Python
        file = None
    files = [Path(file)] if file else []
    if files and not files[0].is_relative_to(_INSTALLED):
        files = list(files[0].parent.glob("*.py"))
    return f"{named.__qualname__} {_hash(files)}"


def _hash(files: Iterable[Path]) -> str:
    """Of names and contents, in the order of the names."""
    content = hashlib.sha256()
    for file in sorted(files):
        content.update(_line([file.name, hashlib.sha256(file.read_bytes()).hexdigest()]))
    return content.hexdigest()


def num_characters(request: Instance, characters_per_token: float) -> float:
    """Rough length of a request in characters, tokens to be written included."""
    if request.request_type == "generate_until":
        context, options = request.args[:2]
        most = int(options.get("max_gen_toks", DEFAULT_MAX_GEN_TOKS))
        return len(context) + most * characters_per_token
    return float(sum(len(part) for part in request.args))
