"""The command line: thin commands over the Python interface."""

import logging
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from sweeper.errors import UserError

if TYPE_CHECKING:
    from sweeper.spec.job import JobSpec

app = typer.Typer(
    help="Ablation sweeps over language models: clamp neurons, measure, get effects with "
    "confidence intervals.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
models_app = typer.Typer(help="Models and their weights.", no_args_is_help=True)
app.add_typer(models_app, name="models")

INTERRUPTED = 130
"""Exit code after Ctrl-C or SIGTERM."""

WIDTH = 100
"""Columns that the tables need; where output goes to a file, as many are taken."""


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    return console


out = _console()
err = _console(stderr=True)

Job = Annotated[Path, typer.Argument(help="Job file, such as jobs/quickstart.yaml.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="key=value or group=option, such as seeds=10 model=gpt2.", metavar="[KEY=VALUE]..."
    ),
]
RunName = Annotated[str, typer.Argument(help="Name of a run; `sweeper ls` lists them.")]
StoreOption = Annotated[str, typer.Option("--store", help="Folder or address of the store.")]
Head = Annotated[
    str, typer.Option("--address", help="Dashboard of a cluster's head: http://HOST:8265.")
]


@app.command()
def plan(
    job: Job,
    overrides: Overrides = None,
    calibrate: Annotated[
        bool | None,
        typer.Option(
            "--calibrate/--no-calibrate",
            help="Measure the models' speed first; by default only models never measured here.",
        ),
    ] = None,
) -> None:
    """Show cells, units, what is done already, expected time and detectable effects."""
    from sweeper import commands

    commands.plan(_load(job, overrides), calibrate, out, err)


@app.command()
def run(
    job: Job,
    overrides: Overrides = None,
    address: Annotated[
        str | None,
        typer.Option(help="Cluster to join: auto or HOST:PORT; short for cluster.address=..."),
    ] = None,
) -> None:
    """Run a job, or what is left of it; then show its effects and write its report."""
    from sweeper import commands

    joined = [] if address is None else [f"cluster.address='{address}'"]
    spec = _load(job, [*(overrides or []), *joined])
    if address is not None and spec.cluster.executor != "ray":
        raise UserError(
            f"--address {address!r}: given, but cluster.executor is {spec.cluster.executor}, which "
            "joins no cluster"
        )
    complete = commands.run(spec, out, err)
    raise typer.Exit(0 if complete else 1)


@app.command()
def submit(
    job: Job,
    address: Head,
    overrides: Overrides = None,
    again: Annotated[
        bool, typer.Option("--again", help="Start it even where it has succeeded already.")
    ] = False,
) -> None:
    """Start a job on a cluster from afar; a second call joins it instead of starting another."""
    from sweeper.service import commands as cluster

    cluster.submit(_load(job, overrides), address, again, out)


@app.command()
def logs(
    name: RunName,
    address: Head,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends.")] = False,
) -> None:
    """Print what a submitted run has printed; with -f the exit code is 1 unless it succeeds."""
    from sweeper.service import commands as cluster

    raise typer.Exit(0 if cluster.logs(name, address, follow, out, err) else 1)


@app.command()
def stop(name: RunName, address: Head) -> None:
    """Stop a submitted run; what it has finished stays in its store."""
    from sweeper.service import commands as cluster

    cluster.stop(name, address, out)


@app.command()
def train(job: Job, overrides: Overrides = None) -> None:
    """Train a small model with checkpoints along the way, or go on where it was stopped."""
    from sweeper import commands
    from sweeper.spec import load_training

    commands.train(load_training(job, overrides or []), out, err)


@app.command()
def status(
    name: RunName,
    store: StoreOption = "results",
    address: Annotated[
        str | None,
        typer.Option("--address", help="Ask the head of a cluster, http://HOST:8265, instead."),
    ] = None,
) -> None:
    """Show how far a run is, and its failures; with --address whether a cluster runs it."""
    if address is not None:
        from sweeper.service import commands as cluster

        cluster.status(name, address, out)
        return
    from sweeper import commands

    commands.status(name, store, out)


@app.command("ls")
def list_runs(store: StoreOption = "results") -> None:
    """List the runs of a store."""
    from sweeper import commands

    commands.list_runs(store, out)


@app.command()
def aggregate(
    name: RunName,
    store: StoreOption = "results",
    csv: Annotated[Path | None, typer.Option(help="Also write all estimates to this file.")] = None,
) -> None:
    """Show a run's effects with their intervals."""
    from sweeper import commands

    commands.aggregate(name, store, csv, out)


@app.command()
def report(
    name: RunName,
    store: StoreOption = "results",
    output: Annotated[Path | None, typer.Option(help="Folder; the run's own by default.")] = None,
) -> None:
    """Write a run's tables, figures and HTML page."""
    from sweeper.api import open_run

    found = open_run(name, store)
    page = found.keep_report() if output is None else str(found.write_report(output))
    out.print(page, soft_wrap=True, markup=False)


@app.command("import")
def import_results(
    results: Annotated[
        list[Path],
        typer.Argument(help="Result files, logs of documents, tables, or folders of these."),
    ],
    name: Annotated[str, typer.Option("--name", help="Of the run that names the results.")],
    store: StoreOption = "results",
    model_pattern: Annotated[
        str | None,
        typer.Option(help="Regular expression with (?P<model>...), (?P<revision>...), (?P<step>)."),
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="NAME=PATTERN: tasks that are parts of one.")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="COLUMN=PATTERN: which rows or results are wanted.")
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option(help="Column of a table that tells models apart.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on without files that cannot be used.")
    ] = False,
) -> None:
    """Import results of lm-evaluation-harness as a run with intervals over checkpoints."""
    from sweeper import import_commands
    from sweeper.ingest import Request

    request = Request(
        paths=tuple(results),
        store=store,
        name=name,
        model_pattern=model_pattern,
        groups=tuple(group or ()),
        where=tuple(where or ()),
        by=tuple(by or ()),
        skip_bad=skip_bad,
    )
    raise typer.Exit(0 if import_commands.import_results(request, out, err) else 1)


