"""What the commands do, between the command line and the rooms."""

import time
from pathlib import Path
from typing import Any, cast

import pandas as pd
from rich.console import Console
from rich.table import Table

from sweeper.aggregate.power import (
    ASSUMED_DISCORDANCE,
    minimal_detectable_effect,
    paired_accuracy_sd,
)
from sweeper.api import Run, open_run, run_job
from sweeper.errors import UserError
from sweeper.models import pull as pull_model
from sweeper.plan.cells import score_cells
from sweeper.plan.forecast import Forecast, forecast
from sweeper.records import Checkpoint
from sweeper.report.tables import terminal_table
from sweeper.run.calibrate import calibrate
from sweeper.run.progress import duration
from sweeper.run.queue import GivenUp
from sweeper.run.resolve import resolve_conditions
from sweeper.run.speed import Speeds
from sweeper.run.sweep import Sweep, gpus_per_worker, prepare
from sweeper.spec import model_option
from sweeper.spec.job import JobSpec
from sweeper.spec.model import ModelSpec
from sweeper.store import RunFolder, Store
from sweeper.store import list_runs as runs_of

ASSUMED_ICC = 0.05
"""Intraclass correlation of paired differences inside a cluster, where nothing is known yet."""


def plan(job: JobSpec, measure: bool | None, out: Console, err: Console) -> None:
    """Print what a job will do: cells, units, time, and the effects that it can detect."""
    sweep = prepare(job, lambda text: err.print(text, markup=False))
    workers = sweep.num_workers
    speeds = Speeds(job.cluster.cpus_per_worker, gpus_per_worker(job))
    rows = []
    for checkpoint in sweep.checkpoints:
        known = speeds.measured(checkpoint)
        if measure or (measure is None and known is None):
            err.print(f"measuring the speed of {checkpoint.model} (loads it once)", markup=False)
            threads = job.cluster.cpus_per_worker
            speeds.set(checkpoint, calibrate(checkpoint, job.model[checkpoint.model], threads))
            speeds.save()
        rows.append(_forecast(sweep, checkpoint, speeds.rate(checkpoint), workers))
    guessed = [row.checkpoint.model for row in rows if speeds.measured(row.checkpoint) is None]
    out.print(_plan_table(rows, workers))
    if guessed:
        out.print(f"speed not measured, only guessed, for: {', '.join(guessed)}")
    out.print(_power_table(sweep))


def _forecast(sweep: Sweep, checkpoint: Checkpoint, rate: float, workers: int) -> Forecast:
    census = sweep.census_cell(checkpoint)
    return forecast(
        sweep.job,
        checkpoint,
        sweep.tasks,
        census_cost=None if census is None else census.cost,
        done=_done(sweep, checkpoint),
        rate=rate,
        workers=workers,
    )


def _done(sweep: Sweep, checkpoint: Checkpoint) -> dict[str, int]:
    """Task -> cells that the store holds; the census under "census"."""
    try:
        store = Store(sweep.job.store)
    except UserError:
        # No store yet: `plan` makes none. `run` says what is wrong with an unusable one.
        return {}
    keys, census = store.done_keys(), sweep.census_cell(checkpoint)
    has_census = census is not None and census.key in keys
    neurons = store.table("neurons", [census.key]).to_pandas() if census and has_census else None
    conditions = resolve_conditions(sweep.job, checkpoint, neurons)
    cells = score_cells(checkpoint, conditions, sweep.tasks)
    done = {task: sum(c.key in keys for c in cells if c.task == task) for task in sweep.tasks}
    return done | ({"census": int(has_census)} if census is not None else {})


def _plan_table(rows: list[Forecast], workers: int) -> Table:
    table = Table(title=f"expected work on {workers} worker(s) of this machine")
    for name in ("model", "revision", "cells", "done", "units", "token positions", "time"):
        table.add_column(name, justify="left" if name in ("model", "revision") else "right")
    for row in rows:
        table.add_row(
            row.checkpoint.model,
            row.checkpoint.revision,
            str(row.cells),
            str(row.done),
            str(row.units),
            f"{row.positions:,.0f}",
            duration(row.seconds),
        )
    return table


def _power_table(sweep: Sweep) -> Table:
    table = Table(
        title="smallest accuracy effect found with 80 % power",
        caption=f"assumes that a clamp changes {ASSUMED_DISCORDANCE:.0%} of the pairs and an "
        f"intraclass correlation of {ASSUMED_ICC:g} inside clusters",
    )
    for name in ("task", "items", "clusters", "detectable effect"):
        table.add_column(name, justify="left" if name == "task" else "right")
    confidence = sweep.job.statistics.confidence
    for name, facts in sweep.tasks.items():
        effect = minimal_detectable_effect(
            facts.num_items, facts.num_clusters, paired_accuracy_sd(), ASSUMED_ICC, confidence
        )
        shown = f"{effect:.3f}" if facts.has_accuracy else "not an accuracy"
        table.add_row(name, str(facts.num_items), str(facts.num_clusters), shown)
    return table


