"""What a run of imported results keeps in place of a job."""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sweeper.errors import UserError
from sweeper.store import RunFolder


class ImportedCheckpoint(BaseModel):
    """A model at a revision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    revision: str
    step: int | None


class Statistics(BaseModel):
    """How levels are turned into intervals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    confidence: float = 0.95


class ImportRecord(BaseModel):
    """The run in a job's words as far as they go, and where it came from.

    ``model``, ``suite`` and ``condition`` are there for reports and people; a run cannot be
    repeated from them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    kind: Literal["import"] = "import"
    model: dict[str, dict[str, Any]]
    suite: dict[str, dict[str, Any]]
    condition: dict[str, dict[str, Any]] = {"baseline": {}}
    statistics: Statistics = Statistics()
    checkpoints: tuple[ImportedCheckpoint, ...]
    """In the order of models and steps."""
    groups: dict[str, tuple[str, ...]]
    """Group of tasks -> its parts by the run's names, with those that were not imported where the
    files name them."""
    sources: dict[str, str]
    """File that was imported -> sha256 of its content."""

    @property
    def steps(self) -> dict[tuple[str, str], int | None]:
        """(model, revision) -> training step."""
        return {(one.model, one.revision): one.step for one in self.checkpoints}


def read_record(folder: RunFolder) -> ImportRecord | None:
    """The record of a run of imported results; None for the run of a job.

    Raises:
        UserError: no such run, or its record is damaged.
    """
    text = folder.read_job()
    try:
        if json.loads(text).get("kind") != "import":
            return None
        return ImportRecord.model_validate_json(text)
    except (ValueError, AttributeError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UserError(
            f"run: the record of the import {folder.run!r} is damaged: {first}"
        ) from error
