"""Writing a local file or folder so that readers never see half of its content."""

import os
import secrets
import shutil
from collections.abc import Callable
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
    _sync(path.parent)


def write_folder_atomically(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder of files, or replace it, and make the folders above it.

    ``fill`` writes into a hidden folder beside it, which gets the name when all is on disk; of a
    replacement, there is an instant at which the name stands for nothing. A process that is killed
    here leaves at most hidden ``.tmp`` folders.

    Raises:
        OSError: something cannot be written.
    """
    _ensure_folder(folder.parent)
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.tmp")
    before = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.tmp")
    try:
        aside.mkdir()
        fill(aside)
        for path in (*aside.iterdir(), aside):
            _sync(path)
        if folder.exists():
            os.replace(folder, before)
        os.replace(aside, folder)
    finally:
        for left in (aside, before):
            shutil.rmtree(left, ignore_errors=True)
    _sync(folder.parent)


def _ensure_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _ensure_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    """Make a file's content durable, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
