"""Aggregated results of lm-evaluation-harness: JSON files of its old and its new layout.

The old one (up to 0.3) has ``{"acc": ..., "acc_stderr": ...}`` for each task, the new one
``{"acc,none": ..., "acc_stderr,none": ...}`` with the filter behind the comma.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from numbers import Real
from pathlib import Path
from typing import Any

from sweeper.ingest.naming import Naming
from sweeper.ingest.result import Metric, Result
from sweeper.records import NO_FILTER

_STDERR = "_stderr"
_NO_METRIC = {"sample_len"}
_VERSIONS = {"lm_eval_version": "lm_eval", "transformers_version": "transformers"}
_LATEST = 4e9
"""Seconds since 1970 that can still be a date, in the year 2096."""
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})T(\d{2})-(\d{2})-(\d{2}(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class HarnessFile:
    """What an aggregated file says."""

    results: tuple[Result, ...]
    groups: Mapping[str, tuple[str, ...]]
    """Group -> the tasks that it is made of, by the harness's names."""


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        ValueError: it cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not valid JSON (line {error.lineno}: {error.msg})") from error
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error


def is_results(content: Any) -> bool:
    """Whether JSON is what the harness writes: a table ``results`` by task, and its setting."""
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        return False
    return bool({"config", "configs", "versions"} & content.keys())


def read_results(content: Mapping[str, Any], path: Path, naming: Naming) -> HarnessFile:
    """All tasks and groups of a file.

    Text beside the metrics (aliases, "N/A") is no number and is passed over.

    Raises:
        ValueError: it names no model, or holds no metric at all.
    """
    config = content.get("config")
    config = config if isinstance(config, Mapping) else {}
    name = content.get("model_name")
    origin = naming.of_arguments(path.as_posix(), config, name if isinstance(name, str) else None)
    found = {task: _metrics(task, row) for task, row in content["results"].items()}
    filled = {task: metrics for task, metrics in found.items() if metrics}
    if not filled:
        raise ValueError("its table 'results' holds no metric")
    seconds = _seconds(content.get("total_evaluation_time_seconds")) / len(filled)
    results = tuple(
        Result(
            origin=origin,
            task=task,
            num_fewshot=_num_fewshot(content, task),
            metrics=metrics,
            num_items=_num_items(content, task),
            source=path.as_posix(),
            date=_date(content, path),
            seconds=seconds,
            versions=_versions(content),
        )
        for task, metrics in filled.items()
    )
    return HarnessFile(results, _leaves(content.get("group_subtasks")))


def _metrics(task: str, row: Any) -> tuple[Metric, ...]:
    if not isinstance(row, Mapping):
        raise ValueError(f"results.{task} is no table of metrics")
    return tuple(_split(row))


def _split(row: Mapping[str, Any]) -> Iterator[Metric]:
    for key, value in row.items():
        name, comma, chosen = key.partition(",")
        if name.endswith(_STDERR) or name in _NO_METRIC or not is_number(value):
            continue
        stderr: Any = row.get(f"{name}{_STDERR}{comma}{chosen}")
        yield Metric(
            name=name,
            filter=chosen or NO_FILTER,
            value=float(value),
            stderr=float(stderr) if is_number(stderr) else None,
        )


def is_number(value: Any) -> bool:
    """Whether JSON holds a number here; true and false are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _seconds(value: Any) -> float:
    """A time in seconds, which the harness writes as text; 0 where it is none."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return 0.0
    return seconds if 0 <= seconds < math.inf else 0.0


def _is_count(value: Any) -> bool:
    return is_number(value) and math.isfinite(value) and value >= 0


def _table(content: Mapping[str, Any], *path: str) -> Any:
    """What stands at nested keys; None where any is missing."""
    found: Any = content
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _num_fewshot(content: Mapping[str, Any], task: str) -> int:
    places = (("n-shot", task), ("configs", task, "num_fewshot"), ("config", "num_fewshot"))
    told = (_table(content, *place) for place in places)
    return next((int(count) for count in told if _is_count(count)), 0)


def _num_items(content: Mapping[str, Any], task: str) -> int | None:
    places = (("n-samples", task, "effective"), ("results", task, "sample_len"))
    told = (_table(content, *place) for place in places)
    return next((int(count) for count in told if _is_count(count) and count), None)


def _versions(content: Mapping[str, Any]) -> dict[str, str]:
    told = {name: content.get(key) for key, name in _VERSIONS.items()}
    return {name: version for name, version in told.items() if isinstance(version, str)}


def _date(content: Mapping[str, Any], path: Path) -> float:
    """When it was evaluated: as the file says, else its name, else when it was written."""
    told: Any = content.get("date")
    if is_number(told) and 0 < told < _LATEST:
        return float(told)
    named = _DATE.search(path.name)
    if named:
        day, hour, minute, second = named.groups()
        return datetime.fromisoformat(f"{day}T{hour}:{minute}:{second[:9]}").timestamp()
    return path.stat().st_mtime


def _leaves(children: Any) -> dict[str, tuple[str, ...]]:
    """Groups down to their tasks; the harness lists a group's own groups by their names."""
    if not isinstance(children, Mapping):
        return {}
    listed = {name: list(map(str, below)) for name, below in children.items() if below}
    return {name: tuple(_tasks(name, listed)) for name in listed}


def _tasks(group: str, listed: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Tasks below a group, each once, in the order of the file."""
    seen: set[str] = set()
    left = [group]
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in listed:
            left += reversed(listed[name])
        else:
            yield name
