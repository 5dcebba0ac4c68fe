"""What the commands do, between the command line and the rooms."""

import time
from pathlib import Path
from typing import Any, cast

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweeper import import_commands
from sweeper.aggregate.power import (
    ASSUMED_DISCORDANCE,
    PlannedTask,
    minimal_detectable_contrast,
    minimal_detectable_effect,
    paired_accuracy_sd,
)
from sweeper.aggregate.randomisation import needed_controls
from sweeper.api import ImportedRun, Run, open_run, run_job
from sweeper.errors import UserError
from sweeper.models import pull as pull_model
from sweeper.plan.forecast import Forecast, forecast
from sweeper.records import Checkpoint
from sweeper.report import numbers
from sweeper.report.tables import terminal_table
from sweeper.run.calibrate import calibrate
from sweeper.run.execute import speeds_of, terminated_like_ctrl_c
from sweeper.run.expected import done_work, expected_cost, expected_work
from sweeper.run.progress import duration
from sweeper.run.queue import GivenUp
from sweeper.run.speed import Speeds
from sweeper.run.sweep import Sweep, prepare
from sweeper.spec import model_option
from sweeper.spec.condition import RandomSet
from sweeper.spec.contrast import Dissociation
from sweeper.spec.job import JobSpec
from sweeper.spec.model import ModelSpec
from sweeper.spec.training import TrainingJob
from sweeper.store import NoStoreError, RunFolder, Store
from sweeper.store import list_runs as runs_of

MOST_LISTED = 20
"""Conditions whose unfinished cells are listed."""

ASSUMED_ICC = 0.05
"""Intraclass correlation of paired differences inside a cluster, where nothing is known yet."""

STAGES = {
    "census": "census over",
    "match": "matches on",
    "profile": "profiles over",
    "drift": "drift since",
    "firing": "firing over",
    "ngrams": "n-grams of",
    "routing": "routing over",
    "removal": "removal of MLPs over",
}
"""Kinds of cells beside the scored ones, as they stand before what their task names."""


def plan(job: JobSpec, measure: bool | None, out: Console, err: Console) -> None:
    """Print what a job will do: cells, units, time, and the effects that it can detect."""
    sweep = prepare(job, lambda text: err.print(text, markup=False))
    workers = sweep.num_workers
    speeds = speeds_of(sweep)
    for checkpoint in {place.model: place for place in sweep.checkpoints}.values():
        known = speeds.measured(checkpoint)
        if measure or (measure is None and known is None):
            err.print(f"measuring the speed of {checkpoint.model} (loads it once)", markup=False)
            threads = job.cluster.cpus_per_worker
            speeds.set(checkpoint, calibrate(checkpoint, job.model[checkpoint.model], threads))
            speeds.save()
    store = _store_so_far(job)
    expected = {cp: expected_cost(sweep, cp) / speeds.rate(cp) for cp in sweep.checkpoints}
    total = max(sum(expected.values()), 1e-9)
    rows = [
        _forecast(sweep, checkpoint, store, speeds, seconds / total)
        for checkpoint, seconds in expected.items()
    ]
    unmeasured = (row.checkpoint for row in rows if speeds.measured(row.checkpoint) is None)
    guessed = dict.fromkeys(checkpoint.model for checkpoint in unmeasured)
    out.print(_plan_table(rows, workers))
    if guessed:
        out.print(f"speed not measured, only guessed, for: {', '.join(guessed)}")
    out.print(_power_table(sweep))


def _store_so_far(job: JobSpec) -> Store | None:
    """The job's store; None where there is none yet, since `plan` makes none."""
    try:
        return Store(job.store)
    except NoStoreError:
        return None


def _forecast(
    sweep: Sweep, checkpoint: Checkpoint, store: Store | None, speeds: Speeds, part: float
) -> Forecast:
    standing = None if store is None else done_work(sweep, checkpoint, store)
    work = expected_work(sweep, checkpoint, standing)
    rate = speeds.rate(checkpoint)
    return forecast(sweep.job, checkpoint, work, rate=rate, workers=sweep.num_workers, part=part)


def _plan_table(rows: list[Forecast], workers: int) -> Table:
    """A line for each model, however many revisions it has."""
    table = Table(title=f"expected work on {workers} worker(s) of this machine")
    for name in ("model", "revisions", "cells", "done", "units", "token positions", "time"):
        table.add_column(name, justify="left" if name in ("model", "revisions") else "right")
    for model in dict.fromkeys(row.checkpoint.model for row in rows):
        mine = [row for row in rows if row.checkpoint.model == model]
        table.add_row(
            model,
            _revisions([row.checkpoint.revision for row in mine]),
            str(sum(row.cells for row in mine)),
            str(sum(row.done for row in mine)),
            str(sum(row.units for row in mine)),
            f"{sum(row.positions for row in mine):,.0f}",
            duration(sum(row.seconds for row in mine)),
        )
    return table


