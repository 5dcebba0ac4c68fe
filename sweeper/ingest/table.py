"""Tables of results, one row for each number: Parquet and CSV with columns that people use."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sweeper.errors import first_line
from sweeper.ingest.naming import Naming
from sweeper.ingest.result import Metric, Origin, Result
from sweeper.records import NO_FILTER

SUFFIXES = (".parquet", ".csv")
COLUMNS: dict[str, tuple[str, ...]] = {
    "model": ("model", "model_name"),
    "task": ("task", "task_name"),
    "metric": ("metric",),
    "value": ("value", "score"),
    "step": ("step", "training_step"),
    "revision": ("revision",),
    "stderr": ("stderr", "std_err", "se"),
    "num_items": ("n", "num_items", "n_samples"),
    "num_fewshot": ("num_fewshot", "n_shot", "n-shot"),
    "filter": ("filter",),
    "source": ("source_path", "source", "file"),
}
"""What a column means -> the names that it may have; the first four are needed."""
NEEDED = ("model", "task", "metric", "value")
_COUNTS = ("step", "num_items", "num_fewshot")
_NUMBERS = ("value", "stderr", *_COUNTS)
_CELL = ["model", "revision", "step", "task", "num_fewshot", "source"]
"""What rows of one cell agree in."""
_PLACE = ["model", "revision", "step", "task", "num_fewshot", "metric", "filter"]
"""What names one number of a run, whatever file it came from."""
_SHOWN = 4
"""Values that a message lists."""

Where = Mapping[str, Sequence[str]]
"""Column -> patterns of which one must fit."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rows of tables are wanted, and which columns tell models apart."""

    where: Where
    by: Sequence[str] = ()


def has_columns(path: Path) -> bool:
    """Whether a file has the columns that a table of results needs.

    Raises:
        ValueError: it cannot be read.
    """
    return not _missing(_header(path))


def read_results(path: Path, naming: Naming, choice: Choice) -> list[Result]:
    """All rows of a table that are wanted, as results: one for each model, checkpoint and task.

    Raises:
        ValueError: it cannot be read, lacks a column, a row lacks a name or its value, or two rows
            give one number differently and nothing says which counts.
    """
    header = _header(path)
    missing = _missing(header)
    if missing:
        names = " or ".join(COLUMNS[missing[0]])
        near = get_close_matches(missing[0], header, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"it has no column {names}; there are {', '.join(header)}{hint}")
    rows = _chosen(_read(path), choice)
    if rows.empty:
        return []
    known = _known(rows, choice.by)
    if known.duplicated(_PLACE).any():
        known = known[~rows.astype(str).duplicated()]
        _check_repeats(known, rows.loc[known.index], choice.by)
    return list(_results(known, path, naming))


def _header(path: Path) -> list[str]:
    try:
        if path.suffix.lower() == ".parquet":
            return [str(name) for name in pq.read_schema(path).names]
        return [str(name) for name in pd.read_csv(path, nrows=0).columns]
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ValueError(f"it is not valid {path.suffix[1:]} ({first_line(error)})") from error


def _read(path: Path) -> pd.DataFrame:
    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path)
        # "NA" may be the name of a task; numbers are converted where they are needed.
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ValueError(f"it is not valid {path.suffix[1:]} ({first_line(error)})") from error


def _missing(header: Sequence[str]) -> list[str]:
    return [name for name in NEEDED if not set(COLUMNS[name]) & set(header)]


def _chosen(rows: pd.DataFrame, choice: Choice) -> pd.DataFrame:
    for column in (*choice.where, *choice.by):
        if column not in rows.columns:
            raise ValueError(
                f"it has no column {column!r} (--where, --by); there are {', '.join(rows.columns)}"
            )
    keep = pd.Series(True, index=rows.index)
    for column, patterns in choice.where.items():
        texts = rows[column].astype(str)
        fitting = [
            text for text in texts.unique() if any(fnmatchcase(text, one) for one in patterns)
        ]
        keep &= texts.isin(fitting)
    return rows[keep]


