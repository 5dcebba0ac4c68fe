"""Writing a local file so that readers see all of the old or all of the new content."""

import os
import secrets
from contextlib import suppress
from pathlib import Path


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write or replace a local file, and make the folders above it.

    Written aside in the same folder, then renamed: a rename is atomic within one filesystem. The
    content survives a power cut once this returns. A process that is killed here leaves at most a
    hidden ``.tmp`` file.

    Raises:
        OSError: the file cannot be written.
    """
    _ensure_folder(path.parent)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with aside.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, path)
    except BaseException:
        with suppress(FileNotFoundError):
            aside.unlink()
        raise
    _sync_folder(path.parent)


def _ensure_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _ensure_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make a new name in the folder durable, not only the content behind it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