def _revisions(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)}: {names[0]} to {names[-1]}"


def _power_table(sweep: Sweep) -> Table:
    table = Table(
        title="smallest accuracy effect found with 80 % power",
        caption=f"assumes that a clamp changes {ASSUMED_DISCORDANCE:.0%} of the pairs and an "
        f"intraclass correlation of {ASSUMED_ICC:g} inside clusters{_floor(sweep.job)}",
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
    for name, spec in sweep.job.contrasts.items():
        if isinstance(spec, Dissociation) and spec.metric == "accuracy":
            table.add_row(f"{name} (interaction)", *_interaction(sweep, spec, confidence))
    return table


def _interaction(sweep: Sweep, spec: Dissociation, confidence: float) -> tuple[str, str, str]:
    """Items, clusters and detectable size of an interaction; the baseline cancels out of it."""
    facts = [sweep.tasks[name] for name in (*spec.grammar, *spec.other)]
    tasks = [
        PlannedTask(
            num_items=task.num_items,
            num_clusters=task.num_clusters,
            sd=paired_accuracy_sd(),
            icc=ASSUMED_ICC,
        )
        for task in facts
    ]
    weights = [1 / len(spec.grammar)] * len(spec.grammar) + [1 / len(spec.other)] * len(spec.other)
    effect = minimal_detectable_contrast(tasks, weights, confidence=confidence)
    counts = (sum(task.num_items for task in facts), sum(task.num_clusters for task in facts))
    return str(counts[0]), str(counts[1]), f"{effect:.3f}"


def _floor(job: JobSpec) -> str:
    """What the random controls of a job allow the randomisation test to say."""
    matched = any(
        isinstance(spec.neurons, RandomSet) and spec.neurons.match
        for spec in job.condition.values()
    )
    if not matched:
        return ""
    level = 1 - job.statistics.confidence
    text = f"; with seeds: {job.seeds} no randomisation p is below {1 / (1 + job.seeds):.2g}"
    if job.seeds < needed_controls(level):
        text += f" (level {level:.2g} needs seeds: {needed_controls(level)})"
    return text


def run(job: JobSpec, out: Console, err: Console) -> bool:
    """Run a job, print its effects and write its report; False when cells are missing."""
    begin = time.monotonic()
    done = run_job(job, err)
    _print_effects(done, out)
    _print_failures(done, err)
    out.print(f"report: {done.keep_report()}", soft_wrap=True, markup=False)
    err.print(f"took {duration(time.monotonic() - begin)}")
    return done.complete


def train(job: TrainingJob, out: Console, err: Console) -> None:
    """Train a job's model, or what is left of it, and print where its checkpoints are."""
    # Here: torch takes seconds to import, and no other command computes in this process.
    from sweeper.train import train as train_model

    begin = time.monotonic()
    with terminated_like_ctrl_c():
        folder = train_model(job, err)
    names = ", ".join(f"step{step}" for step in job.checkpoint_steps)
    out.print(f"{folder}: {names}", soft_wrap=True, markup=False)
    err.print(f"took {duration(time.monotonic() - begin)}")


def _print_effects(done: Run, out: Console) -> None:
    _print_tables(done, done.estimates(), done.contrasts(), out)


def _print_tables(
    found: Run, estimates: pd.DataFrame, contrasts: pd.DataFrame, out: Console
) -> None:
    confidence = found.job.statistics.confidence
    out.print(terminal_table(estimates, found.levels(), confidence))
    if len(contrasts):
        out.print(_contrast_table(contrasts, confidence))


def _contrast_table(contrasts: pd.DataFrame, confidence: float) -> Table:
    """Contrasts between conditions, part by part, with what they are made of in the caption."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title="contrasts",
        title_justify="left",
        pad_edge=False,
        caption="p: two-sided t test; Holm: over the two claims of a double dissociation (target "
        "worse on grammar, control worse on the other tasks), or over tasks",
    )
    for name in ("contrast", "part", "estimate", f"{100 * confidence:g} % interval", "p", "Holm"):
        table.add_column(name, overflow="fold")
    table.add_column("p against random")
    for row in contrasts.to_dict("records"):
        metric = str(row["metric"])
        table.add_row(
            Text(f"{row['contrast']}: {row['target']} - {row['control']}"),
            Text(f"{row['part']} ({row['tasks']})"),
            numbers.effect(metric, row["estimate"]),
            Text(numbers.effect_interval(metric, row["low"], row["high"])),
            *(_p_text(row[name]) for name in ("p", "p_holm")),
            numbers.p_value(row["p_random"], row["p_floor"]),
        )
    return table


def _p_text(p: float) -> str:
    return numbers.DASH if numbers.is_missing(p) else f"{p:.2g}"


def _print_failures(done: Run, err: Console) -> None:
    for item in done.failed:
        err.print(_failure_line(item), style="red", markup=False, soft_wrap=True)
    if done.blocked:
        text = f"{done.blocked} cells could not be planned, since what they need failed"
        err.print(text, style="red")
    for missing in done.unavailable:
        text = (
            f"not available: {missing.model} {missing.revision} {missing.condition} "
            f"({missing.num_cells} cells): {missing.reason}"
        )
        err.print(text, style="red", markup=False, soft_wrap=True)
    if done.failed or done.blocked:
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
    if isinstance(run_, ImportedRun):
        import_commands.status(run_, out)
        return
    manifest = run_.manifest()
    done, failed = run_.store.done_keys(), run_.store.failed()
    progress = run_.folder.read_progress()
    running = progress["state"] == "running" and run_.folder.is_driven()
    out.print(_status_table(manifest, done, set(failed)))
    out.print(_state_line(progress, running), markup=False)
    for row in manifest[manifest["cell_key"].isin(list(failed))].to_dict("records"):
        failure = failed[row["cell_key"]]
        out.print(
            f"failed: {row['model']} {row['revision']} {row['condition']} {row['task']}: "
            f"{failure.error_type}: {failure.error_text}",
            markup=False,
            soft_wrap=True,
        )
    if not running:
        unfinished = manifest[~manifest["cell_key"].isin([*done, *failed])]
        _print_unfinished(unfinished, progress["cells_expected"] - len(manifest), out)


def _print_unfinished(rows: pd.DataFrame, num_unplanned: int, out: Console) -> None:
    """What a run that has ended left undone: the next one goes on with it."""
    names = ["model", "revision", "condition", "task"]
    groups = list(rows.groupby(names, sort=False).size().items())
    for place, count in groups[:MOST_LISTED]:
        where = " ".join(map(str, cast("tuple[str, ...]", place)))
        cells = "" if count == 1 else f" ({count} cells)"
        out.print(f"unfinished: {where}{cells}", markup=False, soft_wrap=True)
    left = sum(count for _, count in groups[MOST_LISTED:])
    if left:
        out.print(f"unfinished: {left} more cells")
    if num_unplanned > 0:
        out.print(f"unfinished: {num_unplanned} cells not planned, since what they need is missing")


def _status_table(manifest: pd.DataFrame, done: set[str], failed: set[str]) -> Table:
    table = Table()
    for name in ("model", "revision", "task", "done", "failed", "waiting"):
        table.add_column(name, justify="right" if name in ("done", "failed", "waiting") else "left")
    for place, rows in manifest.groupby(["model", "revision", "task_kind", "task"], sort=False):
        model, revision, kind, name = map(str, cast("tuple[str, ...]", place))
        keys = rows["cell_key"]
        counts = keys.isin(list(done)).sum(), keys.isin(list(failed)).sum()
        task = f"{STAGES[kind]} {name}" if kind in STAGES else name
        waiting = len(keys) - sum(counts)
        table.add_row(model, revision, task, *map(str, counts), str(waiting))
    return table


def _state_line(progress: dict[str, Any], running: bool) -> str:
    """The driver's last word; one that still runs by that, and does not, was killed."""
    silent = time.time() - progress["updated_at"]
    cells = f"{progress['cells_done']} of {progress['cells_expected']} cells"
    if progress["state"] != "running":
        return f"{progress['state']}, {cells}, {duration(silent)} ago"
    if not running:
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
    if isinstance(run_, ImportedRun):
        import_commands.aggregate(run_, csv, out)
        return
    estimates, contrasts = run_.estimates(), run_.contrasts()
    run_.folder.write_estimates(estimates)
    run_.folder.write_contrasts(contrasts)
    run_.write_dynamics()
    if csv is not None:
        try:
            estimates.to_csv(csv, index=False)
        except OSError as error:
            raise UserError(f"--csv {csv}: cannot be written: {error.strerror}") from error
    _print_tables(run_, estimates, contrasts, out)


def pull(name: str, out: Console) -> None:
    """Fetch a model's weights and say what they are."""
    options = model_option(name)
    found = options if options is not None else {name.rpartition("/")[2]: ModelSpec(path=name)}
    for key, spec in found.items():
        for checkpoint in pull_model(key, spec):
            out.print(
                f"{key}: {checkpoint.origin}, {checkpoint.model_type}, {checkpoint.num_layers} "
                f"layers of {checkpoint.num_neurons} neurons, {checkpoint.fingerprint}",
                soft_wrap=True,
                markup=False,
            )
