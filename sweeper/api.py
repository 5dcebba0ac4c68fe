"""The Python interface: load a job, run it, get a table of estimates."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console

from sweeper.aggregate import (
    Comparison,
    Level,
    by_revision,
    cohorts,
    contrast,
    correlations,
    document_values,
    estimate,
    imported_levels,
    levels,
    seed_effects,
    step_changes,
    trajectories,
)
from sweeper.aggregate.sources import StoredItems
from sweeper.aggregate.summary import as_frame
from sweeper.errors import UserError
from sweeper.ingest import ImportRecord, read_record
from sweeper.records import ContrastEstimate, Estimate
from sweeper.run.execute import execute
from sweeper.run.preparation import Unavailable
from sweeper.run.queue import GivenUp
from sweeper.spec import load_job
from sweeper.spec.contrast import ContrastSpec, Dissociation
from sweeper.spec.job import JobSpec
from sweeper.store import RunFolder, Store

if TYPE_CHECKING:
    from sweeper.report.data import ReportData

__all__ = ["ImportedRun", "Run", "load_job", "open_run", "run_job"]


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

    @cached_property
    def _stored(self) -> StoredItems:
        return StoredItems(self.store)

    def _items(self) -> StoredItems:
        """The items as of now; what they add up to is kept for the next table of results."""
        self.store.refresh()
        return self._stored

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

    def dynamics(self) -> dict[str, pd.DataFrame]:
        """What a run over several revisions says about training, by ``store.dynamics.DYNAMICS``.

        ``trajectories`` (effects and the baseline's levels with bands over the revisions),
        ``cohorts`` (WD and drift of sets that are the same at all revisions) and ``correlations``
        (of their WD with the levels). Without rows where every model has one revision.
        """
        statistics, manifest = self.job.statistics, self.manifest()
        checkpoints = self.folder.read_checkpoints()
        several = len({checkpoint.model for checkpoint in checkpoints}) < len(checkpoints)
        found = by_revision(manifest, self._items(), checkpoints) if several else {}
        points = cohorts(manifest, self.table("conditions"), checkpoints, self._cell)
        level, resamples = statistics.confidence, statistics.resamples
        return {
            "trajectories": trajectories(found, confidence=level, resamples=resamples),
            "cohorts": points,
            "correlations": correlations(found, points, confidence=level, resamples=resamples),
        }

    def write_dynamics(self) -> dict[str, pd.DataFrame]:
        """Keep the results over training in the store."""
        found = self.dynamics()
        for name, rows in found.items():
            self.folder.write_dynamics(name, rows)
        return found

    def _cell(self, table: str, key: str, columns: Sequence[str]) -> pd.DataFrame:
        rows: pd.DataFrame = self.store.table(table, [key], list(columns)).to_pandas()
        return rows

    def write_report(self, folder: Path | None = None) -> Path:
        """Write tables and figures, and a page that holds them all.

        Args:
            folder: where to; None for the run's own folder.

        Returns:
            Path of the page.
        """
        # Here: drawing needs packages that a computing process does not.
        from sweeper.report.write import write_report

        target = self.folder.report_folder() if folder is None else folder
        data = self._report_data()
        try:
            return write_report(target, data).html
        except OSError as error:
            raise UserError(f"report: {target} cannot be written: {error.strerror}") from error

    def _report_data(self) -> "ReportData":
        """What the report is made from; the results are kept in the run's folder on the way."""
        from sweeper.report.collect import collect

        estimates, draws = self.estimates(), seed_effects(self.manifest(), self._items())
        self.folder.write_estimates(estimates)
        contrasts = self.contrasts()
        self.folder.write_contrasts(contrasts)
        dynamics = self.write_dynamics()
        return collect(
            self.store, self.folder, estimates, self.levels(), draws, contrasts, dynamics
        )

    def keep_report(self) -> str:
        """Write the report into the run's folder, also of an object store; the page's address."""
        if self.store.files.is_local:
            return str(self.write_report())
        with TemporaryDirectory(prefix="sweeper-report-") as aside:
            page = self.write_report(Path(aside))
            return f"{self.folder.keep_report(Path(aside))}/{page.name}"


class ImportedRun(Run):
    """A run of imported results (``sweeper.ingest``): levels at checkpoints, and no effects."""

    @cached_property
    def record(self) -> ImportRecord:
        """What the run keeps in place of a job."""
        record = read_record(self.folder)
        if record is None:
            raise UserError(f"run: {self.name!r} is the run of a job, it holds no imported results")
        return record

    @cached_property
    def job(self) -> JobSpec:
        """Imported results have none."""
        raise UserError(f"run: {self.name!r} holds imported results, which have no job")

    @cached_property
    def _documents(self) -> pd.DataFrame:
        return document_values(self.table("items"), self.table("outcomes"))

    def step_levels(self) -> pd.DataFrame:
        """Every metric at every checkpoint with its interval; one row per ``StepLevel``."""
        return imported_levels(
            self.manifest(),
            self.table("cells"),
            self.table("aggregates"),
            self._documents,
            self.record.steps,
            self.record.groups,
            confidence=self.record.statistics.confidence,
        )

    def step_changes(self, levels: pd.DataFrame | None = None) -> pd.DataFrame:
        """Paired changes from checkpoint to checkpoint; one row per ``StepChange``.

        Args:
            levels: of ``step_levels``, where they are known already.
        """
        known = self.step_levels() if levels is None else levels
        return step_changes(
            known,
            self._documents,
            self.manifest(),
            self.record.groups,
            confidence=self.record.statistics.confidence,
        )

    def estimates(self) -> pd.DataFrame:
        """No effects: nothing was clamped."""
        return as_frame(Estimate, [])

    def levels(self) -> pd.DataFrame:
        """No levels under conditions; those at checkpoints are ``step_levels``."""
        return as_frame(Level, [])

    def contrasts(self) -> pd.DataFrame:
        """No contrasts: nothing was clamped."""
        return as_frame(ContrastEstimate, [])

    def dynamics(self) -> dict[str, pd.DataFrame]:
        """Nothing of neurons and effects over training."""
        return {}

    def _report_data(self) -> "ReportData":
        from sweeper.report.collect import collect_imported

        levels = self.step_levels()
        return collect_imported(self.store, self.folder, levels, self.step_changes(levels))


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
    """Open a run by its name; one of imported results is an ``ImportedRun``.

    Raises:
        UserError: no such store or run.
    """
    found = Run(Store(store), name)
    return ImportedRun(found.store, name) if found.folder.is_imported() else found


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
