"""GGUF files, converted once into the cache."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import sweeper
from sweeper.errors import UserError
from sweeper.models.cache import build_once, cache_folder
from sweeper.models.fingerprint import file_sha256

CONVERTER = 1
"""Raised with every change of the conversion that can change a number."""


def converted(source: Path) -> Path:
    """Folder in Hugging Face format made from a GGUF file; made now if it is not in the cache.

    Raises:
        UserError: no such file, or it cannot be converted.
    """
    if not source.is_file():
        raise UserError(f"path: there is no file {str(source)!r}")
    with source.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise UserError(f"path: {str(source)!r} is no GGUF file")
    folder = _home() / f"{file_sha256(source)}-v{CONVERTER}"
    return build_once(folder, lambda aside: _convert(source, aside))


def converted_fingerprint(folder: Path) -> str:
    """``sha256:<hash>`` of the GGUF file behind a converted folder, and the converter's version."""
    return f"sha256:{hashlib.sha256(folder.name.encode()).hexdigest()}"


def is_converted(folder: Path) -> bool:
    """Whether the folder was made by :func:`converted`, so that its name tells its content."""
    return folder.parent == _home()


def _home() -> Path:
    return cache_folder() / "gguf"


def _convert(source: Path, aside: Path) -> None:
    package = str(Path(sweeper.__file__).resolve().parents[1])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "sweeper.models.gguf", str(source), str(aside)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"path: the GGUF file {str(source)!r} cannot be converted: {lines[-1]}")
