"""From files and folders to results: everything is read and checked before anything is written."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from sweeper.errors import UserError
from sweeper.ingest import harness_file, table
from sweeper.ingest.harness_file import HarnessFile
from sweeper.ingest.naming import Naming
from sweeper.ingest.result import Result
from sweeper.ingest.samples import MEANS, SampleFile, read_samples
from sweeper.ingest.table import Choice

JSON, JSON_LINES = ".json", ".jsonl"
SUFFIXES = (JSON, JSON_LINES, *table.SUFFIXES)
_SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d{2}-\d{2}T[\d.-]+)")
_RESULTS = re.compile(r"results(_(?P<date>\d{4}-\d{2}-\d{2}T[\d.-]+))?|.+_(?P<other>\d{4}-.+)")
_TOLERANCE = 1e-9
"""Relative difference between the harness's mean and ours that is rounding."""


@dataclass(slots=True)
class Found:
    """What the given files hold."""

    results: list[Result] = field(default_factory=list)
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Group -> its tasks, by the harness's names."""
    sources: dict[str, str] = field(default_factory=dict)
    """File that holds results -> sha256 of its content."""
    passed_over: list[str] = field(default_factory=list)
    """Files of folders that hold no results."""
    problems: list[str] = field(default_factory=list)
    """One line for each file that cannot be used."""


def read_all(paths: Sequence[Path], naming: Naming, choice: Choice) -> Found:
    """Read files, and folders with all below them.

    Raises:
        UserError: a path does not exist, or a file is of an unknown kind.
    """
    found = Found()
    logs: list[tuple[Path, bool]] = []
    harness: dict[Path, HarnessFile] = {}
    for path, is_named in _files(paths):
        if path.suffix.lower() == JSON_LINES:
            logs.append((path, is_named))
            continue
        try:
            results = _aggregated(path, is_named, naming, choice, harness)
        except (ValueError, OverflowError) as error:
            found.problems.append(f"{path}: {error}")
            continue
        if results is None:
            found.passed_over.append(str(path))
            continue
        found.sources[path.as_posix()] = _sha256(path)
        found.results += results
    logged: dict[int, Result] = {}
    for path, is_named in logs:
        try:
            result = _logged(path, is_named, naming, harness, logged)
        except ValueError as error:
            found.problems.append(f"{path}: {error}")
            continue
        if result is None:
            found.passed_over.append(str(path))
        elif _is_chosen(result, choice):
            found.sources[path.as_posix()] = _sha256(path)
    replaced = {id(result) for result in found.results} & logged.keys()
    found.results = [one for one in found.results if id(one) not in replaced]
    found.results += [result for result in logged.values() if _is_chosen(result, choice)]
    for one in harness.values():
        found.groups.update(one.groups)
    return found


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """Every file once, with whether it was named itself rather than found in a folder."""
    seen: set[Path] = set()
    for given in paths:
        path = given.expanduser()
        if not path.exists():
            raise UserError(f"RESULTS: there is no file or folder {str(given)!r}")
        if path.is_file() and path.suffix.lower() not in SUFFIXES:
            raise UserError(
                f"RESULTS: {str(given)!r} is of an unknown kind; allowed are {', '.join(SUFFIXES)} "
                "and folders"
            )
        below = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in below:
            if file.suffix.lower() in SUFFIXES and file.is_file() and file.resolve() not in seen:
                seen.add(file.resolve())
                yield file, file is path


def _aggregated(
    path: Path,
    is_named: bool,
    naming: Naming,
    choice: Choice,
    harness: dict[Path, HarnessFile],
) -> list[Result] | None:
    """Results of a file; None where a file of a folder is about something else.

    Raises:
        ValueError: the file cannot be used.
    """
    if path.suffix.lower() in table.SUFFIXES:
        if not is_named and not table.has_columns(path):
            return None
        return table.read_results(path, naming, choice)
    content = harness_file.read_json(path)
    if not harness_file.is_results(content):
        if not is_named and not path.name.startswith("results"):
            return None
        raise ValueError("it holds no results of lm-evaluation-harness ('results' and 'config')")
    harness[path] = harness_file.read_results(content, path, naming)
    for result in harness[path].results:
        names = (*result.place, *(metric.name + metric.filter for metric in result.metrics))
        "".join(names).encode()  # a lone surrogate would fail in the store
    return [result for result in harness[path].results if _is_chosen(result, choice)]


