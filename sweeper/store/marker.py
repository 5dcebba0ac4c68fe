"""Commit markers: the small files that make an attempt's data count."""

from datetime import datetime
from typing import NoReturn

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from sweeper.errors import UserError
from sweeper.records import SCHEMA_VERSION, CellStatus
from sweeper.store.filesystem import Files


class Marker(BaseModel):
    """One commit: which cells an attempt finished or failed and which files hold their rows."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    attempt: str
    unit: str
    run: str
    """The run that computed the cells; other runs may use them too."""
    schema_version: int
    committed_at: AwareDatetime
    cells: dict[str, CellStatus]
    """Cell key -> status."""
    files: dict[str, int]
    """Table -> rows that the attempt wrote; tables without rows have no file."""

    def rank(self, key: str) -> tuple[bool, datetime, str]:
        """Order of the attempts at a cell, the winner is the least.

        Done beats failed, then the earlier commit wins. The name makes the order total, so all
        readers pick the same attempt whatever order they see the markers in.
        """
        return (self.cells[key] != "done", self.committed_at, self.attempt)


def read_marker(files: Files, attempt: str) -> Marker:
    """Read the commit marker of an attempt.

    Raises:
        UserError: the file is no commit marker of this attempt and schema version.
    """
    path = files.layout.marker(attempt)
    content = files.read(path)
    if content is None:
        _refuse(files, path, "it vanished while the store was read")
    try:
        marker = Marker.model_validate_json(content.to_pybytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        _refuse(files, path, f"{place}: {first['msg']}" if place else first["msg"])
    if marker.attempt != attempt:
        _refuse(files, path, f"it is about attempt {marker.attempt!r}")
    if marker.schema_version != SCHEMA_VERSION:
        _refuse(
            files,
            path,
            f"schema version {marker.schema_version}, this program writes {SCHEMA_VERSION}",
        )
    return marker


def _refuse(files: Files, path: str, reason: str) -> NoReturn:
    raise UserError(
        f"store: {files.layout.full(path)} is no valid commit marker ({reason}); "
        "delete it to do without that commit"
    )
