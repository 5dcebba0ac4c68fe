"""The Python interface: load a job, run it, get a table of estimates."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from rich.console import Console

from sweeper.aggregate import (
    Comparison,
    contrast,
    estimate,
    levels,
    seed_effects,
    with_outcomes,
)
from sweeper.errors import UserError
from sweeper.run.execute import execute
from sweeper.run.queue import GivenUp
from sweeper.run.stages import Unavailable
from sweeper.spec import load_job
from sweeper.spec.contrast import ContrastSpec, Dissociation
from sweeper.spec.job import JobSpec
from sweeper.store import RunFolder, Store

__all__ = ["Run", "load_job", "open_run", "run_job"]


@dataclass(frozen=True)
class Run:
    """A run in a store: its results so far, while it goes on and afterwards."""

    store: Store
    name: str
    failed: tuple[GivenUp, ...] = ()
    """Cells given up by the call that made this object."""
    blocked: int = 0
    """Cells that could not even be planned, since what they need has failed."""
    unavailable: tuple[Unavailable, ...] = ()
    """Conditions that a model does not have, since no set matches another one."""

    @cached_property
    def folder(self) -> RunFolder:
        """The run's folder in the store."""
        return RunFolder(self.store, self.name)

    @cached_property
    def job(self) -> JobSpec:
        """The job as it was run."""
        return JobSpec.model_validate_json(self.folder.read_job())

    @property
    def complete(self) -> bool:
        """Whether the call that made this object left nothing undone."""
        return not self.failed and not self.blocked and not self.unavailable

    def manifest(self) -> pd.DataFrame:
        """The run's cells under the job's names."""
        manifest: pd.DataFrame = self.folder.read_manifest().to_pandas()
        return manifest

    def table(self, name: str) -> pd.DataFrame:
        """The run's committed rows of a table: items, tokens, cells, neurons, conditions, ..."""
        self.store.refresh()
        manifest = self.manifest()
        column = "condition_key" if name in ("conditions", "balance") else "cell_key"
        keys = manifest[column].dropna().unique().tolist()
        rows: pd.DataFrame = self.store.table(name, keys).to_pandas()
        return rows

    def _items(self) -> pd.DataFrame:
        return with_outcomes(self.table("items"), self.table("outcomes"))

    def estimates(self) -> pd.DataFrame:
        """Effects against the baseline with intervals; one row per ``records.Estimate``."""
        statistics = self.job.statistics
        return estimate(
            self.manifest(),
            self._items(),
            self.table("cells"),
            confidence=statistics.confidence,
            resamples=statistics.resamples,
        )

    def levels(self) -> pd.DataFrame:
        """Each metric's value under every condition, the baseline included, with intervals."""
        statistics = self.job.statistics
        return levels(
            self.manifest(),
            self._items(),
            confidence=statistics.confidence,
            resamples=statistics.resamples,
        )

    def contrasts(self) -> pd.DataFrame:
        """The job's contrasts; one row per ``records.ContrastEstimate``."""
        statistics = self.job.statistics
        return contrast(
            self.manifest(),
            self._items(),
            [_comparison(name, spec) for name, spec in self.job.contrasts.items()],
            confidence=statistics.confidence,
            resamples=statistics.resamples,
        )

    def write_report(self, folder: Path | None = None) -> Path:
        """Write tables and figures, and a page that holds them all.

        Args:
            folder: where to; None for the run's own folder.

        Returns:
            Path of the page.
        """
        # Here: drawing needs packages that a computing process does not.
        from sweeper.report.collect import collect
        from sweeper.report.write import write_report

        target = self.folder.report_folder() if folder is None else folder
        estimates, draws = self.estimates(), seed_effects(self.manifest(), self._items())
        self.folder.write_estimates(estimates)
        contrasts = self.contrasts()
        self.folder.write_contrasts(contrasts)
        data = collect(self.store, self.folder, estimates, self.levels(), draws, contrasts)
        try:
            return write_report(target, data).html
        except OSError as error:
            raise UserError(f"report: {target} cannot be written: {error.strerror}") from error


def run_job(job: JobSpec, console: Console | None = None) -> Run:
    """Run a job, or what is left of it, and return its results.

    Args:
        job: the job, of ``load_job``.
        console: where progress is shown; standard error when absent.

    Raises:
        UserError: something that the job names does not exist or cannot be used.
    """
    result = execute(job, Console(stderr=True) if console is None else console)
    return Run(
        Store(job.store),
        job.name,
        failed=result.failed,
        blocked=result.blocked,
        unavailable=result.unavailable,
    )


def open_run(name: str, store: str = "results") -> Run:
    """Open a run by its name.

    Raises:
        UserError: no such store or run.
    """
    found = Run(Store(store), name)
    found.folder.read_job()
    return found


def _comparison(name: str, spec: ContrastSpec) -> Comparison:
    """A contrast of the job, as the aggregation takes it."""
    tasks, others = (
        (spec.grammar, spec.other) if isinstance(spec, Dissociation) else (spec.tasks or [], [])
    )
    return Comparison(
        name=name,
        target=spec.target,
        control=spec.control,
        metric=spec.metric,
        tasks=tuple(tasks),
        others=tuple(others),
    )
