"""Ablation sweeps over language models, from one YAML job to effects with intervals.

    import sweeper
    job = sweeper.load_job("jobs/quickstart.yaml", ["seeds=10"])
    run = sweeper.run_job(job)
    run.estimates()   # a DataFrame

Importing this package costs next to nothing: its names are looked up when they are used, and
torch and Ray are imported when something runs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeper.api import Run, load_job, open_run, run_job
    from sweeper.errors import UserError

__all__ = ["Run", "UserError", "load_job", "open_run", "run_job"]


def __getattr__(name: str) -> Any:
    """Look a public name up in its module (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("sweeper.errors" if name == "UserError" else "sweeper.api"), name)
