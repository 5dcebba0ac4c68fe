"""One layer over local folders and object stores, with atomic writes."""

import difflib
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from sweeper.atomic import write_atomically
from sweeper.errors import UserError
from sweeper.layout import Layout

_SCHEMES = ("file", "s3", "gs")


def open_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """Find the filesystem and the root path of a store.

    Takes a plain path (relative, or with ``~``), ``file://``, ``s3://`` or ``gs://``. Creates
    nothing. Credentials of object stores come from their usual environment.

    Raises:
        UserError: unknown scheme, unusable address, or a file where the folder should be.
    """
    scheme, separator, _ = uri.partition("://")
    if not separator:
        return pafs.LocalFileSystem(), _local_root(uri, uri)
    if scheme not in _SCHEMES:
        near = difflib.get_close_matches(scheme, _SCHEMES, n=1)
        hint = f"; did you mean {near[0]}://?" if near else ""
        raise UserError(
            f"store: {uri!r} has the scheme {scheme!r}; allowed are a plain path, file://, "
            f"s3:// and gs://{hint}"
        )
    if scheme == "file":
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost"):
            raise UserError(f"store: {uri!r} names a host; write file:///folder with 3 slashes")
        return pafs.LocalFileSystem(), _local_root(uri, unquote(parts.path))
    try:
        filesystem, root = pafs.FileSystem.from_uri(uri)
    except (OSError, ValueError) as error:
        raise UserError(f"store: cannot open {uri!r}: {one_line(error)}") from error
    return filesystem, str(root)


def one_line(error: BaseException) -> str:
    """First line of an error's text (Arrow and DuckDB add context below it)."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _local_root(uri: str, path: str) -> str:
    if not path or "\0" in path:
        raise UserError(f"store: {uri!r} is no path; allowed are a folder, s3:// and gs://")
    try:
        root = Path(os.path.abspath(Path(path).expanduser()))
    except RuntimeError as error:
        raise UserError(f"store: cannot find the home folder in {uri!r}") from error
    for folder in (root, *root.parents):
        if os.path.lexists(folder):
            if not folder.is_dir():
                raise UserError(f"store: {uri!r} cannot be used: {folder} is not a folder")
            break
    return root.as_posix()


class Files:
    """The files of one store by their relative path (see ``Layout``), on disk or as objects."""

    def __init__(self, uri: str) -> None:
        self.filesystem, self.root = open_filesystem(uri)
        self.is_local = isinstance(self.filesystem, pafs.LocalFileSystem)
        # A relative path would point elsewhere after a change of the working folder.
        self.uri = self.root if self.is_local else uri
        self.layout = Layout(self.root)

    def read(self, relative: str) -> pa.Buffer | None:
        """Content of a file; None if there is no such file.

        Raises:
            UserError: the file cannot be read.
        """
        path = self.layout.full(relative)
        try:
            with self.filesystem.open_input_file(path) as stream:
                return stream.read_buffer()
        except FileNotFoundError:
            return None
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"store: cannot read {path}: {one_line(error)}") from error

    def write(self, relative: str, content: bytes | pa.Buffer) -> None:
        """Write or replace a file so that readers see all of the old or all of the new content.

        On local disks the content survives a power cut once this returns. A process that is
        killed here leaves at most a hidden temporary file, which readers pass over.

        Raises:
            UserError: the file cannot be written.
        """
        path = self.layout.full(relative)
        try:
            if self.is_local:
                write_atomically(Path(path), memoryview(content))
            else:
                # An object appears when its stream is closed, so all content goes in one write.
                with self.filesystem.open_output_stream(path) as stream:
                    stream.write(content)
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"store: cannot write {path}: {one_line(error)}") from error

    def exists(self, relative: str) -> bool:
        """Whether there is such a file."""
        return bool(self._info(self.layout.full(relative)).type == pafs.FileType.File)

    def delete(self, relative: str) -> None:
        """Delete a file; none there is fine.

        Raises:
            UserError: the file cannot be deleted.
        """
        path = self.layout.full(relative)
        try:
            self.filesystem.delete_file(path)
        except FileNotFoundError:
            return
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"store: cannot delete {path}: {one_line(error)}") from error

    def names(self, folder: str) -> list[str]:
        """Sorted names in a folder, without hidden ones; empty if there is no such folder.

        Raises:
            UserError: the folder cannot be listed.
        """
        selector = pafs.FileSelector(self.layout.full(folder), allow_not_found=True)
        found = [str(info.base_name) for info in self._info(selector)]
        return sorted(name for name in found if not name.startswith("."))

    def _info(self, where: pafs.FileSelector | str) -> Any:
        try:
            return self.filesystem.get_file_info(where)
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"store: cannot list {self.uri}: {one_line(error)}") from error
