"""The folder for what is made once and used often: converted weights, hashes, wheels."""

import os
import shutil
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def cache_folder() -> Path:
    """``$SWEEPER_CACHE``, or the platform's place for caches."""
    chosen = os.environ.get("SWEEPER_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else _platform_folder() / "sweeper"


def _platform_folder() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Make ``folder`` unless it is there, safe against kills and other processes.

    ``build`` fills a folder beside it that gets the final name only when complete, so whatever
    bears the final name is whole. One process builds at a time; the others wait for it.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f"{folder.name}.lock"):
        if not folder.is_dir():
            _build(folder, build)
    return folder


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    for left in folder.parent.glob(f"{folder.name}.partial-*"):
        shutil.rmtree(left)  # its maker held the lock that we hold now, so it is dead
    aside = folder.parent / f"{folder.name}.partial-{uuid.uuid4().hex[:8]}"
    aside.mkdir()
    try:
        build(aside)
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
