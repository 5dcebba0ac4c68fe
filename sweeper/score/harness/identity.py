"""What the numbers of a harness task depend on besides the model."""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

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


def fingerprint(loaded: Loaded) -> str:
    """``sha256:<hash>`` of all requests and documents and of how their answers are judged."""
    content = hashlib.sha256()
    for name, task in loaded.tasks.items():
        judged = {key: value for key, value in asdict(task.config).items() if key not in _SOURCES}
        content.update(_line([name, type(task), task.VERSION, task.OUTPUT_TYPE, judged]))
        for request in task.instances:
            asked = [request.doc_id, request.idx, request.request_type, request.args]
            content.update(_line([*asked, request.doc if request.idx == 0 else None]))
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
    """Name of a function or class and hash of the file that it stands in, helpers included."""
    inner = function.func if isinstance(function, partial) else function
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    try:
        file = inspect.getsourcefile(named)
    except TypeError:  # built into Python
        file = None
    text = Path(file).read_bytes() if file else b""
    return f"{named.__qualname__} {hashlib.sha256(text).hexdigest()}"


def num_characters(request: Instance, characters_per_token: float) -> float:
    """Rough length of a request in characters, tokens to be written included."""
    if request.request_type == "generate_until":
        context, options = request.args[:2]
        most = int(options.get("max_gen_toks", DEFAULT_MAX_GEN_TOKS))
        return len(context) + most * characters_per_token
    return float(sum(len(part) for part in request.args))
