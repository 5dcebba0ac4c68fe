"""The folder of one run: its job, its cells, how far it is, and what came out."""

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter, ValidationError

from sweeper.errors import UserError, first_line
from sweeper.layout import Layout
from sweeper.records import Checkpoint
from sweeper.store.claims import DriverClaim
from sweeper.store.dynamics import DYNAMICS
from sweeper.store.parquet import read_table, write_table
from sweeper.store.reader import Store
from sweeper.store.schemas import CONTRASTS, ESTIMATES, MANIFEST, conform

_CHECKPOINTS = TypeAdapter(tuple[Checkpoint, ...])


def list_runs(store: Store) -> list[str]:
    """Names of the runs that have a job, sorted."""
    parts = [path.split("/") for path in store.files.tree(Layout.runs)]
    return sorted(run for run, *rest in parts if rest == [Layout.job_name])


class RunFolder:
    """Reads and writes the files of one run, each atomically.

    Reading what does not exist raises a UserError that names the nearest run, or the part that
    the run lacks. ``claim``, ``beat``, ``release`` and ``is_driven`` say who drives the run; see
    ``claims.DriverClaim`` for what they promise.

    Raises:
        UserError: the run's name could not be part of a path.
    """

    def __init__(self, store: Store, run: str) -> None:
        self.run = run
        self._store = store
        self._files = store.files
        self._layout = store.layout
        driver = DriverClaim(store.files, run)
        self.claim, self.beat, self.release = driver.claim, driver.beat, driver.release
        self.is_driven = driver.is_held

    def exists(self) -> bool:
        """Whether the run has a job."""
        return self._files.exists(self._layout.job(self.run))

    def write_job(self, text: str) -> None:
        """Keep the validated job (JSON)."""
        self._files.write(self._layout.job(self.run), text.encode())

    def read_job(self) -> str:
        """The validated job (JSON)."""
        return self._read(self._layout.job(self.run), "job").decode()

    def is_imported(self) -> bool:
        """Whether the run holds imported results (``sweeper.ingest``) instead of a job's."""
        try:
            return bool(json.loads(self.read_job()).get("kind") == "import")
        except (ValueError, AttributeError) as error:
            raise self._damaged(self._layout.job(self.run), first_line(error)) from error

    def write_checkpoints(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Keep what the job's models and revisions were resolved to."""
        text = _CHECKPOINTS.dump_json(tuple(checkpoints), indent=1)
        self._files.write(self._layout.checkpoints(self.run), text)

    def read_checkpoints(self) -> tuple[Checkpoint, ...]:
        """What the job's models and revisions were resolved to."""
        path = self._layout.checkpoints(self.run)
        text = self._read(path, "checkpoints")
        try:
            return _CHECKPOINTS.validate_json(text)
        except ValidationError as error:
            raise self._damaged(path, error.errors()[0]["msg"]) from error

    def write_manifest(self, manifest: pa.Table) -> None:
        """Keep the run's cells; ValueError if the table is not ``schemas.MANIFEST``."""
        table = conform("manifest", manifest, MANIFEST)
        write_table(self._files, self._layout.manifest(self.run), table)

    def read_manifest(self) -> pa.Table:
        """The run's cells, as ``schemas.MANIFEST``."""
        table = self._read_table(self._layout.manifest(self.run), MANIFEST, "manifest")
        # Older versions knew no families: every condition was its own.
        family = pc.coalesce(table["family"], table["condition"])
        place = table.schema.get_field_index("family")
        return table.set_column(place, MANIFEST.field("family"), family)

    def write_progress(self, progress: Mapping[str, Any]) -> None:
        """Keep how far the run is (JSON types)."""
        text = json.dumps(dict(progress), allow_nan=False)
        self._files.write(self._layout.progress(self.run), text.encode())

    def read_progress(self) -> dict[str, Any]:
        """How far the run is, as its driver last said."""
        path = self._layout.progress(self.run)
        text = self._read(path, "progress")
        try:
            progress = json.loads(text)
        except ValueError as error:
            raise self._damaged(path, first_line(error)) from error
        if not isinstance(progress, dict):
            raise self._damaged(path, "it holds no JSON object")
        return progress

    def write_estimates(self, estimates: pd.DataFrame) -> None:
        """Keep the estimates; ValueError if the columns are not the fields of ``Estimate``."""
        table = conform(
            "estimates", pa.Table.from_pandas(estimates, preserve_index=False), ESTIMATES
        )
        write_table(self._files, self._layout.estimates(self.run), table)

    def read_estimates(self) -> pd.DataFrame:
        """The estimates, one row each."""
        table = self._read_table(self._layout.estimates(self.run), ESTIMATES, "estimates")
        estimates: pd.DataFrame = table.to_pandas()
        return estimates

    def write_contrasts(self, contrasts: pd.DataFrame) -> None:
        """Keep the contrasts; ValueError if the columns are not those of ``ContrastEstimate``."""
        table = conform(
            "contrasts", pa.Table.from_pandas(contrasts, preserve_index=False), CONTRASTS
        )
        write_table(self._files, self._layout.contrasts(self.run), table)

    def read_contrasts(self) -> pd.DataFrame:
        """The contrasts, one row for each of their parts."""
        table = self._read_table(self._layout.contrasts(self.run), CONTRASTS, "contrasts")
        contrasts: pd.DataFrame = table.to_pandas()
        return contrasts

    def write_dynamics(self, name: str, rows: pd.DataFrame) -> None:
        """Keep a result over training; ValueError if the columns are not those of ``DYNAMICS``."""
        table = conform(name, pa.Table.from_pandas(rows, preserve_index=False), DYNAMICS[name])
        write_table(self._files, self._layout.dynamics(self.run, name), table)

    def read_dynamics(self, name: str) -> pd.DataFrame:
        """A result over training: ``trajectories``, ``cohorts`` or ``correlations``."""
        table = self._read_table(self._layout.dynamics(self.run, name), DYNAMICS[name], name)
        rows: pd.DataFrame = table.to_pandas()
        return rows

    def report_folder(self) -> Path:
        """Local folder for tables and figures, made if it is not there.

        Raises:
            UserError: the store is an object store (see ``keep_report``), or the folder cannot be
                made.
        """
        if not self._files.is_local:
            raise UserError(
                f"report: the store {self._store.uri!r} is no local folder; give an output folder"
            )
        # With a name behind it, since the folder itself may be a link.
        folder = Path(self._files.place(f"{self._layout.report(self.run)}/report.html")).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"report: cannot make {folder}: {first_line(error)}") from error
        return folder

    def keep_report(self, folder: Path) -> str:
        """Put a folder's files into the run's folder of tables and figures; the address of that.

        Raises:
            UserError: a file cannot be written.
        """
        target = self._layout.report(self.run)
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            self._files.write(f"{target}/{file.relative_to(folder).as_posix()}", file.read_bytes())
        return self._files.address(target)

    def _read(self, path: str, part: str) -> bytes:
        content = self._files.read(path)
        if content is None:
            raise self._missing(part)
        found: bytes = content.to_pybytes()
        return found

    def _read_table(self, path: str, schema: pa.Schema, part: str) -> pa.Table:
        if not self._files.exists(path):
            raise self._missing(part)
        return read_table(self._files, path, schema)

    def _damaged(self, path: str, reason: str) -> UserError:
        return UserError(f"run: {self._layout.full(path)} is damaged: {reason}")

    def _missing(self, part: str) -> UserError:
        runs = list_runs(self._store)
        if self.run in runs:
            return UserError(f"run: {self.run!r} has no {part} yet")
        near = get_close_matches(self.run, runs, n=1, cutoff=0.0)
        hint = f"; did you mean {near[0]!r}?" if near else "; it holds no runs"
        return UserError(f"run: {self.run!r} is not in the store {self._store.uri!r}{hint}")