def run(job: JobSpec, out: Console, err: Console) -> bool:
    """Run a job, print its effects and write its report; False when cells are missing."""
    begin = time.monotonic()
    done = run_job(job, err)
    _print_effects(done, out)
    _print_failures(done, err)
    if done.store.files.is_local:
        page = done.write_report()
        out.print(f"report: {page}", soft_wrap=True, markup=False)
    else:
        out.print(f"report: sweeper report {job.name} --store {job.store} --output FOLDER")
    err.print(f"took {duration(time.monotonic() - begin)}")
    return done.complete


def _print_effects(done: Run, out: Console) -> None:
    confidence = done.job.statistics.confidence
    out.print(terminal_table(done.estimates(), done.levels(), confidence))


def _print_failures(done: Run, err: Console) -> None:
    for item in done.failed:
        err.print(_failure_line(item), style="red", markup=False, soft_wrap=True)
    if done.blocked:
        text = f"{done.blocked} cells could not be planned, since a census failed"
        err.print(text, style="red")
    if not done.complete:
        err.print("the same command tries the failed cells again")


def _failure_line(item: GivenUp) -> str:
    cell = item.cell
    seed = "" if cell.seed is None else f" seed {cell.seed}"
    return (
        f"failed after {item.attempts} attempt(s): {cell.model} {cell.revision} {cell.condition}"
        f"{seed} {cell.task}: {item.error.type}: {item.error.text}"
    )


def status(name: str, store: str, out: Console) -> None:
    """Print how far a run is."""
    run_ = open_run(name, store)
    manifest = run_.manifest()
    done, failed = run_.store.done_keys(), run_.store.failed()
    out.print(_status_table(manifest, done, set(failed)))
    out.print(_state_line(run_.folder.read_progress()), markup=False)
    for row in manifest[manifest["cell_key"].isin(list(failed))].to_dict("records"):
        failure = failed[row["cell_key"]]
        out.print(
            f"failed: {row['model']} {row['revision']} {row['condition']} {row['task']}: "
            f"{failure.error_type}: {failure.error_text}",
            markup=False,
            soft_wrap=True,
        )


def _status_table(manifest: pd.DataFrame, done: set[str], failed: set[str]) -> Table:
    table = Table()
    for name in ("model", "revision", "task", "done", "failed", "waiting"):
        table.add_column(name, justify="right" if name in ("done", "failed", "waiting") else "left")
    for place, rows in manifest.groupby(["model", "revision", "task_kind", "task"], sort=False):
        model, revision, kind, name = map(str, cast("tuple[str, ...]", place))
        keys = rows["cell_key"]
        counts = keys.isin(list(done)).sum(), keys.isin(list(failed)).sum()
        task = f"census over {name}" if kind == "census" else name
        waiting = len(keys) - sum(counts)
        table.add_row(model, revision, task, *map(str, counts), str(waiting))
    return table


def _state_line(progress: dict[str, Any]) -> str:
    """The driver's last word; one that has been silent for long was killed."""
    silent = time.time() - progress["updated_at"]
    cells = f"{progress['cells_done']} of {progress['cells_expected']} cells"
    if progress["state"] != "running":
        return f"{progress['state']}, {cells}, {duration(silent)} ago"
    if silent > 30:
        return f"no word from the driver for {duration(silent)} (killed?); {cells}"
    eta = progress["eta_seconds"]
    workers = "; ".join(f"{name} {doing}" for name, doing in progress["workers"].items())
    return f"running, {cells}, ETA {'?' if eta is None else duration(eta)} | {workers}"


def list_runs(store: str, out: Console) -> None:
    """Print the runs of a store."""
    found = Store(store)
    table = Table()
    for name in ("run", "state", "cells"):
        table.add_column(name)
    done = found.done_keys()
    for name in runs_of(found):
        folder = RunFolder(found, name)
        table.add_row(name, *_run_state(folder, done))
    out.print(table)


def _run_state(folder: RunFolder, done: set[str]) -> tuple[str, str]:
    try:
        progress, manifest = folder.read_progress(), folder.read_manifest()
    except UserError:
        return "not started", "–"
    found = sum(key in done for key in manifest["cell_key"].to_pylist())
    return progress["state"], f"{found} of {progress['cells_expected']}"


def aggregate(name: str, store: str, csv: Path | None, out: Console) -> None:
    """Print a run's effects and keep them in the store."""
    run_ = open_run(name, store)
    estimates = run_.estimates()
    run_.folder.write_estimates(estimates)
    if csv is not None:
        try:
            estimates.to_csv(csv, index=False)
        except OSError as error:
            raise UserError(f"--csv {csv}: cannot be written: {error.strerror}") from error
    out.print(terminal_table(estimates, run_.levels(), run_.job.statistics.confidence))


def pull(name: str, out: Console) -> None:
    """Fetch a model's weights and say what they are."""
    options = model_option(name)
    found = options if options is not None else {name.rpartition("/")[2]: ModelSpec(path=name)}
    for key, spec in found.items():
        checkpoint = pull_model(key, spec)
        out.print(
            f"{key}: {checkpoint.origin}, {checkpoint.model_type}, {checkpoint.num_layers} layers "
            f"of {checkpoint.num_neurons} neurons, {checkpoint.fingerprint}",
            soft_wrap=True,
            markup=False,
        )
