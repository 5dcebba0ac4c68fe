"""What a task file from somebody else may do: no Python of its own, and only harmless templates.

The harness was made for tasks that one trusts. A task file names functions (``!function``) in
Python files beside it or in any installed package, its metrics may be scripts, and its templates
are rendered with all of Python in reach.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lm_eval
import lm_eval.api.metrics  # fills the registry of metrics
import lm_eval.utils
from jinja2.sandbox import SandboxedEnvironment
from lm_eval.api import registry
from lm_eval.api import task as task_module
from lm_eval.tasks import _yaml_loader

from sweeper.errors import UserError

_HARNESS = Path(lm_eval.__file__).resolve().parent
"""Task files below it come with the harness."""


def sandbox_templates() -> None:
    """Render the templates of all tasks in Jinja's sandbox; what they may do gives the same text.

    For the whole process, and once: the harness keeps its one environment in a global variable.
    """
    plain = lm_eval.utils.env
    if isinstance(plain, SandboxedEnvironment):
        return
    sandboxed = SandboxedEnvironment(
        loader=plain.loader,
        undefined=plain.undefined,
        keep_trailing_newline=plain.keep_trailing_newline,
    )
    sandboxed.filters.update(plain.filters)
    lm_eval.utils.env = sandboxed


@contextmanager
def only_harness_code(key: str, file: str | None) -> Iterator[None]:
    """Refuse code that does not come with the harness, while tasks are loaded.

    Args:
        key: the job's key of the task, for messages.
        file: its task file; None for a task of the harness, whose metrics may be scripts.

    Raises:
        UserError: the task needs such code.
    """
    functions, metrics = _yaml_loader._import_func_in_yml, task_module.get_metric
    _yaml_loader._import_func_in_yml = _checked_functions(functions, key)
    if file is not None:
        task_module.get_metric = _checked_metrics(metrics, key, file)
    try:
        yield
    finally:
        _yaml_loader._import_func_in_yml = functions
        task_module.get_metric = metrics


def _checked_functions(load: Callable[[str, Path], Any], key: str) -> Callable[[str, Path], Any]:
    def checked(name: str, folder: Path) -> Any:
        if not Path(folder).resolve().is_relative_to(_HARNESS):
            raise _refusal(key, f"the function {name!r} of a task file in {str(folder)!r}")
        return load(name, folder)

    return checked


def _checked_metrics(load: Callable[..., Any], key: str, file: str) -> Callable[..., Any]:
    def checked(name: str, hf_evaluate_metric: bool = False) -> Any:
        # What the harness does not know itself is looked for as a script, in files and on the hub.
        if hf_evaluate_metric or name not in registry.metric_registry:
            raise _refusal(key, f"the metric {name!r} of {file!r}, which is a script,")
        return load(name, hf_evaluate_metric)

    return checked


def _refusal(key: str, what: str) -> UserError:
    return UserError(
        f"{key}.task: {what} would run Python code of its author; if you trust it, say "
        "trust_task_code: true"
    )
