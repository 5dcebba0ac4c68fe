"""Where the tasks of lm-evaluation-harness get their documents: the hub, or files of the job."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from lm_eval.tasks._factory import TaskFactory
from lm_eval.tasks._index import Entry, Kind
from pyarrow import csv, json, parquet

from sweeper.errors import UserError
from sweeper.score import hub, tables
from sweeper.spec.task import LmEvalSpec

_SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")

Plain = dict[str, Any]


class Sources(TaskFactory):  # type: ignore[misc]
    """Makes tasks of the harness with the job's files in place of their datasets.

    Without files in the job the hub is asked first, so that nobody waits for its retries.
    """

    def __init__(self, spec: LmEvalSpec, key: str) -> None:
        super().__init__()
        self._spec = spec
        self._key = key

    def _load_full_config(self, entry: Entry, overrides: Plain | None = None) -> Plain:
        config: Plain = super()._load_full_config(entry, overrides)
        if entry.kind is Kind.GROUP:
            return config
        if self._spec.data_files:
            return self._with_files(entry.name, config)
        self._require_dataset(entry.name, config)
        return config

    def _require_dataset(self, task: str, config: Plain) -> None:
        path = config.get("dataset_path")
        on_hub = isinstance(path, str) and "/" in path and not Path(path).exists()
        if not on_hub or callable(config.get("custom_dataset")):
            return
        try:
            hub.require_reachable(str(path), "main", self._key)
        except UserError as error:
            cause = f"{type(error.__cause__).__name__}" if error.__cause__ else "no answer"
            raise UserError(
                f"{self._key}.task: the dataset {path!r} of {task!r} cannot be had from the hub "
                f"({cause}); for a local copy give data_files: {{SPLIT: FILE}}, for a copy in the "
                "cache set the environment variable HF_HUB_OFFLINE=1"
            ) from error

    def _with_files(self, task: str, config: Plain) -> Plain:
        if "class" in config:
            raise UserError(
                f"{self._key}.data_files: task {task!r} is written in Python and reads its data "
                "itself; files cannot be given to it"
            )
        files = self._spec.data_files
        self._require_splits(task, config)
        known = {split: config.get(split) for split in _SPLITS}
        unread = {split: None for split, name in known.items() if name not in files}
        fewshot = dict(config.get("fewshot_config") or {})
        if fewshot.get("split") not in files:
            fewshot.pop("split", None)
        column = self._spec.data_column
        source = Files(files, column, config.get("dataset_name") if column else None, self._key)
        changes = {"custom_dataset": source, "dataset_kwargs": None, "fewshot_config": fewshot}
        return {**config, **unread, **changes}

    def _require_splits(self, task: str, config: Plain) -> None:
        """Without its own split a task would be evaluated on another one, without a word."""
        files = self._spec.data_files
        evaluated = config.get("test_split") or config.get("validation_split")
        needed = {"is evaluated on": evaluated}
        default = config.get("num_fewshot")
        shots = (
            default if default == 0 or self._spec.num_fewshot is None else self._spec.num_fewshot
        )
        fewshot = config.get("fewshot_config") or {}
        if shots and not fewshot.get("samples"):
            named = fewshot.get("split") or config.get("fewshot_split")
            needed["takes its examples from"] = named or config.get("training_split") or evaluated
        for role, split in needed.items():
            if split not in files:
                raise UserError(
                    f"{self._key}.data_files: task {task!r} {role} split {split!r}; "
                    f"given: {', '.join(files)}"
                )


class Files:
    """The splits of a dataset from local files, as the harness asks for a ``custom_dataset``."""

    def __init__(
        self, files: Mapping[str, str], column: str | None, value: str | None, key: str
    ) -> None:
        """Say what to read.

        Args:
            files: split -> path.
            column: column that chooses the rows; None for all rows.
            value: what chosen rows hold in it.
            key: the job's key of the task, for messages.
        """
        self._files = files
        self._column = column
        self._value = value
        self._key = key

    def __call__(self, **_metadata: Any) -> Mapping[str, Any]:
        """Read all splits.

        Raises:
            UserError: a file cannot be read, lacks the column, or holds no such rows.
        """
        splits: Mapping[str, Any] = datasets.DatasetDict(
            {split: self._read(split) for split in self._files}
        )
        return splits

    def _read(self, split: str) -> Any:
        key = f"{self._key}.data_files.{split}"
        file = tables.existing_file(self._files[split], tables.EXTENSIONS, key)
        if self._column is not None:
            names = tables.column_names(file, key)
            tables.require_column(self._column, names, f"{self._key}.data_column", str(file))
        rows = tables.parsed(self._table, file, key)
        if rows.num_rows == 0:
            chosen = f" with {self._column} = {self._value!r}" if self._column else ""
            raise UserError(f"{key}: {str(file)!r} holds no rows{chosen}")
        return datasets.Dataset(rows)

    def _table(self, file: Path) -> pa.Table:
        kind = file.suffix.lower()
        if kind == ".parquet":
            wanted = pc.field(self._column) == self._value if self._column else None
            return parquet.read_table(file, filters=wanted)
        rows = json.read_json(file) if kind == ".jsonl" else csv.read_csv(file)
        return rows.filter(pc.field(self._column) == self._value) if self._column else rows
