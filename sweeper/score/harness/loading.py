"""Tasks of lm-evaluation-harness with their requests, made without a model and without torch."""

import copy
import logging
import random
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from lm_eval.api import task as task_module
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import TaskIndex
from lm_eval.tasks._yaml_loader import load_yaml

from sweeper.errors import UserError
from sweeper.score import tables
from sweeper.score.harness.foreign_code import only_harness_code, sandbox_templates
from sweeper.score.harness.sources import Files, Sources
from sweeper.spec.task import LmEvalSpec
from sweeper.spec.wording import hint, one_line

FEWSHOT_SEED = 1234
"""The harness's own default, for the same examples in the prompts."""

sandbox_templates()


@dataclass(frozen=True, slots=True)
class Loaded:
    """Tasks with their requests built, and the groups that they were asked for by."""

    tasks: Mapping[str, Any]
    """Name -> ``lm_eval.api.task.Task``."""
    groups: Mapping[str, Any]
    """Name -> ``lm_eval.api.group.Group``; a tag has none."""
    folder: Path | None
    """Where the task's file lies; None for a task of the harness."""

    def requests(self) -> list[Instance]:
        """Requests of all tasks, in order."""
        return [request for task in self.tasks.values() for request in task.instances]


def check(spec: LmEvalSpec, key: str) -> None:
    """Check that the task exists and its files do; reads no data.

    Raises:
        UserError: they do not; the message begins with the job's key.
    """
    _manager(spec, key)
    for split, path in spec.data_files.items():
        tables.existing_file(path, tables.EXTENSIONS, f"{key}.data_files.{split}")


def load(spec: LmEvalSpec, key: str | None = None) -> Loaded:
    """Make the tasks and build all their requests.

    A group or a tag expands to its tasks. What the harness seeds when it starts is seeded here as
    well, and put back.

    Args:
        spec: the task.
        key: the job's key of it, for messages; where it is not known they name the task itself.

    Raises:
        UserError: no such task, no data for it, a kind of task that cannot be run, or one that
            brings code of its own which the job does not trust.
    """
    key = key or f"lm_eval task {spec.task!r}"
    with quiet(), _seeded(), _guarded(spec, key):
        manager, called = _manager(spec, key)
        try:
            found = manager.load([called])
            for name, task in found["tasks"].items():
                _require_text(task, name, key)
                _require_files(task, name, spec, key)
                _build(task, spec)
        except UserError:
            raise
        # A task is foreign code: what it raises is as various as its authors.
        except Exception as error:
            said = f"{type(error).__name__}: {one_line(str(error))[:300]}"
            raise UserError(f"{key}.task: {spec.task!r} cannot be loaded ({said})") from error
    folder = Path(spec.task).parent if _is_file(spec) else None
    return Loaded(found["tasks"], found["groups"], folder)


def _guarded(spec: LmEvalSpec, key: str) -> AbstractContextManager[None]:
    if spec.trust_task_code:
        return nullcontext()
    return only_harness_code(key, spec.task if _is_file(spec) else None)


def _manager(spec: LmEvalSpec, key: str) -> tuple[TaskManager, str]:
    """A manager that reads the wanted data, and what the task is called there."""
    if _is_file(spec):
        manager, name = _manager_of_file(Path(spec.task), key)
    else:
        manager, name = copy.copy(_index()), spec.task
        if name not in manager.task_index:
            near = hint(name, manager.all_tasks)
            raise UserError(f"{key}.task: lm-evaluation-harness has no task {name!r}{near}")
    # The manager makes its tasks through this object; it has no parameter for another one.
    manager._factory = Sources(spec, key)
    return manager, name


def _is_file(spec: LmEvalSpec) -> bool:
    return spec.task.endswith((".yaml", ".yml"))


def _manager_of_file(file: Path, key: str) -> tuple[TaskManager, str]:
    if not file.is_file():
        raise UserError(f"{key}.task: {str(file)!r} is not a file")
    try:
        config = load_yaml(file, resolve_func=False)
    except Exception as error:  # a file that it includes may be missing, or not be YAML
        raise UserError(f"{key}.task: {str(file)!r}: {one_line(str(error))[:300]}") from error
    if not {"task", "group"} & config.keys():
        raise UserError(f"{key}.task: {str(file)!r} names neither a task nor a group")
    if "group" not in config:
        return TaskManager(include_defaults=False), str(file)
    # A group names tasks of the harness, or of the files beside it.
    manager = copy.copy(_index())
    with quiet():
        manager._index = {**manager.task_index, **TaskIndex.build([file.parent])}
    return manager, str(config["group"])


@cache
def _index() -> TaskManager:
    """The harness's own tasks; reading their 14,000 files takes seconds."""
    with quiet():
        return TaskManager()


def _require_text(task: Any, name: str, key: str) -> None:
    if getattr(task, "MULTIMODAL", False):
        raise UserError(f"{key}.task: {name!r} needs images or sound; only text can be scored")
    if getattr(task, "UNSAFE_CODE", False):
        raise UserError(f"{key}.task: {name!r} runs code that the model writes; not supported")


def _require_files(task: Any, name: str, spec: LmEvalSpec, key: str) -> None:
    """A task that is written out inside its group is made without asking where data come from."""
    if spec.data_files and not isinstance(task.get_config("custom_dataset"), Files):
        raise UserError(
            f"{key}.data_files: task {name!r} is written out inside its group; give it a file of "
            "its own"
        )


def _build(task: Any, spec: LmEvalSpec) -> None:
    """Build the requests as ``lm_eval.simple_evaluate`` does."""
    shots = task.get_config("num_fewshot")
    if shots is None or (shots != 0 and spec.num_fewshot is not None):
        task.set_config(key="num_fewshot", value=spec.num_fewshot or 0)
    task.set_fewshot_seed(seed=FEWSHOT_SEED)
    task.build_all_requests(limit=spec.limit)


@contextmanager
def _seeded() -> Iterator[None]:
    """Python's and numpy's global generators as the harness seeds them; some tasks shuffle."""
    plain, numeric = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(1234)
    try:
        yield
    finally:
        random.setstate(plain)
        np.random.set_state(numeric)


@contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars and notes of the harness and of ``datasets``; errors still show."""
    log = logging.getLogger("lm_eval")
    level, bars = log.level, datasets.is_progress_bar_enabled()
    log.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    # The harness has no switch for the bar of building requests.
    bar, task_module.tqdm = task_module.tqdm, lambda rows, **_: rows
    try:
        yield
    finally:
        task_module.tqdm = bar
        log.setLevel(level)
        if bars:
            datasets.enable_progress_bars()