@app.command()
def compact(
    store: StoreOption = "results",
    grace: Annotated[
        float,
        typer.Option(
            min=0, help="Minutes after which the small files that a pack has replaced are deleted."
        ),
    ] = 60.0,
) -> None:
    """Merge a store's many small files into few large ones, while it is in use."""
    from sweeper.store import compact as compact_store

    found = compact_store(
        store,
        grace=timedelta(minutes=grace),
        tell=lambda done, total: err.print(f"{done} of {total} attempts packed"),
    )
    out.print(f"{found.attempts} attempts in {found.packs} new packs")
    out.print(f"own files deleted of {found.deleted} attempts and packs; of {found.kept} later")


@models_app.command("pull")
def pull(
    name: Annotated[str, typer.Argument(help="Option of conf/model, hub repository, or path.")],
) -> None:
    """Fetch a model's weights into the cache."""
    from sweeper import commands

    commands.pull(name, out)


@app.command()
def doctor(store: StoreOption = "results") -> None:
    """Check what this machine has and lacks for a sweep."""
    from sweeper.doctor import check_machine

    raise typer.Exit(0 if check_machine(store, out) else 1)


@app.command(
    "lm-eval",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def lm_eval(context: typer.Context) -> None:
    """Run lm-evaluation-harness, which then has the model "sweeper"; takes its arguments."""
    from sweeper.score.harness.__main__ import run as run_harness

    run_harness(context.args)


def _load(job: Path, overrides: list[str] | None) -> "JobSpec":
    from sweeper.spec import load_job

    return load_job(job, overrides or [])


def main() -> None:
    """Entry point: errors of the user are one line and exit code 2, Ctrl-C is 130."""
    handler = RichHandler(console=err, show_path=False, show_time=False, markup=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    try:
        app()
    except UserError as error:
        err.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    except SystemExit as stop:
        # Typer turns Ctrl-C into this code without a word.
        if stop.code == INTERRUPTED:
            err.print("stopped; what was finished is kept, the same command goes on from there")
        raise


if __name__ == "__main__":
    main()