def _is_chosen(result: Result, choice: Choice) -> bool:
    """Whether a harness file's result is wanted, by what it knows of itself.

    Raises:
        ValueError: a column is asked for that harness files do not have.
    """
    known = {
        "model": result.origin.model,
        "revision": result.origin.revision,
        "step": str(result.origin.step),
        "task": result.task,
        "num_fewshot": str(result.num_fewshot),
    }
    for column in (*choice.where, *choice.by):
        if column not in known:
            raise ValueError(
                f"a harness file has no column {column!r} (--where, --by); there are "
                f"{', '.join(known)}"
            )
    return all(
        any(fnmatchcase(known[column], pattern) for pattern in patterns)
        for column, patterns in choice.where.items()
    )


def _logged(
    path: Path,
    is_named: bool,
    naming: Naming,
    harness: dict[Path, HarnessFile],
    logged: dict[int, Result],
) -> Result | None:
    """Put a log of single documents to the result that it belongs to; None where it is no log.

    Raises:
        ValueError: the file cannot be used.
    """
    task, owner = _owner(path, naming, harness)
    if task is None:
        if is_named:
            raise ValueError("its name is not samples_TASK_DATE.jsonl")
        return None
    if id(owner) in logged and owner is not None:
        raise ValueError(f"{owner.source} has another log of {task} already")
    result = _with_samples(owner, read_samples(path, task), path, naming)
    logged[id(result if owner is None else owner)] = result
    return result


def _owner(
    path: Path, naming: Naming, harness: dict[Path, HarnessFile]
) -> tuple[str | None, Result | None]:
    """Task of a log, and the aggregated result beside it; None for files that are no logs."""
    beside = {file: one for file, one in harness.items() if file.parent == path.parent}
    named = _SAMPLES.fullmatch(path.stem)
    if named:
        if not beside:
            beside = _read_beside(path, naming)
            harness.update(beside)
        dated = [one for file, one in beside.items() if _date_of(file) == named["date"]]
        files = dated or (list(beside.values()) if len(beside) == 1 else [])
        return named["task"], _of_task(files, named["task"])
    # Version 0.4.0 called them MODEL_TASK.jsonl beside one results.json.
    results = [result for one in beside.values() for result in one.results]
    fitting = [result for result in results if path.stem.endswith(f"_{result.task}")]
    if len(beside) != 1 or not fitting:
        return None, None
    longest = max(fitting, key=lambda result: len(result.task))
    return longest.task, longest


def _read_beside(path: Path, naming: Naming) -> dict[Path, HarnessFile]:
    """Aggregated files in a log's folder that were not given themselves."""
    found = {}
    for file in sorted(path.parent.glob(f"*{JSON}")):
        content = harness_file.read_json(file)
        if harness_file.is_results(content):
            found[file] = harness_file.read_results(content, file, naming)
    return found


def _date_of(path: Path) -> str | None:
    named = _RESULTS.fullmatch(path.stem)
    return (named["date"] or named["other"]) if named else None


def _of_task(files: Iterable[HarnessFile], task: str) -> Result | None:
    return next((one for file in files for one in file.results if one.task == task), None)


def _with_samples(owner: Result | None, samples: SampleFile, path: Path, naming: Naming) -> Result:
    """The result with its documents, which must be as many as it counts, with the same means.

    Raises:
        ValueError: they are not, or nothing tells whose documents they are.
    """
    if owner is None:
        return Result(
            origin=naming.of_path(path.as_posix()),
            task=samples.task,
            num_fewshot=0,
            metrics=(),
            num_items=samples.num_items,
            source=path.as_posix(),
            date=path.stat().st_mtime,
            samples=samples,
        )
    if owner.num_items not in (None, samples.num_items):
        raise ValueError(
            f"it holds {samples.num_items} documents, {owner.source} counts {owner.num_items}"
        )
    for metric in owner.metrics:
        mean = samples.means.get(f"{metric.name},{metric.filter}")
        is_mean = metric.name in MEANS
        if is_mean and mean is not None and not is_close(mean, metric.value):
            raise ValueError(
                f"the mean of its {metric.name} is {mean!r}, {owner.source} says {metric.value!r}"
            )
    return replace(owner, num_items=samples.num_items, samples=samples)


def is_close(mean: float, value: float) -> bool:
    """Whether the harness's value is the mean over documents, but for rounding."""
    return abs(mean - value) <= _TOLERANCE * max(1.0, abs(value))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
