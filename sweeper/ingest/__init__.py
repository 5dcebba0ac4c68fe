"""Import of results that lm-evaluation-harness has written, into a store and a run of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeper.errors import UserError
from sweeper.ingest.groups import all_groups, read_groups
from sweeper.ingest.naming import read_pattern
from sweeper.ingest.reading import read_all
from sweeper.ingest.record import ImportRecord, read_record
from sweeper.ingest.table import Choice
from sweeper.ingest.writing import Counts, own_record, write_cells, write_run
from sweeper.layout import check_name
from sweeper.store import RunFolder, Store

__all__ = ["ImportRecord", "Imported", "Request", "import_results", "read_record"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be imported, and where to."""

    paths: tuple[Path, ...]
    """Result files of the harness, its logs of documents, tables, or folders of these."""
    store: str
    """Folder or address of the store; made where there is none."""
    name: str
    """Of the run; one that was imported before gets the new results too."""
    model_pattern: str | None = None
    """Regular expression with the named groups model, revision or step: looked for in a harness
    file's path and then in its model's name, in a table's model and then in its path."""
    groups: tuple[str, ...] = ()
    """``NAME=PATTERN``: tasks that are parts of one."""
    where: tuple[str, ...] = ()
    """``COLUMN=PATTERN``: which rows or results are wanted."""
    by: tuple[str, ...] = ()
    """Columns of tables that tell models apart."""
    skip_bad: bool = False
    """Go on without the files that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import has found and done."""

    files: int
    """Files that hold results."""
    counts: Counts
    new: int
    """Cells that the store did not hold yet."""
    groups: dict[str, int]
    """Group of tasks -> number of its tasks."""
    passed_over: tuple[str, ...]
    """Files of folders that hold no results."""
    problems: tuple[str, ...]
    """One line for each file that could not be used; only with ``skip_bad``."""


def import_results(request: Request) -> Imported:
    """Import results into a store, and write a run that names them.

    All files are read and checked before anything is written. What the store holds already is not
    written again.

    Raises:
        UserError: a file cannot be used (one line for each), or the request is wrong.
    """
    check_name("run", request.name)
    naming = read_pattern(request.model_pattern)
    choice = Choice(_conditions(request.where), request.by)
    asked = read_groups(request.groups)
    found = read_all(request.paths, naming, choice)
    if found.problems and not request.skip_bad:
        count = len(found.problems)
        raise UserError("\n".join([*found.problems, f"nothing was written: {count} bad file(s)"]))
    if not found.results:
        paths = ", ".join(map(str, request.paths))
        raise UserError(f"RESULTS: {paths} holds no results that are asked for")
    members = all_groups(found.results, found.groups, asked)
    store = Store(request.store, create=True)
    folder = RunFolder(store, request.name)
    folder.claim()
    try:
        own_record(folder)
        new = write_cells(store, found.results, request.name)
        counts = write_run(store, folder, found.results, members, found.sources)
    finally:
        folder.release()
    return Imported(
        files=len(found.sources),
        counts=counts,
        new=new,
        groups={group: len(parts) for group, parts in members.items()},
        passed_over=tuple(found.passed_over),
        problems=tuple(found.problems),
    )


def _conditions(texts: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in texts:
        column, equals, pattern = text.partition("=")
        if not (column and equals):
            raise UserError(f"--where: {text!r} is not COLUMN=PATTERN, such as suite=pythia-v0")
        found.setdefault(column, []).append(pattern)
    return found
