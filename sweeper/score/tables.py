"""Local files with text in columns: Parquet, JSONL and CSV."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sweeper.errors import UserError
from sweeper.spec.wording import hint, listed, one_line

T = TypeVar("T")
EXTENSIONS = (".parquet", ".jsonl", ".csv")


def existing_file(path: str, extensions: Sequence[str], key: str) -> Path:
    """The file at ``path``, known to exist, to be readable and to be of a known kind.

    Raises:
        UserError: it is not; the message begins with ``key``.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        folder = file.parent
        near = sorted(other.name for other in folder.iterdir()) if folder.is_dir() else []
        raise UserError(f"{key}: {path!r} is not a file{hint(file.name, near)}")
    if file.suffix.lower() not in extensions:
        raise UserError(
            f"{key}: {path!r} has the unknown extension {file.suffix!r}; {listed(extensions)}"
        )
    try:
        file.open("rb").close()
    except OSError as error:
        raise UserError(f"{key}: {path!r} cannot be read ({error.strerror})") from error
    return file


def require_column(column: str, columns: Sequence[str], key: str, source: str) -> None:
    """Check that a source has a column.

    Raises:
        UserError: it has not; the message names ``key`` and the nearest column.
    """
    if column not in columns:
        raise UserError(
            f"{key}: {source} has no column {column!r}; {listed(columns)}{hint(column, columns)}"
        )


def column_names(file: Path, key: str) -> list[str]:
    """Names of the columns, from the header alone (of JSONL: the keys of the first line).

    Raises:
        UserError: the file is not what its extension says.
    """
    headers: dict[str, Callable[[Path], list[str]]] = {
        ".parquet": lambda path: list(pq.read_schema(path).names),
        ".csv": lambda path: [str(name) for name in pd.read_csv(path, nrows=0).columns],
        ".jsonl": lambda path: list(next(_json_lines(path), {})),
    }
    return parsed(headers[file.suffix.lower()], file, key)


def read_columns(file: Path, columns: Sequence[str], key: str) -> pd.DataFrame:
    """Read some columns, in file order.

    A CSV's values stay text as they stand there ("NA" is a word); a JSONL line without the key
    gives a null.

    Raises:
        UserError: the file is not what its extension says.
    """
    names = list(dict.fromkeys(columns))
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".parquet": lambda path: pd.read_parquet(path, columns=names),
        ".csv": lambda path: pd.read_csv(path, usecols=names, dtype=str, keep_default_na=False),
        ".jsonl": lambda path: _json_table(path, names),
    }
    return parsed(readers[file.suffix.lower()], file, key)


def _json_table(file: Path, names: Sequence[str]) -> pd.DataFrame:
    rows = [[row.get(name) for name in names] for row in _json_lines(file)]
    return pd.DataFrame(rows, columns=list(names), dtype=object)


def _json_lines(file: Path) -> Iterator[dict[str, Any]]:
    # Only \n ends a line of JSONL; text may hold other line separators.
    with file.open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is not an object")
            yield row


def parsed(parse: Callable[[Path], T], file: Path, key: str) -> T:
    """What ``parse`` makes of a file.

    Raises:
        UserError: the file is not what its extension says.
    """
    try:
        return parse(file)
    except (ValueError, pa.ArrowException) as error:
        raise UserError(
            f"{key}: {str(file)!r} is not valid {file.suffix[1:]} ({one_line(str(error))})"
        ) from error