def _known(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The columns by their meaning; what is absent has nothing but nulls."""
    known = pd.DataFrame(index=rows.index)
    for name, allowed in COLUMNS.items():
        column = next((one for one in allowed if one in rows.columns), None)
        if column is None:
            known[name] = math.nan if name in _NUMBERS else None
        elif name in _NUMBERS:
            known[name] = _numbers(rows[column], whole=name in _COUNTS)
        else:
            known[name] = rows[column].astype(object).where(rows[column].notna(), None)
    for name in ("model", "task", "metric", "value"):
        bad = known[name].isna() | (known[name] == "")
        if bad.any():
            raise ValueError(f"row {_row(bad)} has no {name}")
    for column in by:
        known["model"] = known["model"].astype(str) + " (" + rows[column].astype(str) + ")"
    split = known["metric"].astype(str).str.partition(",")
    known["metric"] = split[0]
    told = known["filter"].where(known["filter"].notna() & (known["filter"] != ""), NO_FILTER)
    known["filter"] = split[2].where(split[2] != "", told)
    known["revision"] = known["revision"].where(known["revision"] != "", None)
    known["num_fewshot"] = known["num_fewshot"].fillna(0).astype(int)
    return known


def _numbers(column: pd.Series, *, whole: bool) -> pd.Series:
    """A column as float64; empty text is null.

    Raises:
        ValueError: text that is no number, or a number that is not whole where it must be.
    """
    filled = column.where(column.astype(str) != "", None)
    numbers = pd.to_numeric(filled, errors="coerce").astype("float64")
    bad = numbers.isna() & filled.notna() & (filled.astype(str).str.lower() != "nan")
    if bad.any():
        text = str(column[bad].iloc[0])
        raise ValueError(f"row {_row(bad)}: {column.name} is {text!r}, not a number")
    broken = numbers.notna() & (~np.isfinite(numbers) | (numbers % 1 != 0))
    if whole and broken.any():
        text = str(column[broken].iloc[0])
        raise ValueError(f"row {_row(broken)}: {column.name} is {text}, not a whole number")
    return numbers


def _row(bad: pd.Series) -> int:
    """Number of the first bad row of the file, counted from 1 without the header."""
    return int(bad.index[bad.to_numpy(dtype=bool)][0]) + 1


def _check_repeats(known: pd.DataFrame, rows: pd.DataFrame, by: Sequence[str]) -> None:
    """Refuse two values of one number, unless whole evaluations were repeated.

    Those come from different files and agree in all other columns: the last one counts.
    """
    repeats = known[known.duplicated(_PLACE, keep=False)]
    used = {name for allowed in COLUMNS.values() for name in allowed} | set(by)
    numbers = repeats.groupby(_PLACE, sort=False, dropna=False).ngroup()
    differing = {
        column: _differs(rows.loc[repeats.index, column], numbers)
        for column in rows.columns
        if column not in used
    }
    places = numbers[pd.DataFrame(differing, index=repeats.index).any(axis=1)]
    if len(places):
        first = places.index[places == places.iloc[0]]
        columns = [name for name, mask in differing.items() if mask.loc[first].any()]
        raise ValueError(_ambiguous(repeats.loc[first[0]], rows.loc[first], columns))
    unclear = repeats[repeats.duplicated([*_PLACE, "source"], keep=False)]
    if len(unclear):
        one = unclear.iloc[0]
        alike = unclear.loc[numbers.loc[unclear.index] == numbers.loc[unclear.index[0]], "value"]
        raise ValueError(
            f"{_words(one)} has {len(alike)} values ({', '.join(map(str, alike.head(_SHOWN)))}), "
            "and no column tells which one counts"
        )


def _differs(column: pd.Series, numbers: pd.Series) -> pd.Series:
    """Where the rows of one number do not agree in a column."""
    codes = pd.Series(pd.factorize(column)[0], index=column.index).groupby(numbers)
    return codes.transform("max") != codes.transform("min")


def _words(place: pd.Series) -> str:
    step = "" if pd.isna(place["step"]) else f", step {place['step']:g}"
    return f"model {place['model']!r}{step}, task {place['task']!r}, metric {place['metric']!r}"


def _ambiguous(place: pd.Series, rows: pd.DataFrame, columns: list[str]) -> str:
    values = [str(value) for value in rows[columns[0]].unique()[:_SHOWN]]
    return (
        f"{_words(place)} has {len(rows)} values that differ in {', '.join(columns)}; choose with "
        f"--where {columns[0]}={values[0]} (there are {', '.join(values)}), or keep them apart "
        f"with --by {columns[0]}"
    )


def _results(known: pd.DataFrame, path: Path, naming: Naming) -> Iterator[Result]:
    date = path.stat().st_mtime
    origins: dict[tuple[Any, ...], Origin] = {}
    for place, rows in enumerate(_cells(known)):
        first = rows[0]
        model, revision, step, source = first.model, first.revision, first.step, first.source
        told = (str(model), revision, None if math.isnan(step) else int(step), source)
        if told not in origins:
            origins[told] = naming.of_words(str(source or path.as_posix()), *told[:3])
        sizes = {row.num_items for row in rows if row.num_items > 0}
        yield Result(
            origin=origins[told],
            task=str(first.task),
            num_fewshot=int(first.num_fewshot),
            metrics=tuple(_metric(row) for row in rows),
            num_items=int(sizes.pop()) if len(sizes) == 1 else None,
            source=path.as_posix(),
            # Rows further down are later ones.
            date=date + 1e-6 * place,
        )


def _cells(known: pd.DataFrame) -> Iterator[list[Any]]:
    """Rows that belong together, in the order of their first ones."""
    cells: dict[int, list[Any]] = {}
    numbers = known.groupby(_CELL, sort=False, dropna=False).ngroup()
    for number, row in zip(numbers, known.itertuples(index=False), strict=True):
        cells.setdefault(int(number), []).append(row)
    yield from cells.values()


def _metric(row: Any) -> Metric:
    return Metric(
        name=str(row.metric),
        filter=str(row.filter),
        value=float(row.value),
        stderr=None if math.isnan(row.stderr) else float(row.stderr),
    )
