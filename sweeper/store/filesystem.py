"""One layer over local folders and object stores, with atomic writes."""

import difflib
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from sweeper.atomic import write_atomically
from sweeper.errors import StoreError, UserError, first_line
from sweeper.layout import Layout
from sweeper.store.object_stores import SCHEMES, asked_again, open_object_store

_SCHEMES = ("file", *SCHEMES)


def open_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """Find the filesystem and the root path of a store.

    Takes a plain path (relative, or with ``~``), ``file://``, ``s3://`` or ``gs://``, the last two
    with options (``object_stores.open_object_store``). Creates nothing. Credentials of object
    stores come from their usual environment.

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
    return open_object_store(uri)


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
    """The files of one store by their relative path (see ``Layout``), on disk or as objects.

    What the store relies on, and what holds on each kind of storage: a file appears whole or not
    at all (a rename; an object appears when its upload is completed), and what was written is seen
    by whoever lists or reads next (S3 and Google's store promise both for all requests since 2020).
    Nothing relies on locks, on conditional writes, which not every S3 server has, or on renames
    between names that readers see. Of two writers of one name the last one wins: attempts have
    names of their own, and only the files of a run are ever replaced, by the run's driver.
    """

    def __init__(self, uri: str) -> None:
        self.filesystem, self.root = open_filesystem(uri)
        self.is_local = isinstance(self.filesystem, pafs.LocalFileSystem)
        # A relative path would point elsewhere after a change of the working folder.
        self.uri = self.root if self.is_local else uri
        self.layout = Layout(self.root)
        self._inside: set[str] = set()

    def place(self, relative: str) -> str:
        """Path of a file that no symbolic link leads out of the store to.

        Somebody else's store must not make this process read or write elsewhere. The root itself
        may be a link.

        Raises:
            UserError: it is such a file.
        """
        path = self.layout.full(relative)
        folder = os.path.dirname(path)
        if self.is_local and (folder not in self._inside or os.path.islink(path)):
            root = os.path.realpath(self.root)
            if os.path.commonpath([os.path.realpath(path), root]) != root:
                raise UserError(f"store: {path} is a symbolic link that leads out of the store")
            self._inside.add(folder)
        return path

    def address(self, relative: str) -> str:
        """A file's or a folder's address, for people."""
        path = self.layout.full(relative)
        return path if self.is_local else f"{self.uri.partition('://')[0]}://{path}"

    @asked_again
    def read(self, relative: str) -> pa.Buffer | None:
        """Content of a file; None if there is no such file.

        Raises:
            StoreError: the file cannot be read.
        """
        path = self.place(relative)
        try:
            with self.filesystem.open_input_file(path) as stream:
                return stream.read_buffer()
        except FileNotFoundError:
            return None
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"store: cannot read {path}: {first_line(error)}") from error

    def write(self, relative: str, content: bytes | pa.Buffer) -> None:
        """Write or replace a file so that readers see all of the old or all of the new content.

        On local disks the content survives a power cut once this returns. A process that is
        killed here leaves at most a hidden temporary file, which readers pass over, or an upload
        in parts that was never completed, which is no object.

        Raises:
            StoreError: the file cannot be written.
        """
        path = self.place(relative)
        try:
            if self.is_local:
                write_atomically(Path(path), memoryview(content))
            else:
                # An object appears when its stream is closed, so all content goes in one write. A
                # part that cannot be uploaded fails the closing, too.
                with self.filesystem.open_output_stream(path) as stream:
                    stream.write(content)
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"store: cannot write {path}: {first_line(error)}") from error

    def exists(self, relative: str) -> bool:
        """Whether there is such a file."""
        return bool(self._info(self.layout.full(relative)).type == pafs.FileType.File)

    def delete(self, relative: str) -> None:
        """Delete a file; none there is fine.

        Raises:
            StoreError: the file cannot be deleted.
        """
        path = self.place(relative)
        try:
            self.filesystem.delete_file(path)
        except FileNotFoundError:
            return
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"store: cannot delete {path}: {first_line(error)}") from error

    def names(self, folder: str) -> list[str]:
        """Sorted names of the files in a folder, without hidden ones; empty if there is none.

        Raises:
            StoreError: the folder cannot be listed.
        """
        selector = pafs.FileSelector(self.layout.full(folder), allow_not_found=True)
        found = [
            str(info.base_name) for info in self._info(selector) if info.type == pafs.FileType.File
        ]
        return sorted(name for name in found if not name.startswith("."))

    def tree(self, folder: str) -> list[str]:
        """Sorted paths of all files below a folder, relative to it, without hidden ones.

        One listing; empty if there is no such folder. Folders in a folder cannot be listed by
        themselves everywhere: in Google's store Arrow lists objects only.

        Raises:
            StoreError: the folder cannot be listed.
        """
        top = self.layout.full(folder)
        selector = pafs.FileSelector(top, allow_not_found=True, recursive=True)
        found = [
            str(info.path)[len(top) + 1 :]
            for info in self._info(selector)
            if info.type == pafs.FileType.File
        ]
        return sorted(path for path in found if not any(p[:1] == "." for p in path.split("/")))

    def sizes(self, folder: str) -> dict[str, int]:
        """Name -> bytes of the files in a folder; one listing, empty if there is no such folder.

        Raises:
            StoreError: the folder cannot be listed.
        """
        selector = pafs.FileSelector(self.layout.full(folder), allow_not_found=True)
        return {
            str(info.base_name): int(info.size)
            for info in self._info(selector)
            if info.type == pafs.FileType.File
        }

    def _info(self, where: pafs.FileSelector | str) -> Any:
        try:
            return self.filesystem.get_file_info(where)
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"store: cannot list {self.uri}: {first_line(error)}") from error
