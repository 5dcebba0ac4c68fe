"""Commit markers: the small files that make an attempt's data count."""

from datetime import datetime
from typing import NoReturn, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from sweeper.errors import UserError
from sweeper.records import SCHEMA_VERSION, CellStatus
from sweeper.store.filesystem import Files


class VanishedError(UserError):
    """A marker that was listed is gone: somebody deletes what a pack has taken over, or by hand."""


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


class Pack(BaseModel):
    """One commit that gives many attempts, all as they are, one file per table in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    pack: str
    schema_version: int
    committed_at: AwareDatetime
    attempts: tuple[Marker, ...]
    """In the order in which their rows stand in every file."""
    files: dict[str, int]
    """Table -> rows of all attempts."""

    def starts(self, table: str) -> dict[str, int]:
        """Attempt -> place of its first row in a table's file."""
        found, place = {}, 0
        for marker in self.attempts:
            found[marker.attempt] = place
            place += marker.files.get(table, 0)
        return found


def read_marker(files: Files, attempt: str) -> Marker:
    """Read the commit marker of an attempt.

    Raises:
        VanishedError: there is no such file.
        UserError: the file is no commit marker of this attempt and schema version.
    """
    path = files.layout.marker(attempt)
    marker = _read(files, path, Marker)
    if marker.attempt != attempt:
        _refuse(files, path, f"it is about attempt {marker.attempt!r}")
    return marker


def read_pack(files: Files, name: str) -> Pack:
    """Read the commit marker of a pack.

    Raises:
        VanishedError: there is no such file.
        UserError: the file is no commit marker of this pack and schema version.
    """
    path = files.layout.pack(name)
    pack = _read(files, path, Pack)
    if pack.pack != name:
        _refuse(files, path, f"it is about pack {pack.pack!r}")
    rows: dict[str, int] = {}
    for marker in pack.attempts:
        for table, number in marker.files.items():
            rows[table] = rows.get(table, 0) + number
    if rows != pack.files:
        _refuse(files, path, f"its attempts have the rows {rows}, its files {pack.files}")
    return pack


Commit = TypeVar("Commit", Marker, Pack)


def _read(files: Files, path: str, kind: type[Commit]) -> Commit:
    content = files.read(path)
    if content is None:
        raise VanishedError(
            f"store: {files.layout.full(path)} vanished while the store was read; "
            "whatever deletes commit markers must be stopped"
        )
    try:
        commit = kind.model_validate_json(content.to_pybytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        _refuse(files, path, f"{place}: {first['msg']}" if place else first["msg"])
    if commit.schema_version != SCHEMA_VERSION:
        _refuse(
            files,
            path,
            f"schema version {commit.schema_version}, this program writes {SCHEMA_VERSION}",
        )
    return commit


def _refuse(files: Files, path: str, reason: str) -> NoReturn:
    raise UserError(
        f"store: {files.layout.full(path)} is no valid commit marker ({reason}); "
        "delete it to do without that commit"
    )
